"""Settings declared once, with default, range, unit and description; checked on construction."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from typing import Any


def setting(
    default: Any,
    description: str,
    *,
    unit: str = '',
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
    runtime: bool = False,
) -> Any:
    """Declare one field of a settings group.

    Parameters
    ----------
    default : Any
        Default value; a tuple for a sequence.
    description : str
        One sentence for the user, shown in parameter descriptors, the YAML file and the README.
    unit : str
        SI unit, ``''`` for none.
    low, high : float, optional
        Inclusive range; for a tuple it holds for each element.
    choices : sequence, optional
        The only values allowed.
    runtime : bool
        Whether the value can be changed while the node runs.
    """
    metadata = {
        'description': description,
        'unit': unit,
        'low': low,
        'high': high,
        'choices': None if choices is None else tuple(choices),
        'runtime': runtime,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of all groups: checks type, range and choice of each field on construction.

    Raises
    ------
    ValueError
        A field has a wrong type, is out of range or none of its choices, or :meth:`check` fails.
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _check_type(self, field, hints[field.name])
            _check_range(self, field, value)
        self.check()

    def check(self) -> None:
        """Check conditions between fields; raises ValueError that names the values."""


def _check_type(group: Settings, field: dataclasses.Field, hint: Any) -> Any:
    value = getattr(group, field.name)
    if isinstance(value, list):
        value = tuple(value)
        object.__setattr__(group, field.name, value)
    if not _is_instance(value, hint):
        expected = getattr(hint, '__name__', str(hint)) if not typing.get_args(hint) else str(hint)
        raise ValueError(f'{field.name}: expected {expected}, got {value!r}')
    return value


def _is_instance(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_is_instance(value, option) for option in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return all(_is_instance(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_is_instance, value, arguments))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _check_range(group: Settings, field: dataclasses.Field, value: Any) -> None:
    low, high, choices = (field.metadata.get(key) for key in ('low', 'high', 'choices'))
    unit = f' {field.metadata["unit"]}' if field.metadata.get('unit') else ''
    for item in value if isinstance(value, tuple) else (value,):
        if choices is not None and item not in choices:
            raise ValueError(f'{field.name}: expected one of {list(choices)}, got {item!r}')
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f'{field.name}: expected a finite number, got {item!r}')
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            if low is not None and item < low:
                raise ValueError(f'{field.name}: expected at least {low}{unit}, got {item!r}')
            if high is not None and item > high:
                raise ValueError(f'{field.name}: expected at most {high}{unit}, got {item!r}')
