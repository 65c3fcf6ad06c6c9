import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
import resource
import torch
from nvs_ros.computer.allocator import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        tensors = [torch.ones(2**19) for _ in range(8)]  # 2 MB each
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

ctypes.CDLL(None).mallopt(-1, 128 * 1024)  # glibc's threshold before it learns
page_faults()
given_back = page_faults()
assert keep_freed_memory()
page_faults()
print(given_back, page_faults())
"""

GIVING_BACK = """
import re
from pathlib import Path
from nvs_ros.computer.allocator import give_back_freed_memory, keep_freed_memory

def memory_mb():
    status = Path('/proc/self/status').read_text()
    return int(re.search(r'RssAnon:\\s*(\\d+)', status)[1]) // 1024

assert keep_freed_memory()
model = [bytearray(2**20) for _ in range(200)]
pinned = bytearray(1000)
del model
kept = memory_mb()
give_back_freed_memory()
print(kept, memory_mb())
"""
on_glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'mallopt'), reason='not glibc')


def output(program):
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@on_glibc
def test_freed_memory_is_used_again_without_page_faults():
    given_back, kept = output(PROGRAM)
    assert given_back > 20 * 512  # a page is 4 kB: a tensor or more was mapped anew each time
    assert kept < given_back / 20


@on_glibc
def test_what_is_kept_is_given_back_when_asked():
    kept_mb, left_mb = output(GIVING_BACK)
    assert kept_mb > 200
    assert left_mb < 100
