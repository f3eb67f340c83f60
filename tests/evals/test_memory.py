"""Memory of passes: what a process frees it keeps, so that the next layer takes it without page faults."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from evals.memory import keep_freed_memory
if {keep}:
    keep_freed_memory(torch.device("cpu"))
def layer():
    blocks = [torch.ones(4_000_000) for _ in range(3)]
for _ in range(3):
    layer()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(6):
    layer()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, keep: bool) -> int:
    script = FAULTS.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout)


def test_freed_activations_are_taken_again_without_page_faults() -> None:
    usual = faults(keep=False)
    if usual < 30_000:
        pytest.skip("this allocator keeps what is freed anyhow")
    assert faults(keep=True) < usual / 3
