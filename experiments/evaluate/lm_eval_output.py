"""Writes what an evaluation found: per model one lm-eval results document and, if wanted, its samples."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from evals.lm_eval_files.results_file import to_text
from evals.lm_eval_files.run_document import path_part
from evals.lm_eval_files.samples_file import Sample, sample_lines
from experiments.atomic_files import write_text_atomically


@dataclass(frozen=True)
class Places:
    """Where documents go.

    Attributes:
        output: As given: ``NAME.json``, or a folder that is laid out as lm-eval's.
        columns: Names of all models; with several, ``NAME.json`` becomes ``NAME_COLUMN.json``.
    """

    output: Path | None
    columns: tuple[str, ...]

    def document(self, column: str) -> Path | None:
        """Return the file of a model's document; None where none is wanted."""
        if self.output is None:
            return None
        stamp = datetime.now().isoformat().replace(":", "-")  # noqa: DTZ005 - lm-eval's names carry local time
        if self.output.suffix != ".json":
            return self.output / path_part(column) / f"results_{stamp}.json"
        if len(self.columns) == 1:
            return self.output
        return self.output.with_name(f"{self.output.stem}_{path_part(column)}.json")


def write_documents(
    file: Path, document: Mapping[str, Any], *, column: str, samples: Mapping[str, Sequence[Sample]] | None
) -> Iterator[str]:
    """Write a model's document, and its samples beside it if wanted; go through lines that say where they are."""
    if samples is not None:
        document = {**document, "task_hashes": {leaf: _task_hash(listed) for leaf, listed in samples.items()}}
        for leaf, listed in samples.items():
            write_text_atomically(file.with_name(f"samples_{leaf}_{file.stem}.jsonl"), sample_lines(listed))
    write_text_atomically(file, to_text(document))
    yield f"results of {column}: {file}"
    if samples is not None:
        yield f"samples of {column}: {file.parent}/samples_*_{file.stem}.jsonl"


def _task_hash(samples: Sequence[Sample]) -> str:
    """Return lm-eval's hash of what a task asked."""
    text = "".join(sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"] for sample in samples)
    return hashlib.sha256(text.encode()).hexdigest()
