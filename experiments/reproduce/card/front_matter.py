"""Reads the front matter of a card, also where it was joined into one line or lost its indentation."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.reproduce.card.card_text import CardText
from experiments.reproduce.card.safe_yaml import documents

_FRONT = re.compile(r"\s*---\s(.*?)\s---(?=\s|$)", re.DOTALL)
_HEADING = re.compile(r"(?:^|(?<=\s))#[ ]+(\S[^\n#]*)")
_RESULT = re.compile(
    r"dataset:\s+(?P<dataset>.*?)\bmetrics:\s+(?P<metrics>.*?)(?=\bsource:|\bdataset:|-\s+task:|\Z)", re.DOTALL
)
_NAME = re.compile(r"\bname:\s+['\"]?(.+?)['\"]?(?=\s+(?:-\s+)?[a-z_]+:\s|\s*$)", re.DOTALL)
_TYPE = re.compile(r"\btype:\s+['\"]?(\S+?)['\"]?(?=\s|$)")
_CONFIG = re.compile(r"\bconfig:\s+['\"]?([\w-]+)['\"]?(?=\s|$)")
_SHOTS = re.compile(r"\bnum_few_?shots?:\s+(\d+)")
_VALUE = re.compile(r"\bvalue:\s+['\"]?(-?\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class ModelIndexResult:
    """One result of a model-index.

    Attributes:
        dataset: Name of the data set, as people read it.
        dataset_type: Its id.
        config: Its part, such as a subject of MMLU; empty for none.
        shots: Number of few-shot examples; None where it is not given.
        metric: Type and name of the metric.
        metric_type: Its type alone.
        value: As written.
    """

    dataset: str
    dataset_type: str
    config: str
    shots: int | None
    metric: str
    metric_type: str
    value: float


@dataclass(frozen=True)
class FrontMatter:
    """The front matter of a card.

    Attributes:
        fields: Its keys; empty where it is missing or is no YAML.
        results: Results of its model-index.
        title: Name of the model.
        end: Offset at which the text of the card begins.
    """

    fields: Mapping[str, Any]
    results: tuple[ModelIndexResult, ...]
    title: str
    end: int

    @property
    def parents(self) -> tuple[str, ...]:
        """The models that it names under ``base_model``."""
        named = self.fields.get("base_model")
        listed = named if isinstance(named, list) else [named]
        return tuple(name for name in listed if isinstance(name, str))


def read_front_matter(page: CardText) -> FrontMatter:
    """Return the front matter of a card; empty where there is none."""
    match = _FRONT.match(page.text)
    block, end = ("", 0) if match is None else (match.group(1), match.end())
    read = documents(block) if block else []
    fields = read[0] if len(read) == 1 and isinstance(read[0], dict) else {}
    heading = _heading(page.text[end:])
    model = _this_model(fields.get("model-index"), heading)
    results = tuple(_structured(model)) or tuple(_flattened(block))
    return FrontMatter(fields, results, str(model.get("name") or heading), end)


def _this_model(index: object, heading: str) -> Mapping[str, Any]:
    """Return the card's own model in a model-index: the one named in the heading, else the first."""
    models = [model for model in index if isinstance(model, dict)] if isinstance(index, list) else []
    named = [model for model in models if model.get("name") and str(model["name"]).casefold() in heading.casefold()]
    return next(iter(named or models), {})


def _heading(text: str) -> str:
    heading = _HEADING.search(text)
    if heading is None:
        return ""
    words = heading.group(1).split()
    return heading.group(1).strip() if "\n" in text.strip() else words[0]


def _structured(model: Mapping[str, Any]) -> list[ModelIndexResult]:
    """Return the results of one model of a well-formed model-index."""
    entries = []
    results = model.get("results")
    for result in results if isinstance(results, list) else []:
        dataset = result.get("dataset") if isinstance(result, dict) else None
        if not isinstance(dataset, dict):
            continue
        args = dataset.get("args")
        shots = args.get("num_few_shot", args.get("num_fewshot")) if isinstance(args, dict) else None
        metrics = result.get("metrics")
        for metric in metrics if isinstance(metrics, list) else []:
            value = _number(metric.get("value")) if isinstance(metric, dict) else None
            if value is not None:
                kind, name = str(metric.get("type") or ""), str(metric.get("name") or "")
                number = shots if isinstance(shots, int) else None
                label, type_, config = (str(dataset.get(key) or "") for key in ("name", "type", "config"))
                entries.append(ModelIndexResult(label, type_, config, number, f"{kind} {name}", kind, value))
    return entries


def _flattened(block: str) -> list[ModelIndexResult]:
    """Return the results of a model-index whose line breaks or indentation are lost."""
    found = []
    for result in _RESULT.finditer(block):
        dataset, metrics = result.group("dataset"), result.group("metrics")
        name, kind, shots = _NAME.search(dataset), _TYPE.search(dataset), _SHOTS.search(dataset)
        config = _CONFIG.search(dataset)
        for part in re.split(r"-\s+(?=type:|name:|value:)", metrics):
            value, metric, words = _VALUE.search(part), _TYPE.search(part), _NAME.search(part)
            if value is not None:
                type_, label = metric.group(1) if metric else "", words.group(1) if words else ""
                found.append(
                    ModelIndexResult(
                        name.group(1) if name else "",
                        kind.group(1) if kind else "",
                        config.group(1) if config else "",
                        int(shots.group(1)) if shots else None,
                        f"{type_} {label}",
                        type_,
                        float(value.group(1)),
                    )
                )
    return found


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(str(value).rstrip("% "))
    except ValueError:
        return None
