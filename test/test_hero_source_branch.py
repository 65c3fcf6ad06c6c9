"""The source branch, computed once for all views of a frame."""

import pytest
import torch
from hero_models import SHORT, original_scheduler, request, tiny_unet

from nvs_ros.hero import preset, sample
from nvs_ros.hero.source_branch import SourceMemory, SourcePool


def rows_of_calls(unet):
    sizes = []
    unet.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    return sizes


@pytest.mark.parametrize('filter_source', [False, True])
@pytest.mark.parametrize('guidance_scale', [1.0, 3.0])
def test_a_remembered_branch_gives_the_same_views(guidance_scale, filter_source):
    """Filled beside one target, used by three others with noise of their own."""
    unet = tiny_unet()
    settings = preset(**SHORT, guidance_scale=guidance_scale, filter_source=filter_source)
    expected = sample(unet, original_scheduler(), settings=settings, **request(3))
    memory, sizes = SourceMemory(), rows_of_calls(unet)
    others = request(1) | {
        name: value[:1] + 1 for name, value in request(1).items() if name in ('tokens', 'noise')
    }
    sample(unet, original_scheduler(), settings=settings, source_memory=memory, **others)
    assert memory.complete and memory.size_bytes > 0
    halves = 2 if guidance_scale > 1 else 1
    assert sizes[0] == 2 * halves
    sizes.clear()
    arguments = request(3) | {'source_token': None, 'source_generator': None}
    actual = sample(
        unet, original_scheduler(), settings=settings, source_memory=memory, **arguments
    )
    assert set(sizes) == {3 * halves}
    assert (actual - expected).abs().max() < 1e-5 * expected.std()


def test_what_does_not_fit_is_computed_again():
    unet, memory = tiny_unet(), SourceMemory(lambda: False)
    expected = sample(unet, original_scheduler(), settings=preset(**SHORT), **request(2))
    for _ in range(2):
        actual = sample(
            unet,
            original_scheduler(),
            settings=preset(**SHORT),
            source_memory=memory,
            **request(2),
        )
        assert torch.equal(actual, expected)
        assert not memory.complete and memory.size_bytes == 0


def test_a_run_cut_short_is_not_remembered():
    unet, memory = tiny_unet(), SourceMemory()
    expected = sample(unet, original_scheduler(), settings=preset(**SHORT), **request(1))

    def cancel(progress):
        if progress['evaluation'] == 12:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        sample(
            unet,
            original_scheduler(),
            settings=preset(**SHORT),
            source_memory=memory,
            callback=cancel,
            **request(1),
        )
    assert not memory.complete
    for _ in range(2):
        actual = sample(
            unet,
            original_scheduler(),
            settings=preset(**SHORT),
            source_memory=memory,
            **request(1),
        )
        assert (actual - expected).abs().max() < 1e-5 * expected.std()
    assert memory.complete


def fill(memory, kilobytes):
    memory.restart()
    for evaluation in range(kilobytes):
        memory.evaluation = evaluation
        memory.keep('layer', torch.zeros(128), torch.zeros(128))
    memory.finish()


def test_the_pool_keeps_its_limit_and_drops_the_oldest():
    pool, frame = SourcePool(3 * 1024), object()
    for seed in range(3):
        fill(pool.memory(frame, seed), 1)
    assert pool.memory(frame, 0).complete, 'now the newest'
    fill(pool.memory(frame, 3), 2)
    assert pool.size_bytes == 3 * 1024
    assert [pool.memory(frame, seed).complete for seed in (0, 1, 2, 3)] == [
        True,
        False,
        False,
        True,
    ]


def test_a_branch_too_large_for_the_pool_is_not_kept():
    pool, frame = SourcePool(1024), object()
    memory = pool.memory(frame, 0)
    fill(memory, 2)
    assert not memory.complete and pool.size_bytes == 0


def test_another_frame_drops_everything():
    pool = SourcePool(1024**2)
    fill(pool.memory('first', 0), 1)
    assert not pool.memory('second', 0).complete
    assert pool.size_bytes == 0
