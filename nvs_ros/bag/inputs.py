"""Which topics of a bag are the inputs of a frame, and what of them could be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from nvs_ros.bag.frames import Matched, match_frames
from nvs_ros.bag.reader import Bag
from nvs_ros.bag.topics import full_name
from nvs_ros.errors import UserError
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.frames import check_message
from nvs_ros.messages.input_types import input_types, picture_transports, type_name, type_names


def input_topics(configuration: Configuration, remap: Mapping[str, str]) -> dict[str, str]:
    """Input of a frame -> topic of the bag.

    Parameters
    ----------
    configuration : Configuration
    remap : mapping
        Input -> topic, for inputs that are not recorded under their own name.

    Raises
    ------
    UserError
        There is no such input, or two inputs have the same topic.
    """
    settings = configuration.input
    objects = {'pose': ['object_pose'], 'detections': ['detections'], 'mask': []}[settings.objects]
    inputs = ['image', 'camera_info', 'mask', *objects]
    inputs += ['depth'] if settings.reads_depth else []
    inputs += ['occluders'] if settings.occluders else []
    if unknown := remap.keys() - set(inputs):
        raise UserError(f'expected an input among {", ".join(inputs)}, got {sorted(unknown)[0]!r}')
    transports = picture_transports(settings)
    topics = {}
    for name in inputs:
        topic = full_name(remap.get(name, name))
        topics[name] = f'{topic}/compressed' if transports.get(name) == 'compressed' else topic
    for name, topic in topics.items():
        if same := [other for other in topics if topics[other] == topic and other != name]:
            raise UserError(
                f'expected a topic for each input, got {topic} for {name} and {same[0]}'
            )
    return topics


def matched_frames(
    recording: Bag, topics: Mapping[str, str], configuration: Configuration
) -> Matched:
    """The frames of a bag; ``topics`` gives the topic of each input."""
    return match_frames(
        recording,
        {topic: name for name, topic in topics.items()},
        configuration.sync.slop_s,
        lambda message: check_message(message, configuration.input.rectified, configuration.limits),
    )


def check_types(recording: Bag, topics: Mapping[str, str], configuration: Configuration) -> None:
    """Check that the topic of each input has one of the input's message types.

    Raises
    ------
    UserError
        A topic has another type, or vision_msgs is needed and not installed.
    """
    try:
        types = input_types(configuration.input)
    except ValueError as error:
        raise UserError(str(error)) from error
    for name, topic in topics.items():
        kind = recording.topics[topic].kind
        if kind not in types[name]:
            raise UserError(
                f'{name}: expected {type_names(types[name])} on {topic}, got {type_name(kind)}'
            )


def left_out(images: int, dropped: Mapping[str, int], reasons: Sequence[str]) -> str:
    """Which images were left out and why, with counts, and other problems; ``''`` if none was.

    The arguments are as in :class:`~nvs_ros.bag.frames.Matched`.
    """
    said = [
        f'{n} of {images} images left out: {reason}' for reason, n in Counter(dropped).most_common()
    ]
    return '; '.join([*said, *reasons])
