"""What a robot meets when it grasps, the same for all clouds; the default is the easiest."""

from __future__ import annotations

from dataclasses import dataclass

APPROACH = {
    'any': 'from all sides but below',
    'above': 'within 45 degrees of straight down',
    'front': "within 45 degrees of the way that the camera looks: the arm stands at the camera's "
    'side',
}
"""From where the hand can come: name -> what it is."""
SIZES = {
    'graspable': 'made smaller until their shortest side is 7 cm at most',
    'true': 'as such things are',
}
"""Of objects whose size is drawn: name -> what it is."""


@dataclass(frozen=True)
class Conditions:
    """What is to be met.

    Attributes
    ----------
    approach : str
        One of :data:`APPROACH`.
    sizes : str
        One of :data:`SIZES`.

    Raises
    ------
    ValueError
        There is no such name.
    """

    approach: str = 'any'
    sizes: str = 'graspable'

    def __post_init__(self) -> None:
        for name, known in (('approach', APPROACH), ('sizes', SIZES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f'{name}: expected one of {", ".join(known)}, got {getattr(self, name)!r}'
                )
