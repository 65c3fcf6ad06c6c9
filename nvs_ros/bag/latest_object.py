"""The last frame of an object in a bag, with those before it that are remembered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nvs_ros.bag.frames import frames
from nvs_ros.bag.process import check_types, input_topics, left_out, matched_frames
from nvs_ros.bag.reader import Bag
from nvs_ros.bag.transforms import BagTransforms
from nvs_ros.errors import UserError
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.engine import Engine
from nvs_ros.messages.frames import SourceFrame
from nvs_ros.synthesizer import Synthesizer


def latest_object(
    bag: Path,
    configuration: Configuration,
    synthesizer: Synthesizer,
    remap: Mapping[str, str] | None = None,
) -> SourceFrame:
    """The first object of the last frame that can be used, or the one that ``object.id`` names.

    Parameters
    ----------
    bag : Path
    configuration : Configuration
        With ``memory.frames`` above 0 the frames before it are looked at as well.
    synthesizer : Synthesizer
    remap : mapping, optional
        See :func:`nvs_ros.bag.process.input_topics`.

    Raises
    ------
    UserError
        The bag cannot be used, or no frame of it.
    """
    topics = input_topics(configuration, remap or {})
    found = None
    with Bag(bag, topics.values()) as recording:
        check_types(recording, topics, configuration)
        matched = matched_frames(recording, topics, configuration)
        engine = Engine(synthesizer, BagTransforms(bag), lambda stage, seconds: None)
        everything = range(len(matched.frames))
        # Without a memory from the last one back, one at a time.
        readings = [everything] if configuration.memory.frames else [[i] for i in everything[::-1]]
        for wanted in readings:
            for _, frame in frames(recording, matched, wanted):
                try:
                    found = engine.sources(frame, configuration)[0]
                except ValueError as error:
                    matched.dropped[str(error)] += 1
            if found is not None:
                return found
    raise UserError(f'{bag} has no frame that can be used: {left_out(matched)}')
