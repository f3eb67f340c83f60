"""Compiles the inner loops once per machine and loads them; without a C++ compiler there are none, and nothing fails.

The library lies in the user's cache under a name made of source, compiler, flags and processor, so that a change of
any of them compiles anew. It is written beside and renamed, so that processes that start together do not disturb each
other, and ends with a hash of what comes before: one that was cut off or changed is compiled anew.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from merge.user_cache import user_cache

SOURCES = Path(__file__).with_name("src")
"""Folder of what is compiled."""
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
"""No contraction: a product and a sum round apart, as they do operation by operation."""
TUNED = (
    ("-march=native", "-mprefer-vector-width=512", "--param", "vect-epilogues-nomask=0"),
    ("-march=native",),
    (),
)
"""Tried in turn, as not every compiler knows the first ones; none of them changes a result."""

_SEAL = hashlib.sha256().digest_size

log = logging.getLogger(__name__)


@cache
def load() -> ctypes.CDLL | None:
    """Return the compiled loops, or None where they cannot be had or MERGESEARCH_FUSED is 0."""
    if os.environ.get("MERGESEARCH_FUSED") == "0":
        return None
    compiler = _compiler()
    if compiler is None:
        log.info("no C++ compiler: merging takes a pass over memory per operation, with the same results")
        return None
    try:
        return _typed(ctypes.CDLL(str(_library(compiler))))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("merging takes a pass over memory per operation: the fused loops cannot be built: %s", error)
        return None


def _compiler() -> str | None:
    wanted = os.environ.get("CXX")
    return shutil.which(wanted) if wanted else next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


def _library(compiler: str) -> Path:
    folder = _cache_folder()
    text = "\0".join(path.read_text() for path in sorted(SOURCES.iterdir()))
    parts = (text, _version(compiler), repr((FLAGS, TUNED, _SEAL)), platform.machine(), _processor())
    identity = "\0".join(parts)
    target = folder / f"fused-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
    if _whole(target):
        return target
    handle, draft = tempfile.mkstemp(suffix=".so", dir=folder)
    os.close(handle)
    try:
        for tuned in TUNED:
            try:
                _compile(compiler, (*FLAGS, *tuned), draft)
                break
            except subprocess.CalledProcessError:
                if not tuned:
                    raise
        _seal(Path(draft))
        Path(draft).replace(target)
    finally:
        Path(draft).unlink(missing_ok=True)
    return target


def _seal(library: Path) -> None:
    """Add the hash of a library behind its end, where the loader does not look, and flush it to the disk."""
    with library.open("rb+") as stream:
        stream.write(hashlib.sha256(stream.read()).digest())
        stream.flush()
        os.fsync(stream.fileno())


def _whole(library: Path) -> bool:
    """Tell whether a library is there and as it was sealed: loading another one could end the process."""
    try:
        content = library.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-_SEAL]).digest() == content[-_SEAL:]


def _compile(compiler: str, flags: tuple[str, ...], out: str) -> None:
    command = [compiler, *flags, "-o", out, *map(str, sorted(SOURCES.glob("*.cpp")))]
    subprocess.run(command, check=True, capture_output=True, timeout=600)


def _cache_folder() -> Path:
    """Return a folder that only this user writes to.

    Raises:
        PermissionError: It belongs to someone else, who could put other code there.
    """
    folder = user_cache() / "loops"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder}: must belong to this user; set MERGESEARCH_CACHE to a folder that does")
    return folder


def _version(compiler: str) -> str:
    answer = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True, timeout=30)
    return answer.stdout


def _processor() -> str:
    """Return the processor's features: a cache that machines share must not mix their code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    whole, number, memory = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
    signatures: dict[str, tuple[list[object], object]] = {
        "weighted_sum": ([memory, whole, memory, memory], ctypes.c_int32),
        "combination": ([memory, memory, whole, memory, whole, number], ctypes.c_int32),
        "projections": ([whole, memory, whole, memory, memory, whole, memory, memory], None),
        "norms": ([whole, memory, memory, memory], None),
        "sums_by_number": ([whole, memory, memory, memory, memory], None),
        "all_finite": ([whole, memory], ctypes.c_int32),
        "products": ([whole, memory, memory, memory, memory], None),
        "nth_largest": ([whole, memory, whole, memory], None),
        "place_of": ([whole, memory, whole, whole], whole),
        "order": ([whole, memory, memory], None),
        "cut": ([whole, memory, memory, whole, whole, memory], whole),
        "ranks": ([whole, whole, memory, memory], None),
        "ram": ([memory, whole, memory, number, memory], ctypes.c_int32),
        "overlaps": ([whole, whole, memory, number, memory], None),
        "nearswap": ([memory, memory, number], ctypes.c_int32),
        "sce": ([memory, whole, memory, memory, memory], ctypes.c_int32),
        "variances": ([whole, whole, memory, memory], None),
        "energies": ([whole, whole, memory, memory, memory], None),
        "fusion": ([memory, memory, memory, whole, number], ctypes.c_int32),
    }
    for name, (arguments, result) in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library
