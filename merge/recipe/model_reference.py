"""Model references, ``path-or-hub-id[@revision][+lora[@revision]]``, and where they lie on disk."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.documents import one_line
from merge.errors import CheckpointError
from merge.user_cache import user_cache


@dataclass(frozen=True)
class ModelReference:
    """A model, perhaps with an adapter folded in.

    Args:
        path: A folder or a hub id.
        revision: Branch, tag or commit of a hub id.
        lora: A folder or hub id of a LoRA adapter.
        lora_revision: Branch, tag or commit of the adapter.
    """

    path: str
    revision: str | None = None
    lora: str | None = None
    lora_revision: str | None = None

    def __str__(self) -> str:
        adapter = "" if self.lora is None else "+" + _joined(self.lora, self.lora_revision)
        return _joined(self.path, self.revision) + adapter

    @property
    def base(self) -> str:
        """The reference without its adapter."""
        return _joined(self.path, self.revision)

    @property
    def adapter(self) -> str | None:
        """The reference of the adapter alone."""
        return None if self.lora is None else _joined(self.lora, self.lora_revision)


def parse(text: str) -> ModelReference:
    """Take a reference apart.

    >>> parse("org/base@main+adapters/math")
    ModelReference(path='org/base', revision='main', lora='adapters/math', lora_revision=None)

    Raises:
        CheckpointError: A part is empty, or there are two adapters.
    """
    parts = text.split("+")
    if len(parts) > 2 or not all(part.split("@")[0].strip() for part in parts):
        raise CheckpointError(f"{text!r}: must be path[@revision] or path[@revision]+lora[@revision]")
    path, _, revision = parts[0].partition("@")
    lora, _, lora_revision = parts[1].partition("@") if len(parts) == 2 else ("", "", "")
    return ModelReference(path, revision or None, lora or None, lora_revision or None)


def reference_text(value: object) -> str | None:
    """Return a reference in its short form: as written, or from mergekit's long form; None where it is neither."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping) or not set(value) <= {"model", "lora", "override_architecture"}:
        return None
    parts = [_part(value.get("model"))] + ([_part(value["lora"])] if value.get("lora") else [])
    return None if None in parts else "+".join(str(part) for part in parts)


def models_roots(folders: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Return the folders to look for models in: some folders, those of ``MERGESEARCH_MODELS``, the user's cache."""
    named = [Path(part) for part in os.environ.get("MERGESEARCH_MODELS", "").split(os.pathsep) if part]
    cached = user_cache() / "models"
    return (*folders, *named, *([cached] if cached.is_dir() else []))


def resolve(reference: str, models_roots: Sequence[Path] = ()) -> Path:
    """Return the folder of a model or adapter: an existing folder, one below a root, or a hub snapshot.

    Raises:
        CheckpointError: It is nowhere.
    """
    parsed = parse(reference)
    try:
        for folder in (Path(parsed.path).expanduser(), *(Path(root) / parsed.path for root in models_roots)):
            if folder.is_dir():
                return folder.resolve()
            if folder.is_file():
                raise CheckpointError(
                    f"{reference}: must be a folder, got a file: {folder}; name the folder it lies in"
                )
    except (OSError, RuntimeError) as error:  # a name that is too long, the home of nobody
        said = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{one_line(reference, 200)}: must be the name of a folder or of the hub: {said}"
        ) from None
    return _snapshot(parsed, [str(root) for root in models_roots])


def _snapshot(reference: ModelReference, roots: Sequence[str]) -> Path:
    looked = f"no such folder{f', nor below {chr(44).join(roots)}' if roots else ''}"
    remedy = "give a folder, set --models-root or MERGESEARCH_MODELS, or go online"
    if reference.path.count("/") > 1 or reference.path.startswith((".", "/", "~")):
        raise CheckpointError(f"{reference.path}: {looked}; {remedy}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    wanted = ["*.safetensors", "*.json", "*.model", "*.jinja", "*.txt", "*.bin"]
    try:
        found = snapshot_download(
            reference.path, revision=reference.revision, allow_patterns=wanted, local_files_only=offline
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        said = str(error).splitlines()[0].removeprefix("Got: ")
        why = "not in the hub's cache and HF_HUB_OFFLINE is set" if offline else f"the hub gives: {said}"
        raise CheckpointError(f"{reference.path}: {looked}, and {why}; {remedy}") from None
    return Path(found)


def _joined(path: str, revision: str | None) -> str:
    return path if revision is None else f"{path}@{revision}"


def _part(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("path"), str) and set(value) <= {"path", "revision"}:
        return _joined(str(value["path"]), None if value.get("revision") is None else str(value["revision"]))
    return None
