"""The layouts in config/ name what the node really offers: topics, types and QoS."""

import json
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

import yaml
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from nvs_ros.testing.robot import graph

CONFIG = Path(__file__).parents[1] / 'config'
# Class of an RViz display -> type of its topic.
DISPLAYS = {
    'rviz_default_plugins/Image': 'sensor_msgs/msg/Image',
    'rviz_default_plugins/Pose': 'geometry_msgs/msg/PoseStamped',
    'rviz_default_plugins/PointCloud2': 'sensor_msgs/msg/PointCloud2',
}


@pytest.fixture(scope='module')
def node():
    with graph() as running:
        yield running.node


def types(node):
    """Topic -> type of everything published and subscribed in the graph."""
    return {topic: kinds[0] for topic, kinds in node.get_topic_names_and_types()}


def test_the_displays_of_rviz_fit_the_topics(node):
    layout = yaml.safe_load((CONFIG / 'nvs.rviz').read_text())
    displays = [d for d in layout['Visualization Manager']['Displays'] if 'Topic' in d]
    assert {display['Topic']['Value'] for display in displays} >= {'/image', '/nvs/contact_sheet'}
    for display in displays:
        topic = display['Topic']
        assert types(node)[topic['Value']] == DISPLAYS[display['Class']]
        asked = QoSProfile(
            depth=topic['Depth'],
            reliability=ReliabilityPolicy[topic['Reliability Policy'].replace(' ', '_').upper()],
            durability=DurabilityPolicy[topic['Durability Policy'].upper()],
        )
        for offer in node.get_publishers_info_by_topic(topic['Value']):
            fits, reason = qos_check_compatible(offer.qos_profile, asked)
            assert fits != QoSCompatibility.ERROR, f'{topic["Value"]}: {reason}'


def test_the_panels_of_foxglove_name_topics_that_are_there(node):
    layout = json.loads((CONFIG / 'nvs.foxglove.json').read_text())
    named = set()
    for panel in layout['configById'].values():
        image = panel.get('imageMode', {})
        named |= {image[key] for key in ('imageTopic', 'calibrationTopic') if key in image}
        named |= set(panel.get('topics', {})) | {panel.get('topicToRender')} - {None}
    assert {'/image', '/diagnostics', '/nvs/contact_sheet'} <= named
    assert named <= set(types(node))
    shown = []

    def walk(part):
        if isinstance(part, str):
            shown.append(part)
        else:
            walk(part['first'])
            walk(part['second'])

    walk(layout['layout'])
    assert sorted(shown) == sorted(layout['configById'])
