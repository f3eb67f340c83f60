"""Checks a device's name before anything is built on it."""

from experiments.errors import InputError


def usable_device(name: str) -> str:
    """Return the name of a device that torch can compute on here.

    Raises:
        InputError: There is no such device.
    """
    import torch

    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name}: must be a device that torch can use here, got: {reason}; use cpu") from None
    return name
