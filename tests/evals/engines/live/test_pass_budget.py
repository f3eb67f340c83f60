"""Memory of passes: blocks of activations come from what the process keeps, not from the system each time anew."""

import ctypes
import subprocess
import sys

import pytest

LARGE = """
import ctypes, torch
from evals.engines.live.pass_budget import LARGEST_KEPT, keep_freed_memory

NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
keep_freed_memory(torch.device("cpu"))
before = mallinfo().hblks
block = torch.empty(LARGEST_KEPT - (1 << 20), dtype=torch.uint8)
print(mallinfo().hblks - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc is taught, and tells since 2.33")
def test_large_blocks_come_from_what_the_process_keeps() -> None:
    """In a process of its own: other tests may have taught this one's allocator already."""
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) == 0, "the allocator took a block from the system alone, to give it back when it is freed"
