"""One model's whole document: lm-eval's results with what it writes about model, settings and versions beside them."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evals.lm_eval_files.results_file import Document, lm_eval_document, versions_of_libraries
from evals.model_scorer import ChosenTasks, ScoringSettings
from evals.scores.aggregation import BOOTSTRAP_ITERS
from evals.scores.results import Results
from evals.suites import Shown, Suite
from evals.tasks.lm_eval_setup import LM_EVAL_SEEDS


@dataclass(frozen=True)
class ScoredModel:
    """What a document says about its model.

    Attributes:
        reference: Folder, hub id or name, as the user gave it.
        model: The live model.
        tokenizer: Its tokenizer.
        recipe: The recipe that it was merged with; empty for none.
    """

    reference: str
    model: Any
    tokenizer: Any
    recipe: Mapping[str, object]


def run_document(chosen: ChosenTasks, results: Results, scored: ScoredModel, settings: ScoringSettings) -> Document:
    """Return the document that ``lm_eval --output_path`` would write, with two keys of our own.

    ``suite`` has the suite's scores as its source shows them, ``mergesearch`` the recipe and the tokens that sharing
    saved.
    """
    return {
        **lm_eval_document(chosen.tasks, results),
        **_settings(scored, settings),
        **_model(scored, settings),
        "total_evaluation_time_seconds": str(results.cost.seconds),
        "mergesearch": {
            "recipe": dict(scored.recipe),
            "tokens_run": results.cost.tokens_run,
            "tokens_asked": results.cost.tokens_full,
        },
        **_suite_scores(chosen.suite, results),
    }


def _settings(scored: ScoredModel, settings: ScoringSettings) -> Document:
    return {
        "config": {
            "model": settings.engine,
            "model_args": {"pretrained": scored.reference, "dtype": settings.dtype},
            "model_num_parameters": sum(parameter.numel() for parameter in scored.model.parameters()),
            "model_dtype": settings.dtype,
            "batch_size": None,
            "batch_sizes": [],
            "device": settings.device,
            "use_cache": None,
            "limit": settings.limit,
            "bootstrap_iters": BOOTSTRAP_ITERS,
            "gen_kwargs": None,
            "random_seed": LM_EVAL_SEEDS["python"],
            "numpy_seed": LM_EVAL_SEEDS["numpy"],
            "torch_seed": LM_EVAL_SEEDS["torch"],
            "fewshot_seed": LM_EVAL_SEEDS["fewshot"],
        },
        "date": time.time(),
        **versions_of_libraries(),
    }


def _model(scored: ScoredModel, settings: ScoringSettings) -> Document:
    tokenizer = scored.tokenizer
    template = str(tokenizer.chat_template) if settings.apply_chat_template else None
    return {
        "tokenizer_pad_token": [tokenizer.pad_token, str(tokenizer.pad_token_id)],
        "tokenizer_eos_token": [tokenizer.eos_token, str(tokenizer.eos_token_id)],
        "tokenizer_bos_token": [tokenizer.bos_token, str(tokenizer.bos_token_id)],
        "eot_token_id": tokenizer.eos_token_id,
        "model_source": settings.engine,
        "model_name": scored.reference,
        "model_name_sanitized": path_part(scored.reference),
        "system_instruction": settings.system_instruction,
        "system_instruction_sha": _sha256(settings.system_instruction),
        "fewshot_as_multiturn": settings.fewshot_as_multiturn,
        "chat_template": template,
        "chat_template_sha": _sha256(template),
    }


def _suite_scores(suite: Suite | None, results: Results) -> Document:
    if suite is None:
        return {}
    rows = {**suite.task_rows(results), **suite.category_rows(results), "average": suite.average_row(results)}
    scores = {name: _pair(row) for name, row in rows.items()}
    return {"suite": {"name": suite.name, "left_out": list(suite.left_out), "scores": scores}}


def _pair(row: Shown) -> dict[str, float | None]:
    return {"value": row.value, "stderr": row.stderr}


def _sha256(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def path_part(name: str) -> str:
    """Return a name that is one part of a path, as lm-eval makes it."""
    return "".join(c if c.isalnum() or c in "-_.+" else "__" if c == "/" else "_" for c in name).strip(".") or "model"
