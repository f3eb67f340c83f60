"""lm-eval's per-question samples, as ``--log_samples`` writes them, of the answers that an evaluation has just had."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from evals.evaluation import Evaluation
from evals.lm_eval_files.results_file import split_key
from evals.scores.results import Results
from evals.tasks.metrics import GOLD_BITS, GOLD_PROB

Sample = dict[str, Any]
_GOLDEN = (GOLD_PROB, GOLD_BITS)


def samples_of(evaluation: Evaluation, results: Results) -> dict[str, list[Sample]]:
    """Return for each leaf one sample per question and filter, in the order in which lm-eval has them.

    Args:
        evaluation: What was asked; it holds the last model's answers.
        results: What it made of them.
    """
    values: defaultdict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    for item in results.items:
        values[item.leaf, item.question][item.metric] = item.raw
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    places: dict[str, int] = {}
    for one in evaluation.asked:
        task, question = one.loaded.task, one.question
        by_filter: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        own = {key: raw for key, raw in values[question.task, question.id].items() if key not in _GOLDEN}
        for key, raw in own.items():
            metric, name = split_key(task, key)
            by_filter[name][metric] = raw
        golden = {key: raw for key, raw in values[question.task, question.id].items() if key in _GOLDEN}
        target = task.doc_to_target(one.doc)
        for name, metrics in by_filter.items():
            places.setdefault(name, len(places))
            sample = _sample(question.index, one.doc, target, one.own, name, {**metrics, **golden})
            samples[question.task].append(sample)
    return {leaf: sorted(listed, key=lambda sample: places[sample["filter"]]) for leaf, listed in samples.items()}


def sample_lines(samples: Sequence[Sample]) -> str:
    """Return samples as JSON Lines, with the fields in the form in which lm-eval writes them to a file."""
    from lm_eval.utils import handle_non_serializable, sanitize_list

    lines = []
    for sample in samples:
        arguments = {
            f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(parts)}
            for i, parts in enumerate(sample["arguments"])
        }
        written = {
            **sample,
            "target": str(sample["target"]),
            "arguments": arguments,
            "resps": sanitize_list(sample["resps"]),
            "filtered_resps": sanitize_list(sample["filtered_resps"]),
        }
        lines.append(json.dumps(written, default=handle_non_serializable, ensure_ascii=False) + "\n")
    return "".join(lines)


def _sample(
    place: int, doc: Any, target: Any, requests: Sequence[Any], name: str, metrics: Mapping[str, Any]
) -> Sample:
    from lm_eval.utils import handle_non_serializable, hash_string

    text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    return {
        "doc_id": place,
        "doc": doc,
        "target": target,
        "arguments": [request.args for request in requests],
        "resps": [request.resps for request in requests],
        "filtered_resps": [request.filtered_resps.get(name) for request in requests],
        "filter": name,
        "metrics": list(metrics),
        "doc_hash": hash_string(text),
        "prompt_hash": hash_string(requests[0].arguments[0]) if requests else "",
        "target_hash": hash_string(str(target)),
        **metrics,
    }
