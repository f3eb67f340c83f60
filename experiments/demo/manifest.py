"""What a model folder of the cache consists of, written when it is made and checked at every later start."""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from experiments.atomic_files import write_text_atomically

MANIFEST = "mergesearch_manifest.json"


class Origin(BaseModel):
    """Where a model came from.

    Attributes:
        source: One line for a person.
        revision: Commit of the hub, or sha256 of what was converted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    revision: str


class FileFacts(BaseModel):
    """One file, as it was written.

    Attributes:
        size: Bytes.
        mtime_ns: Time of the last change.
        sha256: Digest of the content.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    mtime_ns: int
    sha256: str


class Manifest(BaseModel):
    """Origin and files of a model folder.

    Attributes:
        origin: Where it came from.
        files: Name to facts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: Origin
    files: dict[str, FileFacts]


def write_manifest(folder: Path, origin: Origin) -> None:
    """Record every file of a finished folder."""
    files = {path.name: _facts(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    _write(folder, Manifest(origin=origin, files=files))


def find_fault(folder: Path) -> str | None:
    """Return what is wrong with a folder, in a few words; None when it is as it was made.

    Content is only read where a file's time has changed. A folder without a manifest was not made here but put there
    by someone: it is taken as it is when it looks like a model.
    """
    path = folder / MANIFEST
    if not path.is_file():
        ours = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
        return None if ours else "holds no model"
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError:
        return f"{MANIFEST} cannot be read"
    touched = False
    for name, facts in manifest.files.items():
        fault, changed = _file_fault(folder / name, facts)
        if fault is not None:
            return f"{name} {fault}"
        touched |= changed
    if touched:
        _refresh(folder, manifest)
    return None


def _file_fault(path: Path, facts: FileFacts) -> tuple[str | None, bool]:
    """Return a file's fault, and whether only its time has changed."""
    if not path.is_file():
        return "is missing", False
    status = path.stat()
    if status.st_size != facts.size:
        return f"must have {facts.size} bytes, has {status.st_size}", False
    if status.st_mtime_ns == facts.mtime_ns:
        return None, False
    return (None, True) if digest_file(path) == facts.sha256 else ("was changed", False)


def _refresh(folder: Path, manifest: Manifest) -> None:
    """Take up the files' new times, so that the next start need not read them; a read-only cache stays as it is."""
    times = {name: (folder / name).stat().st_mtime_ns for name in manifest.files}
    files = {name: facts.model_copy(update={"mtime_ns": times[name]}) for name, facts in manifest.files.items()}
    try:
        _write(folder, Manifest(origin=manifest.origin, files=files))
    except OSError:
        return


def digest_file(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _facts(path: Path) -> FileFacts:
    status = path.stat()
    return FileFacts(size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=digest_file(path))


def _write(folder: Path, manifest: Manifest) -> None:
    write_text_atomically(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
