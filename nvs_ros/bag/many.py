"""Many bags: which they are, one after the other or on a cluster, and one report of all."""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nvs_ros.bag.parts import BagJob, BagReport, Parts
from nvs_ros.bag.process import BagWorker
from nvs_ros.bag.storage import METADATA, SUFFIXES, is_bag_file
from nvs_ros.errors import UserError
from nvs_ros.replacing import replacing
from nvs_ros.synthesizer import Synthesizer


def find_bags(inputs: Sequence[str]) -> tuple[list[Path], bool]:
    """The bags that the arguments of a command mean.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders of bags, folders with bags somewhere below them, and patterns of these. A
        folder with files of a bag directly in it is one bag, as it is everywhere else.

    Returns
    -------
    bags : list of Path
        In the order of the arguments, each once.
    several : bool
        Whether the arguments may mean more than one bag, also where they happen to mean one.

    Raises
    ------
    UserError
        A pattern matches nothing, or a folder holds no bag.
    """
    found: list[Path] = []
    several = len(inputs) > 1
    for text in inputs:
        path = Path(text)
        if path.exists() or not glob.has_magic(text):
            paths = [path]
        else:
            several = True
            paths = [Path(one) for one in sorted(glob.glob(text, recursive=True))]
            paths = [one for one in paths if one.is_dir() or is_bag_file(one)]
            if not paths:
                raise UserError(f'expected bags ({", ".join(SUFFIXES)}) at {text}, got none')
        for one in paths:
            bags = _bags_below(one) if one.is_dir() else [one]
            several = several or bags != [one]
            found += bags
    return list(dict.fromkeys(found)), several


def outputs(bags: Sequence[Path], folder: Path) -> list[Path]:
    """An output in a folder for each bag: its path below what all have in common, as mcap."""
    above = os.path.commonpath([bag.resolve().parent for bag in bags])
    names = [os.path.relpath(bag.resolve(), above) for bag in bags]
    short = [_without_suffix(name) for name in names]
    return [
        folder / f'{name if short.count(brief) > 1 else brief}.mcap'
        for name, brief in zip(names, short, strict=True)
    ]


def process_many(
    jobs: Sequence[BagJob],
    report: Path | None,
    run: Callable[[Sequence[BagJob]], Iterator[BagReport]],
) -> list[BagReport]:
    """Process bags and keep a report of those that are done; the same call goes on.

    Parameters
    ----------
    jobs : sequence of BagJob
    report : Path, optional
        JSON file, written anew after each bag.
    run : callable
        Yields the report of each job when it is done, in any order: :func:`one_by_one`, or
        :meth:`nvs_ros.bag.cluster.Cluster.run`.

    Raises
    ------
    UserError
        The report belongs to other parameters.
    """
    arguments = {str(job.output): job.described() for job in jobs if job.bag.exists()}
    done = _done(report, arguments)
    started = time.monotonic()
    here = 0
    for one in run([job for job in jobs if str(job.output) not in done]):
        done[one.output] = one
        here += one.frames
        seconds = time.monotonic() - started
        if report is not None:
            _write(report, done, arguments, seconds)
        if one.frames:
            Parts(next(job for job in jobs if str(job.output) == one.output)).remove()
        said = one.result() if one.frames else f'{one.bag}: {one.failure}'
        tqdm.write(f'{said}; {here / seconds:.3g} frames/s')
    if report is not None:
        _write(report, done, arguments, time.monotonic() - started)
    return [done[str(job.output)] for job in jobs]


def one_by_one(jobs: Sequence[BagJob], synthesizer: Synthesizer) -> Iterator[BagReport]:
    """Process bags in this process; a bag that fails does not end the others."""
    with BagWorker(lambda: synthesizer) as worker:
        for job in jobs:
            try:
                for todo in worker.plan(job):
                    worker.make(job, todo)
                yield worker.finish(job)
            except Exception as error:  # of any kind: the other bags may still be usable
                yield failed(job, error)


def failed(job: BagJob, error: Exception) -> BagReport:
    """Report of a bag without an output."""
    kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
    said = ' '.join(str(error).split())
    return BagReport(str(job.bag), str(job.output), failure=f'{kind}{said}')


def _bags_below(folder: Path) -> list[Path]:
    """The folder itself if it is a bag, else all bags below it."""
    entries = sorted(folder.iterdir())
    if (folder / METADATA).exists() or any(map(is_bag_file, entries)):
        return [folder]
    found = [bag for entry in entries if entry.is_dir() for bag in _below(entry)]
    if not found:
        raise UserError(f'expected bags ({", ".join(SUFFIXES)}) in {folder}, got none')
    return found


def _below(folder: Path) -> Iterable[Path]:
    try:
        return _bags_below(folder)
    except UserError:
        return []


def _without_suffix(name: str) -> str:
    return next(
        (name.removesuffix(end) for end in sorted(SUFFIXES, key=len)[::-1] if name.endswith(end)),
        name,
    )


def _done(report: Path | None, arguments: dict[str, Any]) -> dict[str, BagReport]:
    """Output -> report of the bags that are done according to a report of an earlier call."""
    if report is None or not report.exists():
        return {}
    try:
        told = json.loads(report.read_text())
        rows = [BagReport(**row) for row in told['bags']]
        known = told['arguments']
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'expected a report of process in {report}, got: {error}') from error
    done = {}
    for row in rows:
        if row.frames and row.output in arguments and Path(row.output).exists():
            if known.get(row.output) != json.loads(json.dumps(arguments[row.output])):
                raise UserError(f'{row.output} was made with other parameters: remove it')
            done[row.output] = row
    return done


def _write(
    report: Path, done: dict[str, BagReport], arguments: dict[str, Any], seconds: float
) -> None:
    rows = [dataclasses.asdict(row) for _, row in sorted(done.items())]
    told = {
        'frames': sum(row['frames'] for row in rows),
        'seconds': round(seconds, 3),
        'bags': rows,
        'arguments': {name: arguments[name] for name in sorted(arguments) if name in done},
    }
    with replacing(report) as file:
        file.write_text(json.dumps(told, indent=1))
