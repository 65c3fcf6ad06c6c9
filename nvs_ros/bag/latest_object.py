"""The last usable frame of an object in a bag, with remembered frames before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nvs_ros.bag.frames import frames
from nvs_ros.bag.inputs import check_types, input_topics, left_out, matched_frames
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
    """The object in the last usable frame; the first one, or the one with the id ``object.id``.

    Parameters
    ----------
    bag : Path
    configuration : Configuration
        With ``memory.frames`` above 0 earlier frames are converted and remembered as well.
    synthesizer : Synthesizer
    remap : mapping, optional
        See :func:`nvs_ros.bag.inputs.input_topics`.

    Raises
    ------
    UserError
        The bag, or every frame in it, cannot be used.
    """
    topics = input_topics(configuration, remap or {})
    found = None
    with Bag(bag, topics.values()) as recording:
        check_types(recording, topics, configuration)
        matched = matched_frames(recording, topics, configuration)
        engine = Engine(synthesizer, BagTransforms(bag), lambda stage, seconds: None)
        everything = range(len(matched.frames))
        # Without memory: backwards from the last frame, one at a time.
        readings = [everything] if configuration.memory.frames else [[i] for i in everything[::-1]]
        for wanted in readings:
            for _, frame in frames(recording, matched, wanted):
                try:
                    found = engine.sources(frame, configuration)[0]
                except ValueError as error:
                    matched.dropped[str(error)] += 1
            if found is not None:
                return found
    without = left_out(matched.images, matched.dropped, matched.reasons)
    raise UserError(f'{bag} has no frame that can be used: {without}')
