"""Parameters from the settings: generated files, descriptors, refusals, changes at run time."""

import re
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

import rclpy
import yaml
from rcl_interfaces.msg import ParameterType, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from nvs_ros.messages.configuration import Configuration
from nvs_ros.node.parameters import Parameters, descriptor
from nvs_ros.settings import text as settings_text

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def context():
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture
def make_node(context):
    made = []

    def make(**overrides):
        parameters = [Parameter(name, value=value) for name, value in overrides.items()]
        node = Node('parameters', context=context, parameter_overrides=parameters)
        made.append(node)
        return node

    yield make
    for node in made:
        node.destroy_node()


def test_generated_files_are_up_to_date():
    assert (ROOT / 'config' / 'nvs.yaml').read_text() == settings_text.yaml_text()
    readme = (ROOT / 'README.md').read_text() if (ROOT / 'README.md').exists() else ''
    if settings_text.TABLE_BEGIN in readme:
        assert settings_text.with_table(readme) == readme


def flatten(tree, prefix=''):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f'{prefix}{key}.')
        else:
            yield prefix + key, value


def test_the_yaml_file_holds_the_defaults_of_every_parameter():
    text = settings_text.yaml_text()
    values = dict(flatten(yaml.safe_load(text)['/**']['ros__parameters']))
    fields = settings_text.parameter_fields()
    assert list(values) == [name for name in fields if not name.startswith('sampler.')]
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    assert Configuration.from_values(tuples) == Configuration.from_values({})
    assert '      # resampling_passes: 5\n' in text


def test_a_node_starts_with_the_yaml_file(context):
    path = str(ROOT / 'config' / 'nvs.yaml')
    node = Node('anything', context=context, cli_args=['--ros-args', '--params-file', path])
    try:
        assert Parameters(node).configuration == Configuration.from_values({})
    finally:
        node.destroy_node()


def test_every_parameter_is_described(make_node):
    node = make_node()
    Parameters(node)
    for name, field in settings_text.parameter_fields().items():
        described = node.describe_parameter(name)
        assert field.metadata['description'] in described.description
        assert field.metadata['unit'] in described.description
        assert described.read_only != field.metadata['runtime'], name


def test_ranges_and_units_are_in_the_descriptor():
    slop = descriptor('sync.slop_s')
    assert slop.type == ParameterType.PARAMETER_DOUBLE
    assert '[s]' in slop.description
    assert slop.floating_point_range[0].to_value == 10.0
    queue = descriptor('requests.queue')
    assert (queue.integer_range[0].from_value, queue.integer_range[0].to_value) == (1, 100)
    assert 'raw | compressed' in descriptor('input.image_transport').additional_constraints


def test_values_given_at_start_are_used(make_node):
    node = make_node(**{'sync.slop_s': 1, 'views.azimuths_deg': [10, 20], 'seed': 5})
    configuration = Parameters(node).configuration
    assert configuration.sync.slop_s == 1
    assert configuration.node.seed == 5
    assert configuration.views.viewpoints == [(10, 0.0, 0.0), (20, 0.0, 0.0)]


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('sync.slop_s', -1.0, 'slop_s'),
        ('sync.slop_s', 'soon', 'slop_s'),
        ('seed', 'x', 'seed'),
        ('requests.queue', 0, 'requests.queue'),
        ('input.objects', 'magic', "expected one of .'pose', 'detections'.*'magic'"),
        ('preset', 'best', "expected one of .*'best'"),
        ('completion.preset', 'nonsense', "completion.preset: expected one of .*'nonsense'"),
    ],
)
def test_wrong_values_at_start_are_refused(make_node, name, value, reason):
    with pytest.raises(
        (ValueError, ParameterException, InvalidParameterTypeException), match=reason
    ):
        Parameters(make_node(**{name: value}))


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('seed', -3, 'seed'),
        ('seed', 1.5, 'seed|type'),
        ('preset', 'best', "preset: expected one of .*'best'"),
        ('completion.preset', 'nonsense', "completion.preset: expected one of .*'nonsense'"),
        ('views.azimuths_deg', None, 'azimuths_deg: expected a value'),
        ('views.azimuths_deg', [1.0, float('nan')], 'finite'),
        ('views.azimuths_deg', 'left', 'azimuths_deg'),
        ('views.elevations_deg', [1.0, 2.0, 3.0], 'one length'),
        ('sampler.resampling_passes', 0, 'sampler.*resampling_passes'),
        ('sampler.stage_boundaries', [900, 100], 'stage_boundaries: expected low < high'),
        ('sampler.resampling_passes', 'many', 'resampling_passes: expected int'),
        ('model.source', 'elsewhere', 'read-only'),
        ('sync.slop_s', 0.5, 'read-only'),
    ],
)
def test_wrong_changes_are_refused_with_a_reason(make_node, name, value, reason):
    node = make_node()
    parameters = Parameters(node)
    before = parameters.configuration
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful
    assert re.search(reason, result.reason), result.reason
    assert parameters.configuration == before


def test_changes_at_run_time_take_effect(make_node):
    node = make_node()
    parameters = Parameters(node)
    changes = {
        'views.azimuths_deg': [90.0],
        'enabled': False,
        'seed': 12,
        'sampler.resampling_passes': 2,
    }
    for name, value in changes.items():
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert result.successful, result.reason
    configuration = parameters.configuration
    assert configuration.views.viewpoints == [(90.0, 0.0, 0.0)]
    assert (configuration.node.enabled, configuration.node.seed) == (False, 12)
    assert configuration.sampler().resampling_passes == 2


def test_the_preset_sets_what_no_parameter_sets(make_node):
    node = make_node(**{'sampler.guidance_scale': 2})
    parameters = Parameters(node)
    assert parameters.configuration.sampler().filtering
    node.set_parameters([Parameter('preset', value='hourglass')])
    sampler = parameters.configuration.sampler()
    assert not sampler.filtering
    assert sampler.guidance_scale == 2
    assert parameters.configuration.sampler('resample').resampling_passes == 5
    node.set_parameters([Parameter('sampler.guidance_scale', Parameter.Type.NOT_SET)])
    assert parameters.configuration.sampler().guidance_scale == 3.0


@pytest.fixture(params=[True, False], ids=['told', 'humble'])
def told(request, monkeypatch):
    """Whether rclpy says when a change has been made."""
    if not request.param:
        monkeypatch.delattr(Node, 'add_post_set_parameters_callback', raising=False)
    elif not hasattr(Node, 'add_post_set_parameters_callback'):
        pytest.skip('Humble')
    return request.param


def test_a_change_that_another_callback_refuses_is_none(make_node, told):
    node, refuses = make_node(), []
    node.add_on_set_parameters_callback(
        lambda changes: SetParametersResult(successful=not refuses, reason='not today')
    )
    parameters = Parameters(node)
    before = parameters.configuration
    refuses.append(True)
    (result,) = node.set_parameters([Parameter('seed', value=5)])
    assert (result.successful, result.reason) == (False, 'not today')
    assert node.get_parameter('seed').value == 0
    assert parameters.configuration == before


def test_changes_are_seen_after_they_are_made(make_node, told):
    node = make_node()
    parameters = Parameters(node)
    assert node.set_parameters([Parameter('seed', value=5)])[0].successful
    assert parameters.configuration.node.seed == 5
    changes = [Parameter('seed', value=6), Parameter('enabled', value=False)]
    assert node.set_parameters_atomically(changes).successful
    configuration = parameters.configuration
    assert (configuration.node.seed, configuration.node.enabled) == (6, False)
    assert parameters.configuration is configuration


def test_whoever_prepares_can_refuse_and_is_told_what_came_of_it(make_node):
    prepared, applied = [], []

    def prepare(configuration):
        prepared.append(configuration.node.seed)
        if configuration.node.seed == 13:
            raise RuntimeError('bad luck')

    node = make_node()
    Parameters(node, prepare, lambda configuration: applied.append(configuration.node.seed))
    (result,) = node.set_parameters([Parameter('seed', value=13)])
    assert (result.successful, result.reason) == (False, 'bad luck')
    assert node.set_parameters([Parameter('seed', value=14)])[0].successful
    assert prepared == [13, 14]
    if hasattr(Node, 'add_post_set_parameters_callback'):
        assert applied == [14]


def test_a_deleted_parameter_is_as_the_preset_says_and_can_be_set_again(make_node):
    node = make_node(**{'sampler.eta': 0.5})
    parameters = Parameters(node)
    deleted = Parameter('sampler.eta', Parameter.Type.NOT_SET)
    assert node.set_parameters([deleted])[0].successful
    assert parameters.configuration.sampler().eta == 0.0
    assert node.set_parameters([Parameter('seed', value=3)])[0].successful
    assert parameters.configuration.node.seed == 3
    assert node.set_parameters([Parameter('sampler.eta', value=1.0)])[0].successful
    assert parameters.configuration.sampler().eta == 1.0
