"""``python -m nvs_ros process BAG... OUTPUT``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nvs_ros.commands.arguments import add_bag_parameters, check_output, make_output_folder, pairs
from nvs_ros.errors import UserError
from nvs_ros.settings import ClusterSettings

if TYPE_CHECKING:
    from nvs_ros.bag.parts import BagJob, BagReport

LOCAL = 'local'
"""Ray's address for a cluster of this machine, which ends with the command."""
REPORT = 'report.json'
"""Name of the report in the output of several bags."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        'bag',
        nargs='+',
        help='mcap, db3 or ROS 1 bag; the folder of a bag; a folder of bags; a pattern of these',
    )
    parser.add_argument(
        'output',
        type=Path,
        help='new mcap file, or with several bags a folder; interrupted, call again to go on',
    )
    add_bag_parameters(parser)
    parser.add_argument(
        '--shapes',
        type=Path,
        metavar='FOLDER',
        help='write a cloud (PLY) and a mesh (OBJ) of each object in each frame as well, and the '
        'topics of both into the output',
    )
    parser.add_argument('--every', type=int, default=1, metavar='N', help='every Nth frame only')
    parser.add_argument(
        '--report',
        type=Path,
        metavar='JSON',
        help='what came of each bag (default with several bags: report.json in the output)',
    )
    parser.add_argument(
        '--ray',
        nargs='?',
        const=LOCAL,
        metavar='ADDRESS',
        help='on a Ray cluster, whose machines see the same files; without an address one of this '
        'machine',
    )
    cluster = parser.add_argument_group('on a Ray cluster')
    for field in dataclasses.fields(ClusterSettings):
        kind = int if field.type == 'int' else float
        cluster.add_argument(
            f'--{field.name.replace("_", "-")}',
            type=kind,
            default=field.default,
            metavar='N',
            help=field.metadata['description'].rstrip('.')
            + ('' if field.default is None else ' (default %(default)s)'),
        )


def run(arguments: argparse.Namespace) -> int:
    """Process the bags."""
    if arguments.every < 1:
        raise UserError(f'--every: expected 1 or more, got {arguments.every}')
    check_output('--report', arguments.report)
    make_output_folder('--shapes', arguments.shapes)
    if arguments.ray is not None:
        import ray  # noqa: F401  # said before anything else is done if it is missing
    from nvs_ros.bag.many import process_many
    from nvs_ros.bag.process import process, tell

    jobs, several = _jobs(arguments)
    if arguments.ray is None and arguments.report is None and not several:
        (job,) = jobs
        process(
            job.bag,
            job.output,
            job.configuration,
            remap=job.remap,
            every=job.every,
            shapes=job.shapes,
        )
        return 0
    report = arguments.report or (arguments.output / REPORT if several else None)
    reports = process_many(jobs, report, _run_of(arguments))
    if not several:
        tell(reports[0])
    elif failed := sum(bool(one.failure) for one in reports):
        raise UserError(f'{failed} of {len(reports)} bags failed or were damaged, see {report}')
    return 0


def _jobs(arguments: argparse.Namespace) -> tuple[list[BagJob], bool]:
    """A job for each bag, and whether the output is a folder."""
    from nvs_ros.bag.inputs import input_topics
    from nvs_ros.bag.many import find_bags, outputs
    from nvs_ros.bag.parameters import read_configuration
    from nvs_ros.bag.parts import BagJob

    output, shapes = arguments.output, arguments.shapes
    bags, several = find_bags(arguments.bag)
    if not several and output.suffix != '.mcap':
        raise UserError(f'expected an output ending in .mcap, got {output}')
    if several and (output.suffix == '.mcap' or output.is_file()):
        raise UserError(f'expected a folder as the output of several bags, got {output}')
    configuration = read_configuration(arguments.params_file, pairs('--param', arguments.param))
    remap = pairs('--remap', arguments.remap)
    input_topics(configuration, remap)
    if not several:
        return [BagJob(bags[0], output, configuration, remap, arguments.every, shapes)], False
    make_output_folder('output', output)
    # What an earlier call has made is no input of this one.
    bags = [bag for bag in bags if output.resolve() not in bag.resolve().parents]
    return [
        BagJob(
            bag,
            file,
            configuration,
            remap,
            arguments.every,
            None if shapes is None else shapes / file.relative_to(output).with_suffix(''),
        )
        for bag, file in zip(bags, outputs(bags, output), strict=True)
    ], True


def _run_of(
    arguments: argparse.Namespace,
) -> Callable[[Sequence[BagJob]], Iterator[BagReport]]:
    """How jobs are run: on a cluster, or one after the other in this process."""

    def on_cluster(jobs: Sequence[BagJob]) -> Iterator[BagReport]:
        from nvs_ros.bag.cluster import Cluster

        with Cluster(arguments.ray, settings) as cluster:
            yield from cluster.run(jobs)

    def here(jobs: Sequence[BagJob]) -> Iterator[BagReport]:
        from nvs_ros.bag.many import one_by_one
        from nvs_ros.bag.process import load

        if jobs:
            yield from one_by_one(jobs, load(jobs[0].configuration))

    names = [field.name for field in dataclasses.fields(ClusterSettings)]
    try:
        settings = ClusterSettings(**{name: getattr(arguments, name) for name in names})
    except ValueError as error:
        raise UserError(f'--{error}') from error
    return here if arguments.ray is None else on_cluster
