import json

import pytest

from nvs_ros.evaluation.markdown_tables import main, replaced, tables


def figures(psnr, evaluations=26):
    splits = {'over_45': {'psnr': psnr - 1, 'iou': 0.5}}
    return {'psnr': psnr, 'iou': 0.6, 'evaluations': evaluations, 'splits': splits}


def summary():
    paired = {
        'resample-hourglass': {'psnr': [0.3, 0.1, 0.5], 'iou': [-0.02, -0.03, -0.01]},
        'amf-resample': {'psnr': [0.1, -0.1, 0.3], 'iou': [0.0, -0.01, 0.01]},
    }
    far = {name: {'fg_psnr': [0.2, -0.2, 0.6]} for name in paired}
    return {
        'objects': 7,
        'pairs': 2,
        'presets': {name: figures(19.0) for name in ('hourglass', 'resample', 'amf')},
        'references': {'white': figures(10.0, 0)},
        'paired': paired,
        'paired_over_45': far,
        'config': {
            'set': 'household',
            'split': 'test',
            'sources': 1,
            'views': 3,
            'seeds': 1,
            'lpips': 'not measured',
        },
        'hashes': {'weights': 'ab' * 32, 'pictures': 'cd' * 32},
    }


def test_what_is_said_follows_from_the_intervals():
    text = tables(summary())
    assert '- Resampling: PSNR higher; IoU lower. PSNR is known to ±0.20 dB.' in text
    assert 'on top of resampling: PSNR, IoU cannot be told apart.' in text
    assert '| +0.30 [+0.10, +0.50]* |' in text and '| +0.10 [-0.10, +0.30] |' in text


def test_the_paper_stands_beside():
    row = next(line for line in tables(summary()).splitlines() if '`amf-resample`' in line)
    assert row.endswith('| +0.07 / +0.002 / +0.007 |')


def test_the_spread_over_seeds_where_there_are_several():
    run = summary()
    assert 'over seeds' not in tables(run)
    run['config']['seeds'] = 3
    run['presets']['resample']['seed_sd'] = {'psnr': 0.456, 'iou': 0.0321}
    rows = {line.split(' | ')[0]: line for line in tables(run).splitlines()}
    assert rows['| `resample`'].endswith('| 0.46 | 0.032 |')
    assert rows['| `white`'].endswith('| - | - |')


def test_only_the_section_is_replaced(tmp_path):
    page, run = tmp_path / 'page.md', tmp_path / 'run.json'
    page.write_text('before\n<!-- a: begin -->\nstale\n<!-- a: end -->\nafter\n')
    run.write_text(json.dumps(summary()))
    main([str(page), f'a={run}'])
    first = page.read_text()
    assert first.startswith('before\n') and first.endswith('after\n') and 'stale' not in first
    main([str(page), f'a={run}'])
    assert page.read_text() == first
    with pytest.raises(ValueError, match='b: begin'):
        replaced(first, 'b', '')
