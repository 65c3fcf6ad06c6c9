"""The policy of SROS 2 allows what the node does, and nothing that it does not."""

from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip('rclpy')

from rclpy.action import get_action_server_names_and_types_by_node

from nvs_ros.messages import objects, transforms
from nvs_ros.testing.robot import graph

POLICY = Path(__file__).resolve().parents[1] / 'config' / 'sros2' / 'policy.xml'
INPUTS = [
    {'input.depth': True, 'input.occluders': True},
    {
        'input.occluders': True,
        'input.image_transport': 'compressed',
        'input.mask_transport': 'compressed',
    },
    {'input.objects': 'detections'},
]
"""Together they have every input."""


def full_name(name):
    return f'/nvs/{name[1:]}' if name.startswith('~') else f'/{name}'


@pytest.fixture(scope='module')
def allowed():
    """What the policy allows: kind -> full names, which may have a star."""
    (profile,) = ElementTree.parse(POLICY).getroot().iter('profile')
    assert profile.attrib == {'ns': '/', 'node': 'nvs'}
    found = {}
    for group in profile:
        ((right, value),) = group.attrib.items()
        assert value == 'ALLOW'
        found[right] = [full_name(entry.text) for entry in group]
    return found


@pytest.fixture(scope='module')
def used():
    """What the node has with all of its inputs."""
    found = {'subscribe': set(), 'publish': set(), 'reply': set(), 'execute': set()}
    for settings in INPUTS:
        if 'detections' in settings.values() and objects.Detection3DArray is None:
            found['subscribe'].add('/detections')  # vision_msgs is not installed
            continue
        with graph(settings) as running:
            node = running.node
            who = node, 'nvs', '/'
            assert (node.get_name(), node.get_namespace()) == who[1:]
            names = {
                'subscribe': node.get_subscriber_names_and_types_by_node(*who[1:]),
                'publish': node.get_publisher_names_and_types_by_node(*who[1:]),
                'reply': node.get_service_names_and_types_by_node(*who[1:]),
                'execute': get_action_server_names_and_types_by_node(*who),
            }
        for right, entries in names.items():
            # Topics and services of an action belong to its right.
            found[right] |= {name for name, _ in entries if '/_action/' not in name}
    if transforms.tf2_ros is None:
        found['subscribe'] |= {'/tf', '/tf_static'}
        found['publish'].add('/tf')
    return found


@pytest.mark.parametrize('right', ['subscribe', 'publish', 'reply', 'execute'])
def test_the_policy_has_the_least_rights(allowed, used, right):
    refused = {n for n in used[right] if not any(fnmatchcase(n, a) for a in allowed[right])}
    assert not refused
    needless = [a for a in allowed[right] if not any(fnmatchcase(n, a) for n in used[right])]
    # Kilted's rclpy has this service, Jazzy's and Humble's have not.
    assert set(needless) <= {'/nvs/get_type_description'}


def test_the_node_asks_nothing_of_others(allowed):
    """It calls no service and no action: no such right is given."""
    assert set(allowed) == {'subscribe', 'publish', 'reply', 'execute'}
