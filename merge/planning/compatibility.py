"""Do these parents fit? Every difference at once, then one error."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from merge.checkpoint.reader import Checkpoint
from merge.errors import CompatibilityError

TOKENIZER_REMEDY = (
    "their vocabularies differ; add tokenizer: {source: union} or tokenizer_source: base, or allow crimes"
)


class Differences:
    """Collects what does not fit; the same difference in many layers becomes one line."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._found: dict[str, list[str]] = defaultdict(list)

    def architectures(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Compare the models' classes."""
        kinds: dict[str, list[str]] = defaultdict(list)
        for checkpoint in checkpoints:
            kinds[architecture(checkpoint)].append(checkpoint.reference)
        if len(kinds) > 1:
            text = ", ".join(f"{kind} ({', '.join(models)})" for kind, models in kinds.items())
            self._found[f"must have one architecture, got {text}; allow crimes if you mean it"].append("")

    def missing(self, tensor: str, reference: str) -> None:
        """Note a tensor that a model lacks."""
        self._found[f"{reference} has no {{}}, the other models have"].append(tensor)

    def layer_counts(self, counts: Mapping[str, int]) -> None:
        """Compare the models' numbers of layers."""
        if len(set(counts.values())) > 1:
            text = ", ".join(f"{reference} {count}" for reference, count in counts.items())
            self._found[f"must have the same number of layers, got {text}; use slices"].append("")

    def shapes(self, tensor: str, shapes: Mapping[str, tuple[int, ...]], *, vocabulary: bool) -> None:
        """Note a tensor whose shapes differ."""
        text = ", ".join(f"{list(shape)} in {reference}" for reference, shape in shapes.items())
        remedy = f"; {TOKENIZER_REMEDY}" if vocabulary else ""
        self._found[f"{{}}: must have one shape, got {text}{remedy}"].append(tensor)

    def raise_if_any(self) -> None:
        """Raise everything that was noted.

        Raises:
            CompatibilityError: Something was.
        """
        lines = []
        for sentence, tensors in self._found.items():
            patterns: dict[str, list[str]] = defaultdict(list)
            for tensor in tensors:
                patterns[re.sub(r"\.\d+\.", ".*.", tensor, count=1)].append(tensor)
            lines += [
                f"{self.place}: {sentence.replace('{}', names[0] if len(names) == 1 else _several(name, names))}"
                for name, names in patterns.items()
            ]
        if lines:
            raise CompatibilityError("\n".join(lines))


def architecture(checkpoint: Checkpoint) -> str:
    """Return the class of a model as its config names it."""
    named = checkpoint.config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else str(checkpoint.config.get("model_type"))


def _several(pattern: str, names: Sequence[str]) -> str:
    return f"{pattern} ({len(names)} layers)"
