"""The Triton kernel against the filter of PyTorch, in Triton's interpreter on a CPU."""

import os
import subprocess
import sys

import pytest
import torch
from hero_models import original_scheduler, request, smallest_unet

from nvs_ros.hero import preset, sample
from nvs_ros.hero.attention import Part
from nvs_ros.hero.map_filter import Evaluation, MapFilter
from nvs_ros.settings import SamplerSettings

PASSES = (3, 2, 1, 1)
MAPS, TOKENS, WIDTH = 2, 20, 12
"""More keys than a block holds, and sides that are no multiple of one."""
SCRIPT = """
import test_hero_triton_filter as test
for case in (('min', 'float32'), ('min', 'float16'), ('mean', 'float32'), ('ema', 'float32')):
    test.check_a_filter(*case)
test.check_a_run()
"""


def evaluations():
    for step, passes in enumerate(PASSES):
        for number in range(1, passes + 1):
            yield Evaluation(950 - 75 * step, number, passes)


def check_a_filter(pooling, dtype):
    """A run with windows that end one after the other, on the same random maps."""
    from nvs_ros.hero import triton_filter

    settings = SamplerSettings(
        pooling=pooling, alpha_i=0.3, in_step_window=(800, 1000), cross_step_window=(700, 900)
    )
    triton_filter.KEYS = 16
    kept = getattr(torch, dtype)
    plain, fused = MapFilter(settings, kept), triton_filter.FusedMapFilter(settings, kept)
    part = Part((MAPS, TOKENS, TOKENS), slice(0, MAPS), slice(0, TOKENS))
    generator = torch.Generator().manual_seed(0)
    tolerance = 1e-5 if dtype == 'float32' else 4e-3
    for evaluation in evaluations():
        logits = 3 * torch.randn(MAPS, TOKENS, TOKENS, generator=generator)
        values = torch.randn(MAPS, TOKENS, WIDTH, generator=generator).to(kept)
        actual = fused.at(evaluation).attend(logits.clone(), part, values)
        weights = plain(logits, part, evaluation).softmax(-1).to(kept)
        expected = torch.bmm(weights, values)
        assert actual.dtype == expected.dtype
        torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
        for name in ('pooled', 'history'):
            ours, theirs = getattr(fused, name), getattr(plain, name)
            assert ours.keys() == theirs.keys(), (name, evaluation)
            for key, buffer in ours.items():
                assert buffer.dtype == kept
                torch.testing.assert_close(buffer, theirs[key], rtol=0, atol=2 * tolerance)


def check_a_run():
    """The setting reaches the kernel, and the views are the same but for rounding."""
    from nvs_ros.hero import triton_filter

    triton_filter.KEYS, calls, attention = 16, [], triton_filter._attention

    def counted(*args, **kwargs):
        calls.append(kwargs)
        return attention(*args, **kwargs)

    triton_filter._attention = counted
    unet, views = smallest_unet(), {}
    for kernel in ('torch', 'triton'):
        settings = preset(
            early_steps=2, middle_steps=1, late_steps=1, resampling_passes=2, filter_kernel=kernel
        )
        views[kernel] = sample(unet, original_scheduler(), settings=settings, **request(1, size=4))
    assert calls
    torch.testing.assert_close(views['triton'], views['torch'], rtol=0, atol=1e-4)


def test_the_kernel_filters_as_pytorch_does():
    """In a process of its own: triton reads TRITON_INTERPRET when it is loaded."""
    pytest.importorskip('triton', reason='triton is not installed (pip install triton)')
    environment = os.environ | {'TRITON_INTERPRET': '1'}
    paths = [os.path.dirname(__file__), os.environ.get('PYTHONPATH', ''), os.getcwd()]
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_without_triton_or_cuda_the_setting_is_refused(monkeypatch):
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    with pytest.raises(RuntimeError, match='filter_kernel triton: expected'):
        settings = preset(filter_kernel='triton')
        sample(smallest_unet(), original_scheduler(), settings=settings, **request(1, size=4))


def test_the_kernel_knows_the_papers_filter_alone():
    from nvs_ros.hero import attention_map_filtering
    from nvs_ros.hero.learned_filter import LearnedPolicy

    unet = smallest_unet()
    settings = preset('learned', filter_kernel='triton')
    with (
        pytest.raises(ValueError, match="filter_kernel triton: expected filter_policy 'paper'"),
        attention_map_filtering(unet, settings, policy=LearnedPolicy.neutral(unet)),
    ):
        pass
