"""The node's parameters without a node: from its parameter file and from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from nvs_ros.errors import UserError
from nvs_ros.messages.configuration import Configuration
from nvs_ros.settings.text import parameter_fields

NODES = ('/**', 'nvs', '/nvs')
"""Sections of a parameter file that concern the node; a later one comes before an earlier one."""


def read_configuration(file: Path | None, given: Mapping[str, str]) -> Configuration:
    """Configuration of a node called ``/nvs``.

    Parameters
    ----------
    file : Path, optional
        ROS parameter file, as for the node.
    given : mapping
        Parameter -> value in YAML; they come before those of the file.

    Raises
    ------
    UserError
        The file cannot be read, a name is unknown, a value of the wrong type or range.
    """
    values = _read(file) if file is not None else {}
    for name, text in given.items():
        if name not in parameter_fields():
            raise UserError(f'no such parameter: {name}')
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f'{name}: expected a value in YAML, got {text!r}') from None
    try:
        return Configuration.from_values(values)
    except ValueError as error:
        raise UserError(str(error)) from error


def _read(file: Path) -> dict[str, Any]:
    # rclpy's own reader wants the node's name in the file up to Jazzy, even beside a wildcard.
    try:
        tree = yaml.safe_load(file.read_text())
        sections = [tree[node]['ros__parameters'] for node in NODES if node in tree]
        found = dict(item for section in sections for item in _flat(section))
    except OSError as error:
        raise UserError(f'cannot read {file}: {error.strerror}') from error
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f'{file} is not a ROS parameter file: {" ".join(str(error).split())}'
        ) from error
    if not sections:
        raise UserError(f'{file}: expected parameters of {" or ".join(NODES)}, got none')
    # As for the node, names that it does not declare (use_sim_time, ...) are of no concern.
    return {name: value for name, value in found.items() if name in parameter_fields()}


def _flat(tree: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield prefix + key, value
