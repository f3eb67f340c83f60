"""How models are scored: what `mergesearch evaluate` is asked for, checked before anything is opened."""

from dataclasses import dataclass
from pathlib import Path

import torch

from evals.cache.disk_cache import DiskCache
from evals.engines.registry import engine_names
from evals.model_scorer import ChosenTasks, ScoringSettings, choose_tasks, load_chosen
from experiments.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class EvaluateOptions:
    """How models are scored; the names are those of the command line."""

    tasks: str | None = None
    suite: str | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    data: str | None = None
    include_path: Path | None = None
    apply_chat_template: bool = False
    system_instruction: str | None = None
    fewshot_as_multiturn: bool = False
    skip_missing: bool = False
    engine: str = "live"
    dtype: str = "float32"
    output: Path | None = None
    log_samples: bool = False
    device: str = "cpu"

    @property
    def place(self) -> str:
        """Where the tasks were named, for messages."""
        return "--tasks" if self.suite is None else f"suite {self.suite}"

    def check(self) -> None:
        """Find what is wrong before anything is opened.

        Raises:
            InputError: An option is wrong.
        """
        if self.tasks is None and self.suite is None:
            raise InputError("evaluate: must be given --tasks a,b or --suite NAME (see: mergesearch list suites)")
        if self.suite is not None and self.num_fewshot is not None:
            raise InputError("--num-fewshot: a suite has its own shots; name the tasks with --tasks instead")
        if self.log_samples and self.output is None:
            raise InputError("--log-samples: must be given a place with --output")
        for name, value, known in (("engine", self.engine, engine_names()), ("dtype", self.dtype, tuple(DTYPES))):
            if value not in known:
                raise InputError(f"--{name}: must be one of {', '.join(known)}, got '{value}'")

    @property
    def settings(self) -> ScoringSettings:
        """How each model is scored."""
        return ScoringSettings(
            engine=self.engine,
            device=self.device,
            dtype=self.dtype,
            limit=self.limit,
            apply_chat_template=self.apply_chat_template,
            system_instruction=self.system_instruction,
            fewshot_as_multiturn=self.fewshot_as_multiturn,
        )

    def load(self, kept: DiskCache) -> ChosenTasks:
        """Load the tasks that are asked for.

        Args:
            kept: Tasks of earlier evaluations.

        Raises:
            evals.errors.TaskError: The suite is not known, or a task is none of its.
            evals.errors.DataError: Data are missing or wrong.
        """
        names = None if self.tasks is None else [name.strip() for name in self.tasks.split(",") if name.strip()]
        return load_chosen(
            choose_tasks(names, self.suite, self.num_fewshot),
            data=None if self.data in (None, "hub") else Path(str(self.data)),
            include_path=self.include_path,
            place=self.place,
            skip_missing=self.skip_missing,
            kept=kept,
        )
