"""How models are scored: what `mergesearch evaluate` is asked for, checked before anything is opened."""

from dataclasses import dataclass
from pathlib import Path

import torch

from evals.engines.registry import engine_names
from evals.suites import Suite, load_suite
from evals.tasks.loading import TaskSpec
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

    def chosen(self) -> tuple[tuple[TaskSpec, ...], Suite | None]:
        """Return the tasks that are asked for, and the suite that they are of.

        Raises:
            evals.errors.TaskError: The suite is not known, or a task is none of its.
        """
        names = [name.strip() for name in (self.tasks or "").split(",") if name.strip()]
        if self.suite is None:
            return tuple(TaskSpec(task=name, num_fewshot=self.num_fewshot) for name in names), None
        suite = load_suite(self.suite)
        if self.tasks is not None:
            suite = suite.only(names)
        return suite.tasks, suite
