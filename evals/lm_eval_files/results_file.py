"""lm-eval's results document: the same structure as ``lm_eval --output_path`` writes, made of our answers.

Groups are put together by lm-eval's own group objects, leaves by its own aggregation and standard errors, so that a
tool that reads lm-eval's files reads these.
"""

import importlib.metadata
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from evals.scores.aggregation import BOOTSTRAP_ITERS, leaf_score
from evals.scores.results import Item, Results
from evals.tasks.loading import LoadedTask
from evals.tasks.metrics import GOLD_BITS, GOLD_PROB, filter_names, metric_key

Document = dict[str, Any]


def lm_eval_document(
    tasks: Sequence[LoadedTask], results: Results, *, bootstrap_iters: int = BOOTSTRAP_ITERS
) -> Document:
    """Return what lm-eval's ``evaluate`` returns, from ``results`` to ``n-samples``; our metrics stand beside its own.

    Args:
        tasks: The tasks.
        results: Fresh answers, with their raw values.
        bootstrap_iters: As lm-eval's option; 0 leaves standard errors out.
    """
    answers = _by_leaf(results)
    asked = [loaded for loaded in tasks if loaded.name in answers]
    measured = {loaded.name: _leaf(loaded, answers[loaded.name], bootstrap_iters) for loaded in asked}
    groups = _groups(asked)
    shots = {loaded.name: int(loaded.task.get_config("num_fewshot") or 0) for loaded in asked}
    directions: dict[str, dict[str, bool | None]] = {
        loaded.name: {**loaded.task.higher_is_better(), **_own_directions(loaded)} for loaded in asked
    }
    versions: dict[str, Any] = {loaded.name: loaded.task.VERSION for loaded in asked}
    aggregated: dict[str, Any] = {}
    for group in groups:
        measured[group.name] = group.aggregate(measured)
        versions[group.name] = group.version
        if group.has_aggregation:
            aggregated[group.name] = dict(measured[group.name])
        below = [name for name in group.child_names if name in shots]
        if len({shots[name] for name in below}) == 1:
            shots[group.name] = shots[below[0]]
        directions[group.name] = _common([directions[name] for name in group.child_names if name in directions])
    return {
        "results": measured,
        **({"groups": aggregated} if aggregated else {}),
        "group_subtasks": {group.name: group.child_names for group in groups},
        "configs": {loaded.name: _config(loaded.task) for loaded in sorted(asked, key=_name)},
        "versions": dict(sorted(versions.items())),
        "n-shot": dict(sorted(shots.items())),
        "higher_is_better": dict(sorted(directions.items())),
        "n-samples": {
            loaded.name: {
                "original": len(loaded.task.eval_docs),
                "effective": measured[loaded.name]["sample_len"],
            }
            for loaded in asked
        },
    }


def versions_of_libraries() -> dict[str, str]:
    """Return the versions that lm-eval writes beside its results."""
    return {f"{name}_version": importlib.metadata.version(name) for name in ("lm_eval", "transformers")}


def to_text(document: Mapping[str, Any]) -> str:
    """Return the document as JSON text; what JSON cannot hold is written as lm-eval writes it."""
    from lm_eval.utils import handle_non_serializable

    return json.dumps(document, indent=2, default=handle_non_serializable, ensure_ascii=False) + "\n"


def _config(task: Any) -> Document:
    """Return the task's settings, without the temporary file that they were loaded from."""
    config = dict(task.dump_config())
    if isinstance(config.get("metadata"), dict):
        config["metadata"] = {key: value for key, value in config["metadata"].items() if key != "config_source"}
    return config


def _name(loaded: LoadedTask) -> str:
    return loaded.name


def _by_leaf(results: Results) -> dict[str, dict[str, list[Item]]]:
    found: defaultdict[str, dict[str, list[Item]]] = defaultdict(dict)
    for item in results.items:
        found[item.leaf].setdefault(item.metric, []).append(item)
    return dict(found)


def _leaf(loaded: LoadedTask, items: Mapping[str, Sequence[Item]], bootstrap_iters: int) -> Document:
    """Return one leaf's entry: ``metric,filter`` and ``metric_stderr,filter``."""
    entry: Document = {
        "name": loaded.name,
        "alias": loaded.task.dump_config().get("task_alias", loaded.name),
        "sample_len": max(len(listed) for listed in items.values()),
    }
    for key, listed in items.items():
        metric, name = split_key(loaded.task, key)
        score = leaf_score(loaded, key, listed, bootstrap_iters=bootstrap_iters)
        entry[f"{metric},{name}"] = score.value
        entry[f"{metric}_stderr,{name}"] = "N/A" if score.stderr is None else score.stderr
    return entry


def split_key(task: Any, key: str) -> tuple[str, str]:
    """Return metric and filter of one of our keys."""
    for name in filter_names(task):
        metric = key.removesuffix(f"/{name}")
        if metric_key(task, metric, name) == key:
            return metric, name
    return key, "none"


def _own_directions(loaded: LoadedTask) -> dict[str, bool]:
    return {name: loaded.higher_is_better[name] for name in (GOLD_PROB, GOLD_BITS) if name in loaded.metrics}


def _groups(tasks: Sequence[LoadedTask]) -> list[Any]:
    """Return every group of the labels, those inside others first."""
    found: dict[str, Any] = {}

    def visit(group: Any) -> None:
        for child in group.get_all_groups(recursive=False):
            visit(child)
        found.setdefault(group.name, group)

    for loaded in tasks:
        if loaded.group is not None:
            visit(loaded.group)
    return list(found.values())


def _common(parts: Sequence[Mapping[str, bool | None]]) -> dict[str, bool | None]:
    """Return each metric's direction, None where the parts do not agree."""
    common: dict[str, bool | None] = {}
    for part in parts:
        for metric, higher in part.items():
            common[metric] = higher if common.get(metric, higher) == higher else None
    return common
