import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
import resource
import torch
from nvs_ros.allocator import keep_freed_memory

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


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'mallopt'), reason='not glibc')
def test_freed_memory_is_used_again_without_page_faults():
    done = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    given_back, kept = map(int, done.stdout.split())
    assert given_back > 20 * 512  # a page is 4 kB: a tensor or more was mapped anew each time
    assert kept < given_back / 20
