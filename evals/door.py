"""The door of this room for notebooks and scripts: a live model, or a model folder, is scored on lm-eval's tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.cache.disk_cache import DiskCache
from evals.errors import EvalError, TaskError, reason
from evals.lm_eval_files.run_document import ScoredModel, run_document
from evals.model_scorer import ModelScorer, ScoringSettings, choose_tasks, load_chosen

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class EvaluationResult:
    """What a model scored.

    Attributes:
        results: lm-eval's results, with the keys of the file that ``mergesearch evaluate --output`` writes; the scores
            are ``results["results"][task]["metric,filter"]``.
        answers: One row per question and metric: ``task``, ``leaf`` (the sub-task), ``question`` (hash of its content),
            ``metric``, ``value`` and ``weight`` (bytes of the gold text for ``gold_bits_per_byte``, else 1).
    """

    results: dict[str, Any]
    answers: "pd.DataFrame"


def evaluate(
    model: Any,
    tasks: str | Sequence[str] | None = None,
    *,
    suite: str | None = None,
    num_fewshot: int | None = None,
    limit: int | None = None,
    data: str | Path = "hub",
    include_path: str | Path | None = None,
    tokenizer: Any = None,
    engine: str = "live",
    device: str = "cpu",
    dtype: str = "float32",
    apply_chat_template: bool = False,
    system_instruction: str | None = None,
    fewshot_as_multiturn: bool = False,
    cache: str | Path | None = None,
) -> EvaluationResult:
    """Score a model on tasks, as ``mergesearch evaluate`` does.

    Args:
        model: A causal language model of transformers in memory, which is left as it was; or a model folder or hub id.
            A recipe goes through ``merge.merge`` first.
        tasks: Names of lm-eval tasks or groups, or of the embedded ones (``mini_arc``), also as ``"a,b"``; with a
            suite, those of its tasks that are wanted.
        suite: Name of a suite, such as ``mini``; see ``mergesearch list suites``.
        num_fewshot: Examples in the prompt; None for each task's own number. A suite has its own.
        limit: First so many questions of each task; None for all.
        data: ``"hub"``, or a folder with ``TASK/SPLIT.jsonl``; then no network is asked.
        include_path: Folder with more task files in lm-eval's format.
        tokenizer: Of a model in memory; None loads that of its ``name_or_path``, or of the folder.
        engine: ``live`` shares prompts' beginnings; ``hf`` is lm-eval's own HFLM; ``vllm`` needs the extra and a GPU.
        device: Where a folder's model is loaded to, such as ``cpu`` or ``cuda``; a model in memory stays where it is.
        dtype: Of a folder's weights, such as ``float32`` or ``bfloat16``; a model in memory keeps its own.
        apply_chat_template: Wrap prompts in the tokenizer's chat template.
        system_instruction: System prompt.
        fewshot_as_multiturn: Few-shot examples as turns of the conversation.
        cache: Folder in which tasks, prompts and tokens are kept for the next call; None keeps nothing.

    Raises:
        EvalError: The model, a task, its data or an option is wrong, or the model cannot be scored.
    """
    chosen = choose_tasks(_names(tasks, suite, num_fewshot), suite, num_fewshot)
    settings = ScoringSettings(
        engine, device, dtype, limit, apply_chat_template, system_instruction, fewshot_as_multiturn
    )
    settings.check()
    kept = None if cache is None else DiskCache(Path(cache))
    loaded = load_chosen(
        chosen,
        data=None if data == "hub" else Path(data),
        include_path=None if include_path is None else Path(include_path),
        place="tasks" if suite is None else f"suite {suite}",
        kept=kept,
    )
    scored = _opened(model, tokenizer, settings)
    settings = _as_loaded(settings, scored.model)
    training = scored.model.training
    try:
        results = ModelScorer(loaded, settings, kept).score(scored.model, scored.tokenizer)
    finally:
        scored.model.train(training)
    return EvaluationResult(run_document(loaded, results, scored, settings), results.answers)


def _names(tasks: str | Sequence[str] | None, suite: str | None, num_fewshot: int | None) -> list[str] | None:
    """Return the names of the tasks, if they can be asked for."""
    listed = tasks.split(",") if isinstance(tasks, str) else tasks
    names = None if listed is None else [name.strip() for name in listed if name.strip()]
    if not names and suite is None:
        raise TaskError("tasks: must name a task such as 'mini_arc', or suite a suite, got neither")
    if suite is not None and num_fewshot is not None:
        raise TaskError(f"num_fewshot: must be None with a suite, which has its own shots, got {num_fewshot}")
    return names


def _opened(model: Any, tokenizer: Any, settings: ScoringSettings) -> ScoredModel:
    """Return a model in memory with its tokenizer; a folder or hub id is loaded."""
    if not isinstance(model, str | Path):
        if tokenizer is None:
            raise EvalError(
                "tokenizer: must be given with a model in memory, got none; of a merge: merge.load_tokenizer(recipe)"
            )
        return ScoredModel(str(getattr(model, "name_or_path", "") or type(model).__name__), model, tokenizer, {})
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        loaded = AutoModelForCausalLM.from_pretrained(str(model), dtype=settings.dtype, trust_remote_code=False).to(
            settings.device
        )
        own = tokenizer
        if own is None:
            own = AutoTokenizer.from_pretrained(str(model), trust_remote_code=False)
    except (OSError, ValueError, AttributeError, RuntimeError) as error:
        raise EvalError(
            f"model: must be a folder or hub id that transformers opens, got {str(model)!r}: {reason(error)}"
        ) from error
    return ScoredModel(str(model), loaded, own, {})


def _as_loaded(settings: ScoringSettings, model: Any) -> ScoringSettings:
    """Return the settings with the device and dtype that the model has."""
    weight = next(iter(model.parameters()))
    return replace(settings, device=str(weight.device), dtype=str(weight.dtype).removeprefix("torch."))
