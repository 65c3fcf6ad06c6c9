"""A view on busy cores: how much longer it takes than on idle ones, and what being polite costs.

    .venv/bin/python benchmarks/load.py [--repeats 7] [--loops 2] [--cores 0,1]
                                        [--preset hourglass] [--tries 4]
                                        [--beside NAME=VALUE] [--json FILE]

Processes of the embedded model wait for their turn: one that does what processes of our own do
(``nvs_ros.computer.cores``), one that leaves everything to torch, and one for each ``--beside``,
which also has that variable of OpenMP. In turn they make a view alone and a view beside busy loops
on the same cores: whoever adapts to that has to do so meanwhile.

Whatever else works on these cores is measured too. A view during which other programs used more
than a twentieth of a core is made again, a few times at most; `foreign` says what was left of that,
in cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nvs_ros.computer.cores import busy_s, share_cores  # noqa: E402

OURS, TORCH = 'ours', "torch's own"
FOREIGN_CORES = 0.05
SETTLE_S = 0.5
"""For the loops to start, and for the system to move them to cores of their own."""


def serve(variant: str, preset: str) -> None:
    """Make a view for each line of the standard input; answer with its wall and processor time."""
    if variant == OURS:
        share_cores()
    from nvs_ros.computer.allocator import keep_freed_memory

    keep_freed_memory()
    import cv2
    import numpy as np
    import torch

    from nvs_ros.geometry import target_from_angles
    from nvs_ros.synthesizer import Synthesizer

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # loading is not what is measured, and takes minutes on busy cores
    synthesizer = Synthesizer.from_pretrained('embedded')
    size = synthesizer.components.image_size
    image, mask = np.full((size, size, 3), 90, np.uint8), np.zeros((size, size), np.uint8)
    cv2.circle(mask, (size // 2, size // 2), size // 4, 255, cv2.FILLED)
    source = synthesizer.photograph(image, mask)
    observation = synthesizer.observe(source)
    targets, settings = [target_from_angles(source, 1.0, 0.2)], synthesizer.preset(preset)
    torch.set_num_threads(threads)
    print('ready', flush=True)
    for _ in sys.stdin:
        started_s, used_s = time.monotonic(), time.process_time()
        synthesizer.synthesize(observation, targets, settings, remember=False)
        print(time.monotonic() - started_s, time.process_time() - used_s, flush=True)


class Maker:
    """A process that makes views."""

    def __init__(self, variant: str, preset: str) -> None:
        name, _, value = variant.partition('=')
        command = [sys.executable, __file__, '--serve', variant, '--preset', preset]
        self._process = subprocess.Popen(
            command,
            env=os.environ | ({name: value} if value else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> None:
        """Until it has its model."""
        if self._process.stdout.readline() != 'ready\n':
            raise SystemExit('a process has ended before it was ready')

    def view(self) -> tuple[float, float]:
        """Make a view; return the seconds it took, and those of the processor."""
        print(file=self._process.stdin, flush=True)
        seconds, used_s = map(float, self._process.stdout.readline().split())
        return seconds, used_s

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def busy_loops(number: int) -> Iterator[list[int]]:
    """Programs that never wait; their process ids."""
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(number):
            process = subprocess.Popen([sys.executable, '-S', '-c', 'while True: pass'])
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process.pid)
        time.sleep(SETTLE_S if number else 0)
        yield processes


def used_s(process: int) -> float:
    """Processor time of a process so far, seconds."""
    fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def undisturbed(maker: Maker, loops: list[int], cores: set[int], tries: int) -> dict[str, float]:
    """A view, if possible one during which nothing else worked."""
    for _ in range(tries):
        before_s = busy_s(cores) - sum(map(used_s, loops))
        seconds, own_s = maker.view()
        foreign_s = busy_s(cores) - sum(map(used_s, loops)) - before_s - own_s
        taken = {'seconds': seconds, 'cpu': own_s, 'foreign': max(0.0, foreign_s) / seconds}
        if taken['foreign'] < FOREIGN_CORES:
            break
    return taken


def measure(arguments: argparse.Namespace, cores: set[int]) -> dict[str, dict[str, list]]:
    """Views of each variant, idle and loaded."""
    makers: dict[str, Maker] = {}
    with contextlib.ExitStack() as stack:
        for variant in (OURS, TORCH, *arguments.beside):
            makers[variant] = Maker(variant, arguments.preset)
            stack.callback(makers[variant].close)
            makers[variant].wait()
            makers[variant].view()
        taken = {variant: {'idle': [], 'loaded': []} for variant in makers}
        for turn in range(arguments.repeats):
            order = list(makers)[:: -1 if turn % 2 else 1]
            for state, number in (('idle', 0), ('loaded', arguments.loops)):
                with busy_loops(number) as loops:
                    for variant in order:
                        view = undisturbed(makers[variant], loops, cores, arguments.tries)
                        taken[variant][state].append(view)
                        print(state, variant, view, file=sys.stderr)
    return taken


def summary(taken: dict[str, dict[str, list]]) -> dict[str, dict]:
    """Medians, and their ratios."""
    figures: dict[str, dict] = {}
    for variant, states in taken.items():
        figures[variant] = {
            state: {key: statistics.median(view[key] for view in views) for key in views[0]}
            for state, views in states.items()
        }
    for figure in figures.values():
        idle_s = figure['idle']['seconds']
        figure['loaded_over_idle'] = figure['loaded']['seconds'] / idle_s
        figure['idle_over_torch'] = idle_s / figures[TORCH]['idle']['seconds']
    return figures


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--loops', type=int, default=2, help='busy programs beside')
    parser.add_argument('--cores', default='0,1', help='for all of it')
    parser.add_argument('--preset', default='hourglass')
    parser.add_argument('--tries', type=int, default=4, help='of a view that was disturbed')
    parser.add_argument('--beside', action='append', default=[], metavar='NAME=VALUE')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write every view')
    parser.add_argument('--serve', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve, arguments.preset)
    cores = set(map(int, arguments.cores.split(',')))
    os.sched_setaffinity(0, cores)
    taken = measure(arguments, cores)
    figures = summary(taken)
    for variant, figure in figures.items():
        words = (
            f'{state} {figure[state]["seconds"]:.2f} s (processor {figure[state]["cpu"]:.2f} s, '
            f'foreign {figure[state]["foreign"]:.2f})'
            for state in ('idle', 'loaded')
        )
        print(
            f'{variant:24} {", ".join(words)}: loaded / idle {figure["loaded_over_idle"]:.2f}, '
            f"idle / torch's {figure['idle_over_torch']:.2f}"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({'figures': figures, 'views': taken}, indent=2))


if __name__ == '__main__':
    main()
