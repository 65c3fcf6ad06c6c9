"""ROS parameters from the settings: descriptors, declaration, checks on change."""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from nvs_ros.messages.configuration import Configuration
from nvs_ros.settings import text as settings_text

_TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
    tuple[int, int]: ParameterType.PARAMETER_INTEGER_ARRAY,
    tuple[float, ...]: ParameterType.PARAMETER_DOUBLE_ARRAY,
}
_FROM_PRESET = 'Not set: as the preset says.'


def descriptor(name: str) -> ParameterDescriptor:
    """Descriptor of a parameter: type, description with unit, range, whether it can change.

    Types of floating-point parameters and of those that a preset sets are checked here and not by
    rclpy, so that a whole number in a YAML file is taken and "not set" is a value.
    """
    field = settings_text.parameter_fields()[name]
    prefix = name.rpartition('.')[0]
    hint = typing.get_type_hints(settings_text.GROUPS[prefix])[field.name]
    metadata = field.metadata
    unit = f' [{metadata["unit"]}]' if metadata['unit'] else ''
    description = metadata['description'] + unit
    result = ParameterDescriptor(
        name=name,
        type=_TYPES[hint],
        description=f'{description} {_FROM_PRESET}' if prefix == 'sampler' else description,
        additional_constraints=settings_text.constraints(field),
        read_only=not metadata['runtime'],
        dynamic_typing=prefix == 'sampler' or hint in (float, tuple[float, ...]),
    )
    low, high = metadata['low'], metadata['high']
    if hint is int and (low is not None or high is not None):
        bounds = (-(2**63) if low is None else int(low), 2**63 - 1 if high is None else int(high))
        result.integer_range = [IntegerRange(from_value=bounds[0], to_value=bounds[1], step=0)]
    if hint is float and (low is not None or high is not None):
        limit = sys.float_info.max
        bounds = (-limit if low is None else float(low), limit if high is None else float(high))
        result.floating_point_range = [
            FloatingPointRange(from_value=bounds[0], to_value=bounds[1], step=0.0)
        ]
    return result


def _accept(configuration: Configuration) -> None:
    """Nothing else stands against it."""


class Parameters:
    """Declares the settings on a node and keeps :attr:`configuration` at their present values.

    Parameters
    ----------
    node : rclpy.node.Node
    prepare : callable, optional
        Called with the configuration that a change would lead to; raises to refuse the change.
        Another callback may still refuse it, so nothing that is in use may depend on it.
    apply : callable, optional
        Called with the configuration after each change; not in Humble, see :attr:`configuration`.

    Raises
    ------
    ValueError, rclpy.exceptions.ParameterException
        A value given at start has the wrong type or range.
    """

    def __init__(
        self,
        node: Node,
        prepare: Callable[[Configuration], None] = _accept,
        apply: Callable[[Configuration], None] = _accept,
    ) -> None:
        self._node = node
        self._prepare, self._apply = prepare, apply
        self._fields = settings_text.parameter_fields()
        for name in self._fields:
            self._declare(name)
        self._given = self._values()
        self._configuration = Configuration.from_values(self._given)
        node.add_on_set_parameters_callback(self._check)
        # In Humble nobody says when a change has been made: there the values are compared.
        self._told = hasattr(node, 'add_post_set_parameters_callback')
        if self._told:
            node.add_post_set_parameters_callback(self._commit)

    @property
    def configuration(self) -> Configuration:
        """The settings of now; a new object after each change."""
        if not self._told:
            self._refresh()
        return self._configuration

    def _declare(self, name: str, again: bool = False) -> None:
        default = self._fields[name].default
        if name.startswith('sampler.'):
            default = None
        elif isinstance(default, tuple):
            default = list(default)
        self._node.declare_parameter(name, default, descriptor(name), ignore_override=again)

    def _values(self) -> dict[str, Any]:
        # One that somebody has deleted is as its default says.
        there = [name for name in self._fields if self._node.has_parameter(name)]
        return {p.name: _plain(p) for p in self._node.get_parameters(there)}

    def _check(self, changes: list[Parameter]) -> SetParametersResult:
        """Refuse what cannot be; the change itself comes later, if nobody else refuses it."""
        ours = {p.name: _plain(p) for p in changes if p.name in self._fields}
        if not ours:
            return SetParametersResult(successful=True)
        try:
            for name, value in ours.items():
                if value is None and not name.startswith('sampler.'):
                    raise ValueError(f'{name}: expected a value, got none')
            self._prepare(Configuration.from_values({**self._values(), **ours}))
        except Exception as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _commit(self, changes: list[Parameter]) -> None:
        """Take over a change that has been made."""
        if not any(p.name in self._fields for p in changes):
            return
        for p in changes:
            # "Not set" deletes it: without this it could never be set again.
            if p.name in self._fields and not self._node.has_parameter(p.name):
                self._declare(p.name, again=True)
        self._refresh()
        try:
            self._apply(self._configuration)
        except Exception as error:
            self._node.get_logger().error(f'parameters: {type(error).__name__}: {error}')

    def _refresh(self) -> None:
        values = self._values()
        if values == self._given:
            return
        try:
            self._configuration = Configuration.from_values(values)
        except ValueError as error:  # two changes at once, each of which would have been right
            self._node.get_logger().error(f'parameters stay as they were: {error}')
        self._given = values


def _plain(parameter: Parameter) -> Any:
    """Value as the settings take it: sequences as tuples."""
    if parameter.type_ in (Parameter.Type.DOUBLE_ARRAY, Parameter.Type.INTEGER_ARRAY):
        return tuple(parameter.value)
    return parameter.value
