"""Loads lm-eval tasks, from the hub, from a folder or from the embedded questions, once per study."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from evals.errors import DataError, TaskError, reason
from evals.tasks import local_data
from evals.tasks.index import find_files, lm_eval_folder, read_yaml
from evals.tasks.lm_eval_setup import LM_EVAL_SEEDS, ask_hub, find_punkt, is_offline, lm_eval_random_state, offline
from evals.tasks.metrics import canonical_metric, directions, is_multiple_choice, metric_names

MINI = Path(__file__).parent.parent / "mini"
"""Folder of the embedded tasks, whose names start with ``mini``."""

_log = logging.getLogger(__name__)


class TaskSpec(BaseModel):
    """One task of a study or suite, as a user writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    task: str = Field(min_length=1)
    """Name of an lm-eval task, group or tag, or of an embedded task (``mini_*``)."""
    metric: str | None = None
    """Metric to judge by, such as ``acc_norm``, ``gold_prob``, ``gold_bits_per_byte``; unset: the first of the task."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples in the prompt; unset: the task's own number. As in lm-eval, a task that says 0 stays at 0."""
    fewshot: Literal["official", "fixed"] = "official"
    """``official`` draws examples anew for every question, as lm-eval does. ``fixed`` shows every question the same:
    several times cheaper and another score, so for searching only."""
    weight: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    """Share in the study's objective; 0 measures the task without counting it."""


class Opened(NamedTuple):
    """lm-eval's objects of one leaf: the task, and the group that it was asked for through, if any."""

    task: Any
    group: Any = None


@dataclass(frozen=True)
class LoadedTask:
    """One leaf task, ready to be asked.

    Attributes:
        label: The name that was asked for, e.g. ``mmlu``.
        name: The leaf, e.g. ``mmlu_anatomy``.
        spec: As asked, its metric's name made canonical.
        metrics: Every metric that can be computed: lm-eval's, ``gold_prob``, ``gold_bits_per_byte``.
        default_metric: The metric to judge by when the spec names none.
        higher_is_better: Direction of each metric.
        opened: Returns lm-eval's objects, opened when first asked for.
        multiple_choice: Whether it compares the likelihoods of choices.
        fingerprint: Hash of all that its prompts depend on but the tokenizer; None when that is not known.
        memo: What has been worked out from its rows, so that it is done once.
    """

    label: str
    name: str
    spec: TaskSpec
    metrics: tuple[str, ...]
    default_metric: str
    higher_is_better: dict[str, bool]
    opened: Callable[[], Opened] = field(repr=False, compare=False)
    multiple_choice: bool = False
    fingerprint: str | None = field(default=None, repr=False, compare=False)
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def task(self) -> Any:
        """lm-eval's task object."""
        return self.opened().task

    @property
    def group(self) -> Any:
        """lm-eval's group object of `label`, which defines how leaves are aggregated; None for a single task."""
        return self.opened().group


def load_tasks(
    specs: Sequence[TaskSpec],
    *,
    data: Path | None = None,
    include_path: Path | None = None,
    place: str = "evaluate.tasks",
) -> tuple[LoadedTask, ...]:
    """Load tasks and their data; groups and tags become their leaves.

    Args:
        specs: What to load; every name once.
        data: Folder with ``TASK/SPLIT.jsonl`` in the hub's schema; nothing is asked of any network. Unset: the hub.
        include_path: Folder with more task files in lm-eval's format; they win over lm-eval's of the same name.
        place: Where `specs` was written, for error messages.

    Raises:
        TaskError: A task or metric is not known, or a task is listed twice.
        DataError: Files, columns or rows are missing, or the hub does not answer.
    """
    twice = {spec.task for spec in specs if sum(other.task == spec.task for other in specs) > 1}
    if twice:
        raise TaskError(f"{place}: must list a task once, got {', '.join(sorted(twice))} twice; remove one")
    if data is not None and not data.is_dir():
        raise DataError(f"{place}: data: must be a folder with TASK/SPLIT.jsonl, got {data}, which is not there")
    files = [_files_of(spec, include_path, f"{place}[{i}].task") for i, spec in enumerate(specs)]
    remote = [spec for spec, found in zip(specs, files, strict=True) if not (_is_mini(spec) or _local_files(found))]
    needs_hub = data is None and bool(remote)
    silent = needs_hub and not is_offline() and _hub_is_silent()
    if silent:
        _log.warning("the hub does not answer: only what is cached can be used; or give a folder with --data DIR")
    loaded: list[LoadedTask] = []
    with nullcontext() if needs_hub and not silent else offline():
        for i, (spec, found) in enumerate(zip(specs, files, strict=True)):
            loaded += _load(spec, found, data, f"{place}[{i}]")
    leaves = [task.name for task in loaded]
    if repeated := sorted({name for name in leaves if leaves.count(name) > 1}):
        raise TaskError(f"{place}: must hold a task once, got {', '.join(repeated)} in two entries; remove one")
    return tuple(loaded)


def _hub_is_silent() -> bool:
    """Ask the hub, and import lm-eval, which takes as long, before its answer is waited for."""
    answers = ask_hub()
    import lm_eval.tasks  # noqa: F401

    return not answers()


def _is_mini(spec: TaskSpec) -> bool:
    return spec.task.startswith("mini")


def _local_files(found: dict[str, Path]) -> bool:
    tasks = [document for path in found.values() if "group" not in (document := read_yaml(path))]
    return bool(tasks) and all(document.get("dataset_path") in {"json", "csv", "parquet", "text"} for document in tasks)


def _files_of(spec: TaskSpec, include_path: Path | None, place: str) -> dict[str, Path]:
    own = [] if include_path is None else [include_path]
    if include_path is not None and not include_path.is_dir():
        raise TaskError(f"{place}: include_path: must be a folder with task files, got {include_path}")
    return find_files(spec.task, [*own, MINI] if _is_mini(spec) else [*own, lm_eval_folder() / "tasks"], place)


def _wrapper(path: Path) -> dict[str, object]:
    """Return a task file that includes `path` by its absolute name; an embedded file is resolved here."""
    document = read_yaml(path)
    if path.is_relative_to(MINI):
        included = str(document.get("include", ""))
        if included.startswith("lm_eval/"):
            document["include"] = str(lm_eval_folder().parent / included)
        kwargs = document.get("dataset_kwargs")
        if isinstance(kwargs, dict) and isinstance(kwargs.get("data_files"), dict):
            kwargs["data_files"] = {split: str(MINI / file) for split, file in kwargs["data_files"].items()}
        return document
    kept = {key: document[key] for key in ("task", "group") if isinstance(document.get(key), str)}
    return {"include": str(path), **kept}


def _write(folder: Path, documents: dict[str, dict[str, object]]) -> Path:
    folder.mkdir()
    for i, document in enumerate(documents.values()):
        (folder / f"{i:05d}.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return folder


def _load(spec: TaskSpec, files: dict[str, Path], data: Path | None, place: str) -> list[LoadedTask]:
    label = f"{place}.task {spec.task!r}"
    if any(_needs_punkt(path) for path in files.values()):
        find_punkt([] if data is None else [data / "nltk_data"], label, plain=_is_mini(spec))
    with TemporaryDirectory(prefix="mergesearch-tasks-") as temporary, lm_eval_random_state():
        from datasets import disable_progress_bars
        from datasets.utils.logging import CRITICAL, set_verbosity
        from lm_eval.tasks import TaskManager

        set_verbosity(CRITICAL)  # our own messages tell its faults
        disable_progress_bars()  # they stand between the lines of a terminal; downloads keep theirs

        documents = {name: _wrapper(path) for name, path in files.items()}
        manager = TaskManager(include_path=str(_write(Path(temporary, "plain"), documents)), include_defaults=False)
        if data is not None and not _is_mini(spec):
            for name, entry in manager.task_index.items():
                if name in documents and "group" not in documents[name] and not _local_files({name: files[name]}):
                    documents[name] |= local_data.overrides(name, entry.cfg, data, shots=spec.num_fewshot, place=label)
            folder = _write(Path(temporary, "local"), documents)
            manager = TaskManager(include_path=str(folder), include_defaults=False)
        return _open(spec, manager, data, label)


def _needs_punkt(path: Path) -> bool:
    included = _wrapper(path).get("include") or path.name
    files = included if isinstance(included, list) else [included]
    folders = {path.parent, *((path.parent / str(file)).parent for file in files)}
    return any(b"punkt" in script.read_bytes() for folder in folders for script in folder.glob("*.py"))


def _open(spec: TaskSpec, manager: Any, data: Path | None, place: str) -> list[LoadedTask]:
    try:
        opened = manager.load([spec.task])
    except Exception as error:  # lm-eval, datasets and jinja2 raise their own, unrelated types here
        if local_data.is_schema_failure(error):
            where = "the hub's data" if data is None else f"the files below {data}"
            raise DataError(
                f"{place}: rows must have the columns that the task's template reads, got {reason(error)}; "
                f"compare {where} with the hub's schema of that data set"
            ) from error
        if local_data.is_hub_failure(error):
            raise DataError(
                f"{place}: its data set must come from the hub, got {reason(error)}; "
                "give a folder with its files (--data DIR) or connect"
            ) from error
        if local_data.is_data_failure(error):
            raise DataError(f"{place}: its data must load, got {reason(error)}; mend or replace the files") from error
        raise
    group = opened.get("groups", {}).get(spec.task)
    return [_loaded(spec, task, group, place) for task in opened["tasks"].values()]


def _loaded(spec: TaskSpec, task: Any, group: Any, place: str) -> LoadedTask:
    """Set shots and seed as lm-eval's ``simple_evaluate`` does, and name the metrics."""
    own = task.get_config("num_fewshot")
    if spec.num_fewshot is not None and own != 0:
        task.set_config(key="num_fewshot", value=spec.num_fewshot)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    if own == 0 and spec.num_fewshot:
        _log.warning("%s: the task fixes num_fewshot at 0; %d is ignored, as in lm-eval", place, spec.num_fewshot)
    task.set_fewshot_seed(seed=LM_EVAL_SEEDS["fewshot"])
    names = metric_names(task)
    metric = None if spec.metric is None else canonical_metric(spec.metric, names, f"{place}: metric")
    return LoadedTask(
        label=spec.task,
        name=task.task_name,
        spec=spec.model_copy(update={"metric": metric}),
        metrics=names,
        default_metric=metric or names[0],
        higher_is_better=directions(task, names),
        opened=lambda: Opened(task, group),
        multiple_choice=is_multiple_choice(task),
    )
