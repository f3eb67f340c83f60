"""A family: a mergekit recipe with holes, and the two ways through it (fill the holes, read them back)."""

import math
from collections.abc import Iterator, Mapping

from optuna.distributions import CategoricalDistribution

from merge.errors import RecipeError
from merge.methods import get_method
from merge.recipe.schema import Recipe
from search.errors import SpaceError
from search.space.holes import Scalar, contains, ends, is_hole, middle, parse_hole
from search.space.layer_stacking import is_stack, plain_recipe, rolled, unrolled
from search.space.template import Dimension, Slot, TemplateReader
from search.space.transform import grid_values

Values = Mapping[str, Scalar]
"""Values of holes, by hole name."""


class Family:
    """A recipe with holes: a template whose dimensions are filled (``decode``) or read back (``encode``).

    Args:
        name: Name of the family, unique in a study.
        document: mergekit's YAML as Python values, any value of which may be a hole.
        place: File and YAML path of the document, for messages.

    Raises:
        SpaceError: A hole is wrong.
        merge.errors.RecipeError: The document is no recipe, or an end of a hole is not legal there.
    """

    def __init__(self, name: str, document: Mapping[str, object], *, place: str) -> None:
        self.name = name
        self.place = place
        if is_hole(document):
            raise SpaceError(f"{place}: must be a recipe with holes, got a hole; a family is called otherwise")
        choices = _method_choices(document.get("merge_method"), place)
        reader = TemplateReader(place, choices)
        self._template = reader.template(document)
        self._choices = choices
        self._stacked = is_stack(self._template)
        first = [d for d in reader.dimensions.values() if d.methods is None]
        then = [d for d in reader.dimensions.values() if d.methods is not None]
        self.dimensions: tuple[Dimension, ...] = (*first, *then)
        self._validate()

    def active(self, values: Values) -> tuple[Dimension, ...]:
        """Return the dimensions that a candidate uses, given the values so far (its merge method among them)."""
        method = self._method(values)
        return tuple(d for d in self.dimensions if d.methods is None or method in d.methods)

    def decode(self, values: Values) -> dict[str, object]:
        """Fill every hole; return a plain mergekit document.

        Raises:
            SpaceError: A value is missing or outside its hole.
        """
        for dimension in self.active(values):
            if dimension.name not in values:
                raise SpaceError(f"{self.place}: no value for hole '{dimension.name}'")
            if not contains(dimension.distribution, values[dimension.name]):
                raise SpaceError(
                    f"{self.place}: hole '{dimension.name}' must be in {dimension.distribution}, "
                    f"got {values[dimension.name]!r}"
                )
        filled = self._filled(values)
        return unrolled(filled, self.place) if self._stacked else filled

    def _filled(self, values: Values) -> dict[str, object]:
        filled = self._fill(self._template, values, self._method(values), within=False)
        assert isinstance(filled, dict)
        return filled

    def recipe(self, values: Values) -> Recipe:
        """Fill every hole; return the typed recipe."""
        return plain_recipe(self.decode(values), self.place)

    def encode(self, document: Mapping[str, object]) -> dict[str, Scalar]:
        """Read the values of the holes out of a plain recipe, the inverse of ``decode``.

        Raises:
            SpaceError: The recipe differs from the family outside its holes, or a value is out of its range.
        """
        if not self._stacked:
            return self._encode(document)
        fault = SpaceError(f"{self.place}.slices: the recipe's slices cannot be read as repeats of the family's")
        for form in rolled(self._filled({d.name: middle(d.distribution) for d in self.dimensions}), document):
            try:
                return self._encode(form)
            except SpaceError as error:
                fault = error
        raise fault

    def _encode(self, document: Mapping[str, object]) -> dict[str, Scalar]:
        values: dict[str, Scalar] = {}
        self._read(self._template, document, "", values)
        for dimension in self.active(values):
            if dimension.name not in values:
                raise SpaceError(f"{self.place}: the recipe gives no value for hole '{dimension.name}'")
        return {d.name: values[d.name] for d in self.active(values)}

    def middle(self) -> dict[str, Scalar]:
        """Return the candidate in the middle of every range, with the first of all choices."""
        values = {d.name: middle(d.distribution) for d in self.dimensions}
        return {d.name: values[d.name] for d in self.active(values)}

    def examples(self) -> Iterator[dict[str, object]]:
        """Go through plain documents in the middle of the family, one per merge method."""
        start = {d.name: middle(d.distribution) for d in self.dimensions}
        for choice in self._methods():
            yield self.decode(start if choice is None else {**start, self._method_hole(): choice})

    def _methods(self) -> tuple[str | None, ...]:
        return self._choices if self._choices is not None else (None,)

    def _method_hole(self) -> str:
        assert isinstance(self._template, dict)
        slot = self._template["merge_method"]
        assert isinstance(slot, Slot)
        return slot.name

    def count(self) -> int | None:
        """Return the number of different fillings; None where a hole is a continuous range."""
        hole = self._method_hole() if self._choices is not None else None
        total = 0
        for choice in self._methods():
            used = [d for d in self.dimensions if d.methods is None or choice in d.methods]
            points = [grid_values(d.distribution) for d in used if d.name != hole]
            if any(values is None for values in points):
                return None
            total += math.prod(len(values) for values in points if values is not None)
        return total

    def _validate(self) -> None:
        """Build the recipe at the middle, then with each dimension at each of its ends.

        An end is at fault only for what is said of its own place: that it does not go with the middle of another
        dimension makes a candidate fail, not the space.
        """
        start = {d.name: middle(d.distribution) for d in self.dimensions}
        self.recipe(start)
        faults: dict[str, None] = {}
        for dimension in self.dimensions:
            for end in ends(dimension.distribution):
                try:
                    self.recipe({**start, dimension.name: end})
                except RecipeError as error:
                    here = [f"{self.place}.{path}" for path in dimension.paths]
                    lines = str(error).splitlines()
                    faults.update(dict.fromkeys(line for line in lines if line.startswith(tuple(here))))
        if faults:
            raise SpaceError("\n".join(faults))

    def _method(self, values: Values) -> str:
        assert isinstance(self._template, dict)
        method = self._template.get("merge_method")
        if not isinstance(method, Slot):
            return str(method)
        if method.name not in values:
            raise SpaceError(f"{self.place}: no value for hole '{method.name}'")
        return str(values[method.name])

    def _fill(self, node: object, values: Values, method: str, *, within: bool) -> object:
        if isinstance(node, Slot):
            return values[node.name]
        if isinstance(node, dict):
            keep = node
            if within and self._choices is not None:
                known = get_method(method).parameters()
                keep = {key: child for key, child in node.items() if key in known}
            return {key: self._fill(child, values, method, within=key == "parameters") for key, child in keep.items()}
        if isinstance(node, list):
            return [self._fill(child, values, method, within=False) for child in node]
        return node

    def _read(self, node: object, found: object, path: str, values: dict[str, Scalar]) -> None:
        if isinstance(node, Slot):
            self._take(node, found, path, values)
        elif isinstance(node, dict) and isinstance(found, Mapping):
            for key in [*node, *(k for k in found if k not in node)]:
                self._step(node, found, key, f"{path}.{key}" if path else str(key), values)
        elif (
            isinstance(node, list)
            and node
            and all(isinstance(item, Slot) for item in node)
            and not isinstance(found, list)
        ):
            for slot in node:  # one number where the family has a gradient: the same at every depth
                self._read(slot, found, path, values)
        elif isinstance(node, list) and isinstance(found, list) and len(node) == len(found):
            for index, (child, item) in enumerate(zip(node, found, strict=True)):
                self._read(child, item, f"{path}[{index}]", values)
        elif node != found:
            raise SpaceError(f"{self.place}.{path}: the recipe must hold {_show(node)} here, got {_show(found)}")

    def _step(
        self, node: Mapping[str, object], found: Mapping[str, object], key: str, path: str, values: dict[str, Scalar]
    ) -> None:
        if key in node and key in found:
            self._read(node[key], found[key], path, values)
        elif key not in node:
            raise SpaceError(f"{self.place}.{path}: the family has nothing here, got {_show(found[key])}")
        elif not (self._choices is not None and ".parameters." in f".{path}"):
            raise SpaceError(f"{self.place}.{path}: the recipe must hold {_show(node[key])} here, got nothing")

    def _take(self, slot: Slot, found: object, path: str, values: dict[str, Scalar]) -> None:
        dimension = next(d for d in self.dimensions if d.name == slot.name)
        if not contains(dimension.distribution, found):
            raise SpaceError(
                f"{self.place}.{path}: must be in {dimension.distribution} for hole '{slot.name}', got {found!r}"
            )
        if slot.name in values and values[slot.name] != found:
            raise SpaceError(
                f"{self.place}.{path}: shared hole '{slot.name}' is {values[slot.name]!r} elsewhere, got {found!r}"
            )
        assert found is None or isinstance(found, bool | int | float | str)
        values[slot.name] = found


def _method_choices(method: object, place: str) -> tuple[str, ...] | None:
    """Return the merge methods that a family chooses between; None where it has a single one."""
    if not is_hole(method):
        return None
    assert isinstance(method, Mapping)
    found = parse_hole(method, f"{place}.merge_method").distribution
    if not isinstance(found, CategoricalDistribution):
        raise SpaceError(f"{place}.merge_method: must be a method or {{choices: [...]}} of methods")
    for choice in found.choices:
        try:
            get_method(str(choice))
        except RecipeError as error:
            text = str(error).removeprefix("merge_method: ")
            raise SpaceError(f"{place}.merge_method.choices: {text}") from None
    return tuple(str(choice) for choice in found.choices)


def _show(node: object) -> str:
    if isinstance(node, Slot):
        return f"a value for hole '{node.name}'"
    if isinstance(node, dict):
        return f"a mapping with {', '.join(map(str, node))}"
    if isinstance(node, list):
        return f"a list of {len(node)}"
    return repr(node)
