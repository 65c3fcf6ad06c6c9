"""An evaluation with filtering is one graph, without a read-back, and few programs serve a run."""

import pytest
import torch
from hero_models import original_scheduler, request, smallest_unet, tiny_unet
from torch.utils._python_dispatch import TorchDispatchMode

from nvs_ros.hero import attention_map_filtering, preset, sample
from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.hero.capture import compiled_evaluations
from nvs_ros.hero.learned_filter import LearnedPolicy
from nvs_ros.hero.source_branch import SourceMemory

RUN = {'early_steps': 3, 'middle_steps': 1, 'late_steps': 1, 'resampling_passes': 2}
EVALUATIONS = 8
PROGRAMS = 5
"""With source rows: first and last pass of the first timestep, which has no history, and of further
timesteps; and without source rows the evaluations that filter nothing (t = 201, 1)."""


def views(unet, settings, storage=None, memory=None, policy=None):
    attention = attention_map_filtering(unet, settings, storage=storage, policy=policy)
    arguments = request(1, size=4) | {'source_memory': memory, 'attention': attention}
    return sample(unet, original_scheduler(), settings=settings, **arguments)


class Programs:
    """A backend that counts the graphs it is given; AOTAutograd traces the first one further."""

    def __init__(self):
        self.count = 0

    def __call__(self, module, inputs):
        self.count += 1
        if self.count > 1:
            return module
        return torch._dynamo.lookup_backend('aot_eager')(module, inputs)


def places(storage):
    return [room.data_ptr() for layer in storage.values() for room in layer.values()]


@pytest.fixture
def unet():
    """One level, so that a graph is small."""
    return tiny_unet(
        sample_size=4,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=('CrossAttnDownBlock2D',),
        mid_block_type=None,
        up_block_types=('CrossAttnUpBlock2D',),
    )


def test_few_programs_serve_a_whole_run_and_change_nothing(unet):
    settings, programs = preset(**RUN), Programs()
    expected = views(unet, settings)
    with compiled_evaluations(unet, backend=programs) as storage:
        assert torch.equal(views(unet, settings, storage), expected)
        before = places(storage)
        assert torch.equal(views(unet, settings, storage), expected)
    assert programs.count == PROGRAMS
    assert before and places(storage) == before
    assert torch.equal(views(unet, settings), expected)
    assert programs.count == PROGRAMS, 'the UNet is not compiled any more'


def test_maps_are_filtered_with_and_without_source_rows(unet):
    """Of two sizes of batch torch would compile the second for any size, but buffers have one."""
    settings = preset(**RUN | {'early_steps': 2, 'resampling_passes': 1}, msa_window=(900, 1000))
    expected = views(unet, settings)
    with compiled_evaluations(unet, backend='eager') as storage:
        for _ in range(2):
            assert torch.equal(views(unet, settings, storage), expected)


class NoReadBack(TorchDispatchMode):
    """Fails when a number of a tensor is needed on the host, or a tensor changes its device."""

    READS = ('_local_scalar_dense', 'is_nonzero', 'nonzero', 'equal', '_to_cpu')

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in self.READS, f'{name} waits for the device'
        result = function(*args, **(kwargs or {}))
        if name in ('_to_copy', 'copy_'):
            devices = {x.device for x in (*args[:2], result) if torch.is_tensor(x)}
            assert len(devices) == 1, f'{name} between {devices}'
        return result


@pytest.mark.parametrize('policy', ['paper', 'learned'])
def test_an_evaluation_reads_nothing_back(policy):
    """Setting up a run reads the schedule on the host; from its first evaluation on, nothing."""
    unet, settings = smallest_unet(), preset(**RUN, filter_policy=policy)
    learned = LearnedPolicy.neutral(unet) if policy == 'learned' else None
    mode, calls = NoReadBack(), []

    def enter(*_):
        if not calls:
            mode.__enter__()
        calls.append(1)

    hook = unet.register_forward_pre_hook(enter)
    try:
        views(unet, settings, memory=SourceMemory(), policy=learned)
    finally:
        hook.remove()
        mode.__exit__(None, None, None)
    assert len(calls) == EVALUATIONS
    with pytest.raises(AssertionError, match='waits for the device'), NoReadBack():
        torch.ones(1).item()


def test_the_storage_is_that_of_the_paper_and_the_learned_filter():
    """Copied buffers give the same views, bit for bit."""
    unet, settings = smallest_unet(), preset('learned', **RUN)
    policy = LearnedPolicy(
        {
            name: torch.rand(12, attn.heads, 4, generator=torch.Generator().manual_seed(0))
            for name, attn in self_attention_layers(unet).items()
        }
    )
    storage = {}
    kept = views(unet, settings, storage, policy=policy)
    assert torch.equal(kept, views(unet, settings, policy=policy))
    assert set(storage) == {(name, 'target') for name in policy.weights}


def test_the_number_of_threads_may_change_during_a_run():
    """Buffers belong to parts, whose size follows from the threads at the beginning."""
    unet, settings = smallest_unet(), preset(**RUN)
    from nvs_ros.hero import attention

    threads, elements = torch.get_num_threads(), attention.PART_ELEMENTS['cpu']
    attention.PART_ELEMENTS['cpu'] = 300

    def fewer(progress):
        torch.set_num_threads(1)

    try:
        torch.set_num_threads(2)
        sample(unet, original_scheduler(), settings=settings, callback=fewer, **request(1, size=4))
    finally:
        torch.set_num_threads(threads)
        attention.PART_ELEMENTS['cpu'] = elements
