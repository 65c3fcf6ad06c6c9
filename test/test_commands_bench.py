import json

import pytest

from nvs_ros.cli import main


def test_bench_measures_what_it_says(tmp_path, capsys):
    file = tmp_path / 'bench.json'
    arguments = ['bench', '--quick', '--presets', 'hourglass,zero-to-hero', '--batches', '1,2']
    assert main([*arguments, '--device', 'cpu', '--json', str(file)]) == 0
    report = json.loads(file.read_text())
    assert report['device'] == 'cpu' and report['threads'] >= 1
    assert report['model'] == 'embedded' and len(report['config_hash']) == 12
    assert report['peak_memory_mb'] > 100
    hourglass, full = (report['views'][name] for name in ('hourglass', 'zero-to-hero'))
    assert (hourglass['evaluations'], full['evaluations']) == (5, 7)
    assert full['missed_frames'] == 0 and full['frames_sent'] == 1
    assert full['following_p50_ms'] > 0 and full['latency_p50_ms'] > 0
    assert {len(rates) for rates in report['batch_views_per_s'].values()} == {2}
    assert set(report['speedups']) == {
        'cross-attention as a bias',
        'table of time embeddings',
        'source branch remembered',
        'all views in one batch',
    }
    assert report['over_plain'].keys() == report['over_unfiltered'].keys()
    assert set(report['over_plain']) == {
        'first view',
        'following view',
        'first 2 views',
        'following 2 views',
    }
    assert all(ratio > 0 for ratio in report['over_plain'].values())
    assert 'first view' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--presets', 'nonsense'], "'nonsense'"),
        (['--batches', '0'], '--batches: expected 1 or more, got 0'),
        (['--repeats', '0'], '--repeats: expected 1 or more, got 0'),
        (['--batches', 'many'], 'expected numbers, got many'),
        (['--device', 'nonsense'], 'nonsense'),
        (['--json', '/nowhere/bench.json'], '--json: expected a file in a folder that exists'),
        (['--json', '/tmp'], 'got the folder /tmp'),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys):
    assert main(['bench', '--quick', *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
