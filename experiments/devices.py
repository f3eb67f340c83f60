"""Checks a device's name before anything is built on it."""

from experiments.errors import InputError


def usable_device(name: str) -> str:
    """Return the name of a device that torch can compute on here.

    Raises:
        InputError: There is no such device.
    """
    from merge import door
    from merge.errors import MergeError

    try:
        return door.usable_device(name)
    except MergeError as error:
        raise InputError(f"--{error}") from None
