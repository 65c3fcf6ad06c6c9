"""Many bags: which they are, one after the other, and in parts on a Ray cluster."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip('rclpy')

from nvs_ros.bag.many import find_bags, outputs
from nvs_ros.bag.reader import Bag
from nvs_ros.bag.writer import BagWriter
from nvs_ros.cli import main
from nvs_ros.computer.cores import use_threads
from nvs_ros.errors import UserError

MUG = Path(__file__).parents[1] / 'demo' / 'mug.mcap'
PER_FRAME = 5
SHORT, LONG = 3, 10
ALL = SHORT + LONG
PARAMETERS = [
    word
    for parameter in (
        'views.azimuths_deg:=[60.0]',
        'preset:=zero123',
        'sampler.num_inference_steps:=4',
        'model.threads:=1',
    )
    for word in ('-p', parameter)
]
"""One thread, as each worker of Ray has: with several, sums are rounded in another order."""
LIMIT_S = 400
"""Of a wait, on a machine that does much else."""


@pytest.fixture(scope='module')
def fleet(tmp_path_factory):
    """A folder with a short recording, a longer one, and a file that is none."""
    folder = tmp_path_factory.mktemp('fleet')
    with Bag(MUG) as bag:
        recorded = list(bag.messages())
    for name, frames in (('monday/short', SHORT), ('tuesday/long', LONG)):
        with BagWriter(folder / f'{name}.mcap') as writer:
            for topic, ns, message in recorded[: frames * PER_FRAME]:
                writer.write(topic, ns, message)
    (folder / 'tuesday' / 'broken').mkdir()
    (folder / 'tuesday' / 'broken' / 'x.mcap').write_bytes(b'no bag')
    return folder


@pytest.fixture(scope='module')
def one_by_one(fleet, tmp_path_factory):
    """Output of the fleet from one process without Ray."""
    folder = tmp_path_factory.mktemp('one_by_one') / 'views'
    try:
        assert main(arguments(fleet, folder)) == 2  # one bag is none
    finally:
        use_threads(0)
    return folder


def arguments(fleet, folder, *more):
    return ['process', str(fleet / '*'), str(fleet / 'tuesday/broken'), str(folder), *PARAMETERS,
            *more]  # fmt: skip


def report_of(folder):
    """The report by output, without what differs from run to run."""
    told = json.loads((folder / 'report.json').read_text())
    rows = {}
    for row in told['bags']:
        assert row.pop('seconds') >= 0
        rows[str(Path(row.pop('output')).relative_to(folder))] = row
    return rows


def contents(file):
    """Topics, times and messages. Not bytes: rclpy leaves the gaps between fields as they were."""
    with Bag(file) as bag:
        return [(topic, ns, repr(message)) for topic, ns, message in bag.messages()]


def test_files_folders_and_patterns(tmp_path):
    for name in ('a.mcap', 'b/1.db3', 'b/2.db3', 'c/d/metadata.yaml', 'c/e/f.bag', 'c/g/notes.txt'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(*inputs):
        bags, several = find_bags([str(tmp_path / one) for one in inputs])
        return [str(bag.relative_to(tmp_path)) for bag in bags], several

    assert found('a.mcap') == (['a.mcap'], False)
    assert found('b') == (['b'], False), 'the files of one recording'
    assert found('b/*.db3') == (['b/1.db3', 'b/2.db3'], True)
    assert found('c') == (['c/d', 'c/e'], True)
    assert found('c/e', 'a.*', 'c') == (['c/e', 'a.mcap', 'c/d'], True)
    for wrong in ('c/g', '*.nothing'):
        with pytest.raises(UserError, match='expected bags'):
            found(wrong)
    names = outputs([tmp_path / one for one in ('c/e/f.bag', 'c/e/f.mcap', 'c/d')], Path('out'))
    assert list(map(str, names)) == ['out/e/f.bag.mcap', 'out/e/f.mcap.mcap', 'out/d.mcap']


def test_bags_are_made_one_by_one_and_a_broken_one_ends_no_other(one_by_one, fleet, capsys):
    rows = report_of(one_by_one)
    assert {name: row['frames'] for name, row in rows.items()} == {
        'monday.mcap': SHORT,
        'tuesday.mcap': LONG,
        'tuesday/broken.mcap': 0,
    }
    assert 'expected an mcap file' in rows['tuesday/broken.mcap']['failure']
    made = {file: file.stat().st_mtime_ns for file in one_by_one.rglob('*.mcap')}
    assert len(made) == 2
    assert main(arguments(fleet, one_by_one)) == 2
    assert '1 of 3 bags failed' in capsys.readouterr().err
    assert made == {file: file.stat().st_mtime_ns for file in one_by_one.rglob('*')
                    if file.suffix == '.mcap'}, 'what is done is not done again'  # fmt: skip
    assert report_of(one_by_one) == rows
    assert main(arguments(fleet, one_by_one, '--every', '2')) == 2
    assert 'was made with other parameters' in capsys.readouterr().err


def test_a_killed_worker_and_a_killed_driver_change_nothing(one_by_one, fleet, tmp_path):
    """Real processes and a real Ray of two workers: one of them is killed while frames are made,
    then the driver; the same call on one worker ends what they began."""
    pytest.importorskip('ray')
    folder = tmp_path / 'views'
    call = arguments(fleet, folder, '--part-frames', '2')
    with driven([*call, '--workers', '2', '--ray']) as driver:
        until(driver, lambda: outcomes(folder))
        victim = workers_of(driver)[0]
        victim.kill()
        before = len(outcomes(folder))
        until(driver, lambda: len(outcomes(folder)) > before)
        assert victim.pid not in [worker.pid for worker in workers_of(driver)]
    assert not (folder / 'tuesday.mcap').exists()
    assert len(outcomes(folder)) < ALL
    with driven([*call, '--workers', '1', '--ray']) as driver:
        assert driver.wait(LIMIT_S) == 2
    rows = report_of(folder)
    assert rows == report_of(one_by_one)
    for name, row in rows.items():
        if row['frames']:
            assert contents(folder / name) == contents(one_by_one / name)
    left = [file.name for file in folder.rglob('*') if file.is_file()]
    assert sorted(left) == ['monday.mcap', 'report.json', 'tuesday.mcap']


@contextlib.contextmanager
def driven(call):
    """A process of the command, killed at the end with all that it has started."""
    driver = subprocess.Popen(
        [sys.executable, '-m', 'nvs_ros', *call],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield driver
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()


def outcomes(folder):
    """Frames that are finished in some bag of a folder."""
    return [file for file in folder.rglob('0*.json')]


def workers_of(driver):
    """The processes of Ray that make frames, or wait for some."""
    children = psutil.Process(driver.pid).children(recursive=True)
    return [child for child in children if '_Actor' in ' '.join(child.cmdline())]


def until(driver, reached):
    """Wait for a condition, at most :data:`LIMIT_S`, while the driver runs."""
    end = time.monotonic() + LIMIT_S
    while not reached():
        if driver.poll() is not None:
            pytest.fail('the driver has ended')
        assert time.monotonic() < end, 'nothing came in time'
        time.sleep(0.02)
