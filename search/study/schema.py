"""What may stand in a study file, section by section, and what is said of what may not."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from evals.suites import suite_names
from evals.tasks.loading import TaskSpec
from search.objective.constraints import Bound
from search.samplers import sampler_names
from search.study.addresses import without_password

Address = Annotated[str, AfterValidator(without_password)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Counts = Count | Literal["all"] | dict[str, Count | Literal["all"]]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)


class QuestionCounts(_Section):
    """How many questions are used for what; the three sets never overlap.

    Each is a number for every task, ``all``, or a mapping with a number for each task.
    """

    search: Counts = 200
    """Questions that every candidate is scored on."""
    selection: Counts = 200
    """Questions that only the finalists are scored on, to name the winner."""
    test: Counts = "all"
    """Questions that only the winner and the baselines are scored on, for the verdict."""


class EvaluateSection(_Section):
    """What a candidate is scored on."""

    tasks: tuple[TaskSpec, ...] = ()
    """lm-eval tasks or groups, each once."""
    suite: str | None = None
    """Name of a ready list of tasks, instead of ``tasks``; ``mergesearch list suites`` lists them."""
    questions: QuestionCounts = QuestionCounts()
    """Sizes of the question sets."""
    data: str = "hub"
    """``hub``, or a folder with ``TASK/SPLIT.jsonl``."""
    include_path: str | None = None
    """Folder with more lm-eval task files."""
    apply_chat_template: bool = False
    """Wrap prompts in the model's chat template, as lm-eval's flag does."""
    system_instruction: str | None = None
    """System prompt, as lm-eval's flag."""
    fewshot_as_multiturn: bool = False
    """Give few-shot examples as turns of the conversation, as lm-eval's flag."""
    verdict: Literal["all", "asked"] = "all"
    """Metrics measured on the test questions: ``all`` of every task, or those that are ``asked`` for, which saves
    generating answers where only their likelihood is searched on."""
    engine: Literal["live", "hf", "vllm"] = "live"
    """What answers: ``live`` (ours), ``hf`` (lm-eval's HFLM) or ``vllm`` (extra ``vllm``)."""
    search_on_test: bool = False
    """Draw search and selection questions from the test rows too; the verdict then estimates nothing new."""

    @model_validator(mode="after")
    def _one_source_of_tasks(self) -> "EvaluateSection":
        if bool(self.tasks) == (self.suite is not None):
            raise ValueError("exactly one of tasks and suite must be given")
        if self.suite is not None and self.suite not in suite_names():
            raise ValueError(f"suite must be one of {', '.join(suite_names())}, got {self.suite!r}")
        labels = [spec.task for spec in self.tasks]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"task '{twice}' is listed twice; name a task once")
        for part, counts in self.questions.model_dump().items():
            if self.tasks and isinstance(counts, dict) and set(counts) != set(labels):
                raise ValueError(f"questions.{part} must have a number for each of {', '.join(labels)} and no other")
        if self.tasks and not any(spec.weight > 0 for spec in self.tasks):
            raise ValueError("at least one task must have a weight above 0")
        return self


class SearchSection(_Section):
    """How the space is searched."""

    sampler: str = "auto"
    """What proposes candidates; ``auto`` picks one that suits space, budget and objective."""
    sampler_args: dict[str, float | int | bool | str] = {}
    """Arguments of the sampler, by Optuna's names."""
    trials: Annotated[int, Field(ge=0)] = 100
    """Budget in candidates, baselines not counted."""
    race: bool = True
    """Stop a candidate as soon as its answers show it worse than the best so far."""
    race_level: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """A candidate is stopped when its chance to catch up is below this."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Decides question sets, proposals and random masks."""
    objective: Literal["mean", "pareto"] = "mean"
    """``mean``: the weighted mean over the tasks. ``pareto``: all trade-offs between the tasks; the verdict has the
    whole front, and its winner is the best mean among it."""
    race_against: Literal["everyone", "candidates"] = "everyone"
    """``candidates``: race candidates with each other alone, so that the best one answers all, as a duel needs."""
    race_order: Literal["learned", "drawn"] = "learned"
    """``learned``: questions that the baselines disagree on are asked first. ``drawn``: evenly spread."""
    rung: Literal["none", "likelihood"] = "none"
    """``likelihood``: ask the likelihood of the right answer before a model generates its own, and stop there what is
    clearly worse; only where the study's candidates show that both rank them alike."""
    finalists: Count = 3
    """How many of the best candidates are scored on the selection questions."""
    mask_seeds: Annotated[int, Field(ge=0)] = 3
    """How many more random masks a winner of a random method is scored with on the test questions."""
    warm_start: tuple[str, ...] = ()
    """Folders of earlier studies, whose best recipes are asked first, and recipe files."""
    max_hours: Annotated[float, Field(gt=0)] | None = None
    """Ask for no more candidates after so many hours of one run; unset: never."""
    patience: Count | None = None
    """Ask for no more after so many candidates in a row without a new best; unset: never."""
    workers: Annotated[int, Field(ge=1, le=4096)] = 1
    """Processes on this host that score candidates at the same time; each holds a model of its own."""

    @model_validator(mode="after")
    def _known_sampler(self) -> "SearchSection":
        if self.sampler not in sampler_names():
            raise ValueError(f"sampler must be one of {', '.join(sampler_names())}, got '{self.sampler}'")
        if self.objective == "pareto" and self.sampler == "cmaes":
            raise ValueError("sampler cmaes has one objective, got objective 'pareto'; use nsga2, nsga3 or tpe")
        return self


class TrackingSection(_Section):
    """Where results are mirrored for people."""

    mlflow: Address | None = "sqlite:///mlflow.db"
    """An MLflow tracking URI without a password; null switches the mirror off."""


class StudyFile(_Section):
    """A whole study."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Name of the study, its folder and its MLflow experiment: letters, digits, dots, underscores and hyphens."""
    families: Annotated[dict[str, dict[str, object]], Field(min_length=1)]
    """Recipes with holes, by name."""
    baselines: dict[str, dict[str, object]] = {}
    """Known plain recipes, by name, scored beside parents, equal weights and task arithmetic."""
    evaluate: EvaluateSection
    """What candidates are scored on."""
    search: SearchSection = SearchSection()
    """How the space is searched."""
    constraints: dict[str, Bound] = {}
    """Limits of scores, by ``TASK/METRIC``; the task is among those evaluated, with weight 0 if it is no part of the
    objective."""
    store: Address | None = None
    """An Optuna storage URL without a password; unset: ``study.db`` in the study's folder."""
    tracking: TrackingSection = TrackingSection()
    """Where results are mirrored for people."""

    @model_validator(mode="after")
    def _constraints_are_measured(self) -> "StudyFile":
        labels = [spec.task for spec in self.evaluate.tasks]
        for key in self.constraints:
            task, _, metric = key.partition("/")
            if not metric:
                raise ValueError(f"constraints.{key}: must be TASK/METRIC, as in hellaswag/acc_norm")
            if labels and task not in labels:
                raise ValueError(
                    f"constraints.{key}: the task must be in evaluate.tasks, with weight 0 if it is no part of the "
                    f"objective; listed are {', '.join(labels)}"
                )
        return self


def faults(error: ValidationError, place: str) -> Iterator[str]:
    """Go through what is wrong with a study file, a line for each fault."""
    for fault in error.errors():
        location = [part for part in fault["loc"] if not str(part).startswith(("function-", "literal", "constrained"))]
        path = _path(location)
        if fault["type"] == "extra_forbidden":
            near = get_close_matches(str(location[-1]), _siblings(location[:-1]), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(_siblings(location[:-1]))}"
            yield f"{place}: {path}: unknown key; {hint}"
        elif fault["type"] == "missing":
            yield f"{place}: {path}: must be given"
        elif fault["type"] == "value_error":
            yield f"{place}: {path or 'study'}: {fault['ctx']['error']}"
        else:
            message = fault["msg"][0].lower() + fault["msg"][1:]
            yield f"{place}: {path}: {message}, got {_short(fault['input'])}"


def _path(location: Sequence[object]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _siblings(location: Sequence[object]) -> list[str]:
    """Return the keys that the section at a location takes."""
    model: type[BaseModel] = StudyFile
    for part in location:
        if part == "tasks" or isinstance(part, int):
            model = TaskSpec
        elif isinstance(part, str) and part in model.model_fields:
            kind = model.model_fields[part].annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return sorted(model.model_fields)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
