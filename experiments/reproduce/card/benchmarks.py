"""What benchmarks are called on cards, and which lm-eval task, metric and shots each name stands for."""

import re
from dataclasses import dataclass

V2 = "open-llm-v2"
"""Suite of the leaderboard whose scores are normalised."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as cards call it.

    Attributes:
        pattern: Regular expression of its names, matched without regard to case.
        task: lm-eval's task or group; with ``{}`` where a subject is part of the name.
        metric: What a leaderboard shows of it.
        shots: Its usual number of examples; None where the task fixes it.
        suite: Suite that normalises its score, empty for none.
    """

    pattern: str
    task: str
    metric: str
    shots: int | None
    suite: str = ""


@dataclass(frozen=True)
class TaskRequest:
    """The lm-eval evaluation that a published score stands for.

    Attributes:
        task: lm-eval's task.
        metric: Its metric; empty for the suite's own.
        shots: Few-shot examples; None keeps the task's own number.
        suite: Suite that normalises the score, empty for none.
    """

    task: str
    metric: str
    shots: int | None
    suite: str = ""


_ARC = "arc_challenge"
_MATCH = "exact_match/strict-match"
SUBJECTS = (
    "abstract_algebra|anatomy|astronomy|business_ethics|clinical_knowledge|college_biology|"
    "college_chemistry|college_computer_science|college_mathematics|college_medicine|college_physics|"
    "computer_security|conceptual_physics|econometrics|electrical_engineering|elementary_mathematics|"
    "formal_logic|global_facts|high_school_biology|high_school_chemistry|high_school_computer_science|"
    "high_school_european_history|high_school_geography|high_school_government_and_politics|"
    "high_school_macroeconomics|high_school_mathematics|high_school_microeconomics|high_school_physics|"
    "high_school_psychology|high_school_statistics|high_school_us_history|high_school_world_history|"
    "human_aging|human_sexuality|international_law|jurisprudence|logical_fallacies|machine_learning|"
    "management|marketing|medical_genetics|miscellaneous|moral_disputes|moral_scenarios|nutrition|"
    "philosophy|prehistory|professional_accounting|professional_law|professional_medicine|"
    "professional_psychology|public_relations|security_studies|sociology|us_foreign_policy|virology|"
    "world_religions"
)
"""Subjects of MMLU, as a regular expression; none is the beginning of another."""

_SUBJECT = f"(?P<subject>{SUBJECTS.replace('_', '[ _]')})"

BENCHMARKS = (
    Benchmark(r"MMLU[ _-]?Pro", "leaderboard_mmlu_pro", "", None, V2),
    Benchmark(r"IF[ _-]?Eval", "leaderboard_ifeval", "", None, V2),
    Benchmark(r"BBH|Big[ -]?Bench[ -]?Hard", "leaderboard_bbh", "", None, V2),
    Benchmark(r"MATH[ _-]*(?:\(?(?:Lvl|Level|lv|hard)[ .]*5?\)?|5\b)", "leaderboard_math_hard", "", None, V2),
    Benchmark(r"GPQA", "leaderboard_gpqa", "", None, V2),
    Benchmark(r"MuSR", "leaderboard_musr", "", None, V2),
    Benchmark(r"(?:ai2[ _])?ARC[ _-]?(?:E\b|Easy)", "arc_easy", "acc_norm", 0),
    Benchmark(r"AI2[ _]?Reasoning[ _]?Challenge|(?:ai2_)?ARC(?:[ _-]?(?:Challenge|C\b))?", _ARC, "acc_norm", 25),
    Benchmark(r"Hella[ _]?Swag", "hellaswag", "acc_norm", 10),
    Benchmark(rf"(?:HendrycksTest|MMLU)(?:[ ]?[-_:/][ ]?|[ ]\(?){_SUBJECT}\)?", "mmlu_{}", "acc", 5),
    Benchmark(rf"{_SUBJECT}[ ]\(?MMLU\)?", "mmlu_{}", "acc", 5),
    Benchmark(r"MMLU|HendrycksTest", "mmlu", "acc", 5),
    Benchmark(r"Truthful[ _]?QA[ _]?\(?MC[ _]?1\)?", "truthfulqa_mc1", "acc", None),
    Benchmark(r"Truthful[ _]?QA(?:[ _]?\(?MC[ _]?2?\)?)?", "truthfulqa_mc2", "acc", None),
    Benchmark(r"Wino[ _]?grande", "winogrande", "acc", 5),
    Benchmark(r"GSM[ _-]?8K?", "gsm8k", _MATCH, 5),
    Benchmark(r"AGI[ _]?Eval", "agieval_nous", "acc_norm", 0),
    Benchmark(r"BoolQ", "boolq", "acc", 0),
    Benchmark(r"PIQA", "piqa", "acc_norm", 0),
    Benchmark(r"Open[ _]?Book[ _]?QA", "openbookqa", "acc_norm", 0),
)  # fmt: skip

AVERAGE = r"Average|Avg\.?|Mean score"
CATEGORIES = {"gpt4all": "GPT4All", "bigbench": "BigBench", "big-bench": "BigBench"}
"""Names that stand for several tasks at once, of the suite ``nous``."""

_NAMES = [(re.compile(rf"(?<![\w/-])(?:{b.pattern})(?![A-Za-z0-9])", re.IGNORECASE), b) for b in BENCHMARKS]
_SHOTS = re.compile(r"(\d+)[ -]?shots?\b", re.IGNORECASE)
_METRICS = (
    (re.compile(r"acc_norm|normali[sz]ed acc\w*|acc\w*[ _(]+norm", re.I), "acc_norm"),
    (re.compile(r"strict[- ]match|exact[ _]match,?strict", re.I), _MATCH),
    (re.compile(r"flexible", re.I), "exact_match/flexible-extract"),
    (re.compile(r"exact[ _]match|\bem\b", re.I), "exact_match"),
    (re.compile(r"\bacc(?:uracy)?\b", re.I), "acc"),
)


def find_name(text: str) -> tuple[Benchmark, re.Match[str]] | None:
    """Return the benchmark that a text names first, and where; the longest of several that begin there."""
    found = [(match, benchmark) for pattern, benchmark in _NAMES if (match := pattern.search(text))]
    if not found:
        return None
    match, benchmark = min(found, key=lambda pair: (pair[0].start(), -len(pair[0].group())))
    return benchmark, match


def metric_named(text: str) -> str:
    """Return lm-eval's name of a metric as cards call it; empty where there is none."""
    return next((metric for pattern, metric in _METRICS if pattern.search(text)), "")


def shots_named(text: str) -> int | None:
    """Return the number of shots that a text gives; None where it gives none."""
    match = _SHOTS.search(text)
    return None if match is None else int(match.group(1))


def task_request(name: str, metric: str = "", shots: int | None = None) -> TaskRequest | None:
    """Return the evaluation that a published name stands for; None where the name is unknown.

    Args:
        name: As published, shots and metric perhaps in it.
        metric: As published elsewhere.
        shots: As published elsewhere.
    """
    found = find_name(name)
    if found is None:
        return None
    benchmark, match = found
    named_metric = metric_named(f"{name[match.end() :]} {metric}")
    task = benchmark.task
    if "{}" in task:
        task = task.format(re.sub(r"[ _]+", "_", match.group("subject").strip().lower()))
    if shots is None:
        shots = shots_named(name)
    if benchmark.suite or benchmark.shots is None:
        return TaskRequest(task, benchmark.metric, None, benchmark.suite)
    accuracy_of_match = benchmark.metric == _MATCH and named_metric in ("acc", "exact_match")
    chosen = named_metric if named_metric and not accuracy_of_match else benchmark.metric
    return TaskRequest(task, chosen, benchmark.shots if shots is None else shots)
