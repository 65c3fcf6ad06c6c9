"""The node's parameters without a node: from its parameter file and from the command line."""

from __future__ import annotations

import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rclpy.parameter import Parameter, parameter_dict_from_yaml_file

from nvs_ros.errors import UserError
from nvs_ros.node.parameters import Configuration
from nvs_ros.settings_text import parameter_fields


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
    try:
        found = parameter_dict_from_yaml_file(str(file), use_wildcard=True, target_nodes=['/nvs'])
    except OSError as error:
        raise UserError(f'cannot read {file}: {error.strerror}') from error
    except (RuntimeError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise UserError(
            f'{file} is not a ROS parameter file: {" ".join(str(error).split())}'
        ) from error
    # As for the node, names that it does not declare (use_sim_time, ...) are of no concern.
    return {
        name: _plain(Parameter.from_parameter_msg(message).value)
        for name, message in found.items()
        if name in parameter_fields()
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, array.array) else value
