"""Process bags on a Ray cluster: each worker is an actor with the model, and gets a part of a bag.

Workers and driver share a file system, on which bags, parts and outputs lie; through Ray go only
which part is to be made and how many frames were. So nothing is lost with a worker or the driver
but the frame that was being made.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import ray
from tqdm import tqdm

from nvs_ros.bag.many import failed
from nvs_ros.bag.parts import BagJob, BagReport
from nvs_ros.bag.process import BagWorker, Range, load
from nvs_ros.errors import UserError
from nvs_ros.settings import ClusterSettings

LOCAL = 'local'
"""Ray's address for a cluster of this machine, which is started and ends with the driver."""
RETRIES = 3
"""How often a part is tried again whose worker has died under it."""


class Cluster:
    """Workers on a Ray cluster; use it as a context manager.

    Parameters
    ----------
    address : str
        As for ``ray.init``, or :data:`LOCAL`.
    settings : ClusterSettings

    Raises
    ------
    UserError
        There is no such cluster.
    """

    def __init__(self, address: str, settings: ClusterSettings) -> None:
        self._settings = settings
        os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
        here: dict[str, Any] = {'num_cpus': settings.workers or None, 'include_dashboard': False}
        try:
            ray.init(
                address,
                log_to_driver=False,  # what workers say of a frame is in the report
                logging_level=logging.ERROR,
                runtime_env={'env_vars': {'TQDM_DISABLE': '1'}},
                **(here if address == LOCAL else {}),
            )
        except Exception as error:  # Ray raises errors of any type
            raise UserError(f'--ray: no cluster at {address}: {error}') from error

    def run(self, jobs: Sequence[BagJob]) -> Iterator[BagReport]:
        """Process bags; yields the report of each when it is done.

        A bag that fails, also by ending its worker several times, does not end the others.

        Raises
        ------
        UserError
            Not one worker fits on the cluster.
        """
        bags, todo = deque(map(_Bag, jobs)), deque[_Step]()
        free = deque(self._workers(jobs[0]) if jobs else ())
        running: dict[Any, tuple[Any, _Step]] = {}
        with tqdm(desc='process', unit='frame', total=0) as progress:
            while running or todo or bags:
                while free and (todo or bags):
                    # A bag is looked at as soon as a worker would have nothing to do.
                    step = todo.popleft() if todo else _Step(bags.popleft(), 'plan')
                    worker = free.popleft()
                    running[worker.do.remote(*self._call(step))] = (worker, step)
                (done,), _ = ray.wait(list(running), num_returns=1)
                worker, step = running.pop(done)
                free.append(worker)
                try:
                    result = ray.get(done)
                except ray.exceptions.RayError as error:
                    result = failed(step.bag.job, error)
                yield from _after(step, result, todo, progress)

    def _call(self, step: _Step) -> tuple[Any, ...]:
        """Arguments of :meth:`_Actor.do` for a step."""
        more = {'plan': (self._settings.part_frames,), 'make': (step.part,), 'finish': ()}
        return step.name, step.bag.job, *more[step.name]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def _workers(self, job: BagJob) -> list[Any]:
        nodes = [node['Resources'] for node in ray.nodes() if node['Alive']]
        gpus = self._settings.gpus
        if gpus is None:
            gpus = 1.0 if any(node.get('GPU') for node in nodes) else 0.0
        fit = sum(_room(node, gpus) for node in nodes)
        number = self._settings.workers or fit
        if not 0 < number <= fit:
            raise UserError(
                f'--ray: expected room for {max(number, 1)} workers with a CPU core and {gpus:g} '
                f'GPUs each, got room for {fit} on {len(nodes)} machines'
            )
        options = {'num_cpus': 1, 'num_gpus': gpus, 'max_restarts': -1}
        actor = ray.remote(_Actor).options(**options, max_task_retries=RETRIES)
        return [actor.remote(job) for _ in range(number)]


def _room(node: dict[str, float], gpus: float) -> int:
    """How many workers fit on a machine; a share of a GPU does not span two of them."""
    cores, there = int(node.get('CPU', 0)), int(node.get('GPU', 0))
    if not gpus:
        return cores
    return min(cores, there * int(1 / gpus + 1e-6) if gpus < 1 else int(there / gpus))


class _Actor:
    """A process of the cluster with the model."""

    def __init__(self, job: BagJob) -> None:
        self._worker = BagWorker(lambda: load(job.configuration))

    def do(self, name: str, *arguments: Any) -> Any:
        """Call a method of :class:`BagWorker`; an error of any kind is the result."""
        try:
            return getattr(self._worker, name)(*arguments)
        except Exception as error:
            return failed(arguments[0], error)


@dataclass
class _Bag:
    """A bag, and how many of its parts are left to make."""

    job: BagJob
    parts: int = 0
    has_failed: bool = False


class _Step(NamedTuple):
    """What a worker does at a time: ``plan`` a bag, ``make`` a part of it, or ``finish`` it."""

    bag: _Bag
    name: str
    part: Range | None = None


def _after(step: _Step, result: Any, todo: deque[_Step], progress: tqdm) -> Iterator[BagReport]:
    """Add what comes after a step to ``todo``; yield the report of a bag that is done."""
    bag = step.bag
    if bag.has_failed:
        return
    if isinstance(result, BagReport):
        bag.has_failed = bool(result.failure and not result.frames)
        for other in [other for other in todo if other.bag is bag]:
            todo.remove(other)
        yield result
        return
    if step.name == 'plan':
        bag.parts = len(result)
        progress.total += sum(part.missing for part in result)
        todo.extend(_Step(bag, 'make', part) for part in result)
    elif step.part is not None:
        bag.parts -= 1
        progress.update(step.part.missing)
    progress.refresh()
    if not bag.parts:
        todo.appendleft(_Step(bag, 'finish'))
