"""The device that computes."""

from __future__ import annotations

import torch

from nvs_ros.errors import UserError


def usable_device(name: str | torch.device) -> torch.device:
    """The device, if a number can be written to it and read back.

    Raises
    ------
    UserError
        It is not there, or torch was built without it.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (AssertionError, RuntimeError) as error:  # a build without CUDA asserts
        reason = str(error).splitlines()[0]
        raise UserError(f'device: expected one that can be used, got {name}: {reason}') from error
    return device
