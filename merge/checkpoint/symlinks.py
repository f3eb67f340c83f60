"""What a model folder points to: files of that folder, for links also the blobs of the hub's cache, nothing else."""

from pathlib import Path

from merge.errors import CheckpointError

_READ = {".safetensors", ".json", ".bin", ".model", ".txt", ".jinja"}


def check_links(folder: Path) -> None:
    """Refuse a folder in which a file that may be read or copied is a link to somewhere else.

    Args:
        folder: The resolved folder of a model or an adapter. In a hub cache, ``.../snapshots/COMMIT``, whose files are
            links into ``.../blobs``.

    Raises:
        CheckpointError: A link leads out of it.
    """
    homes = [folder.resolve()]
    if folder.parent.name == "snapshots":
        homes.append((folder.parent.parent / "blobs").resolve())
    for file in sorted(folder.iterdir()):
        if file.suffix not in _READ or not file.is_symlink():
            continue
        target = file.resolve()
        if not any(target.is_relative_to(home) for home in homes):
            raise CheckpointError(f"{file}: must not lead out of the model's folder, got {target}; copy the file here")


def names_file_beside(name: object) -> bool:
    """Return whether what an index names can be a file in its own folder."""
    return isinstance(name, str) and name not in {"", ".", ".."} and Path(name).name == name and name.isprintable()
