"""The template of a family: its document with a slot at every hole, and the dimensions that the holes make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from optuna.distributions import BaseDistribution

from merge.methods import get_method
from search.errors import SpaceError
from search.space.holes import Hole, is_hole, parse_hole


@dataclass(frozen=True)
class Dimension:
    """One searched number or choice.

    Attributes:
        name: Stable, readable name such as ``models.math.weight`` or ``t.self_attn.2``.
        distribution: What it may be.
        methods: Merge methods that use it; None when every candidate does.
        paths: YAML paths at which it stands.
    """

    name: str
    distribution: BaseDistribution
    methods: frozenset[str] | None = None
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """The place of one dimension in the template."""

    name: str


@dataclass
class TemplateReader:
    """Reads a document with holes into a template with slots, collecting the dimensions on the way.

    Attributes:
        place: File and YAML path of the document, for messages.
        choices: Merge methods that the document chooses between; None where it has a single one.
        dimensions: What was found so far, by name.
        shared: Names that are shared between holes.
    """

    place: str
    choices: tuple[str, ...] | None = None
    dimensions: dict[str, Dimension] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)

    def template(
        self, node: object, words: tuple[str, ...] = (), path: str = "", parameter: str | None = None
    ) -> object:
        """Return the template of a node.

        Args:
            node: Part of the document.
            words: What leads to it, in words that make good names.
            path: Its YAML path.
            parameter: The method's parameter that it belongs to, if any.
        """
        if is_hole(node):
            assert isinstance(node, Mapping)
            return self._slots(parse_hole(node, f"{self.place}.{path}"), words, path, parameter)
        if isinstance(node, Mapping):
            inside = words[-1:] == ("parameters",)
            return {
                key: self.template(
                    child, words + _word(key), f"{path}.{key}" if path else str(key), str(key) if inside else parameter
                )
                for key, child in node.items()
            }
        if isinstance(node, list):
            labels = _labels(node, words)
            return [
                self.template(child, words + label, f"{path}[{index}]", parameter)
                for index, (child, label) in enumerate(zip(node, labels, strict=True))
            ]
        return node

    def _slots(self, hole: Hole, words: tuple[str, ...], path: str, parameter: str | None) -> object:
        stem = hole.name or ".".join(word for word in words if word not in _SILENT) or path
        if hole.gradient is None:
            return self._slot(stem, hole, path, parameter)
        return [self._slot(f"{stem}.{index}", hole, path, parameter) for index in range(hole.gradient)]

    def _slot(self, name: str, hole: Hole, path: str, parameter: str | None) -> Slot:
        methods = None
        if parameter is not None and self.choices is not None:
            methods = frozenset(m for m in self.choices if parameter in get_method(m).parameters())
            if not methods:
                raise SpaceError(
                    f"{self.place}.{path}: none of the methods {', '.join(self.choices)} has a parameter "
                    f"'{parameter}'; remove it"
                )
        known = self.dimensions.get(name)
        paths: tuple[str, ...] = (path,)
        if known is not None and name in self.shared:
            self._must_agree(known, hole, path)
            methods = None if methods is None or known.methods is None else methods | known.methods
            paths = (*known.paths, path)
        elif known is not None:
            count = 2
            while f"{name}.{count}" in self.dimensions:
                count += 1
            name = f"{name}.{count}"
        if hole.name is not None:
            self.shared.add(name)
        self.dimensions[name] = Dimension(name, hole.distribution, methods, paths)
        return Slot(name)

    def _must_agree(self, known: Dimension, hole: Hole, path: str) -> None:
        if known.distribution != hole.distribution:
            raise SpaceError(
                f"{self.place}.{path}: the shared hole '{hole.name}' must be the same in every place, got "
                f"{hole.distribution} and {known.distribution}; repeat the first one or choose another name"
            )


_SILENT = {"parameters", "value"}


def _word(key: object) -> tuple[str, ...]:
    return (str(key),)


def _labels(nodes: Sequence[object], words: tuple[str, ...]) -> Sequence[tuple[str, ...]]:
    """Return what each entry of a list is called in hole names: a model's short name, a filter, or a number."""
    if words[-1:] == ("layer_range",):
        return [("start",), ("end",)][: len(nodes)] + [(str(i),) for i in range(2, len(nodes))]
    names = [_label(node, index) for index, node in enumerate(nodes)]
    return [
        (name if names.count(name) == 1 else f"{name}.{names[:index].count(name)}",) if name else ()
        for index, name in enumerate(names)
    ]


def _label(node: object, index: int) -> str:
    if isinstance(node, Mapping):
        if isinstance(node.get("model"), str):
            return short_name(str(node["model"]))
        if "value" in node:
            return str(node["filter"]) if isinstance(node.get("filter"), str) and node["filter"] != "*" else ""
    return str(index)


def short_name(reference: str) -> str:
    """Return what people call a model: the last part of its adapter's name, or of its own.

    >>> short_name("org/base-1B@main+adapters/math")
    'math'
    """
    last = reference.rsplit("+", 1)[-1].split("@", 1)[0]
    return last.rstrip("/").rsplit("/", 1)[-1] or reference
