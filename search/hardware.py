"""What the processes of one host share: memory, processor cores, accelerators."""

import os

import torch


def free_memory() -> int:
    """Return the bytes of memory that nobody uses; 4 GiB where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores(processes: int) -> None:
    """Take this process's part of the cores, unless ``OMP_NUM_THREADS`` says how many it shall use."""
    if processes > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // processes))


def device_of(device: str, place: int) -> str:
    """Return the device of the process at a place: ``cuda`` stands for all of a host's, one after the other."""
    if device != "cuda" or torch.cuda.device_count() < 2:
        return device
    return f"cuda:{place % torch.cuda.device_count()}"
