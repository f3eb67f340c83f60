"""The typed recipe: mergekit's YAML in, the same YAML out, and a digest."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
)

from merge.documents import DocumentError, one_line, read_text, read_yaml
from merge.errors import RecipeError, did_you_mean
from merge.recipe.model_reference import reference_text
from merge.recipe.validation import document_faults, yaml_path

_LONGEST = 1000
"""Characters of a model reference."""
DTYPES = ("float32", "float16", "bfloat16", "float64")


def _reference(value: object) -> str:
    text = reference_text(value)
    if text is None or not text.strip() or not text.isprintable() or len(text) > _LONGEST:
        raise ValueError("must be a model reference: path[@revision][+lora[@revision]]")
    return text


def _dtype(value: object) -> str:
    if not isinstance(value, str) or value.removeprefix("torch.") not in DTYPES:
        raise ValueError(f"must be one of {', '.join(DTYPES)}")
    return value


Reference = Annotated[str, BeforeValidator(_reference)]
Dtype = Annotated[str, BeforeValidator(_dtype)]
Settings = dict[StrictStr, Any]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True)


class ListedModel(_Part):
    """An entry of ``models:``."""

    model: Reference
    """Folder or hub id, ``path[@revision][+lora[@revision]]``."""
    parameters: Settings | None = None
    """Parameters of the merge method for this model alone."""


class Source(_Part):
    """An entry of ``sources:``: layers of one model."""

    model: Reference
    """Folder or hub id, ``path[@revision][+lora[@revision]]``."""
    layer_range: tuple[StrictInt, StrictInt]
    """First layer, and the one after the last."""
    parameters: Settings | None = None
    """Parameters of the merge method for these layers alone."""
    residual_weight: float | None = None
    """mergekit's key, taken and without effect."""


class Slice(_Part):
    """An entry of ``slices:``: as many layers as each of its sources has."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    """Layers that are merged with each other; several sources have the same number of layers."""
    base_model: Reference | None = None
    """Base model of this slice; unset: the recipe's."""
    parameters: Settings | None = None
    """Parameters of the merge method for this slice."""


class Module(_Part):
    """An entry of ``modules:``: one part of a model of several."""

    models: tuple[ListedModel, ...] | None = None
    """Models that are merged whole."""
    slices: tuple[Slice, ...] | None = None
    """Layers that are merged or stacked, from the first to the last."""
    parameters: Settings | None = None
    """Parameters of the merge method for this module."""


class TokenSettings(_Part):
    """Where the embedding of one token comes from."""

    source: Any = None
    """A model reference, or mergekit's mapping with ``kind``; unset: every model that has the token."""
    force: StrictBool = False
    """Take it from the source for the models that have the token too."""


class TokenizerSettings(_Part):
    """The ``tokenizer:`` block."""

    source: StrictStr = "union"
    """``union``, ``base``, or a model reference."""
    tokens: dict[StrictStr, TokenSettings] | None = None
    """Exceptions for single tokens, by token."""
    pad_to_multiple_of: Annotated[StrictInt, Field(gt=0)] | None = None
    """Rows are added to the embedding until their number is a multiple of this."""


class Recipe(_Part):
    """A merge recipe, mergekit's YAML document. Fields that a recipe leaves out are None."""

    merge_method: StrictStr
    """Name of the merge method; ``mergesearch list methods`` lists them."""
    base_model: Reference | None = None
    """Model that task vectors are taken from; for slerp the model at ``t: 0``."""
    models: tuple[ListedModel, ...] | None = None
    """Models that are merged whole; instead of slices and modules."""
    slices: tuple[Slice, ...] | None = None
    """Layers that are merged or stacked, from the first to the last; instead of models and modules."""
    modules: dict[StrictStr, Module] | None = None
    """Parts of a model of several, such as a vision tower, each with models or slices of its own, by name."""
    parameters: Settings | None = None
    """Parameters of the merge method for all models."""
    dtype: Dtype | None = None
    """Data type that the merged model is written in; mergekit's reading (``--compat mergekit``) also computes in it."""
    out_dtype: Dtype | None = None
    """Data type that the merged model is written in, where it differs from ``dtype``."""
    tokenizer_source: StrictStr | None = None
    """Where the tokenizer comes from: ``union``, ``base``, or a model reference."""
    tokenizer: TokenizerSettings | None = None
    """Where the tokenizer comes from, in detail; instead of tokenizer_source."""
    chat_template: StrictStr | None = None
    """Chat template of the merged model: ``auto``, a known name, or Jinja text."""
    name: StrictStr | None = None
    """Name by which other documents of the same file refer to this one's result."""
    _place: str = PrivateAttr(default="recipe")

    @property
    def place(self) -> str:
        """Where the recipe was read; messages about it begin with this."""
        return self._place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    @classmethod
    def from_mapping(cls, document: Mapping[str, object], *, place: str) -> "Recipe":
        """Check a document whole and return the recipe.

        Args:
            document: mergekit's YAML as Python values.
            place: File, and YAML path if the recipe is part of a larger document; messages begin with it.

        Raises:
            RecipeError: Something is wrong; one line per fault, all of them.
        """
        if not isinstance(document, Mapping):
            raise RecipeError(f"{place}: must be a mapping with merge_method and models, got {type(document).__name__}")
        faults: dict[str, None] = {}
        recipe: Recipe | None = None
        try:
            recipe = cls.model_validate(document)
        except ValidationError as error:
            faults.update(dict.fromkeys(_structure_faults(error)))
        faults.update(dict.fromkeys(document_faults(document)))
        if recipe is None or faults:
            join = "." if ": " in place else ": "
            raise RecipeError(
                "\n".join(
                    f"{place}: {text}" if path == "" else f"{place}{join}{path}: {text}"
                    for path, text in ((one_line(part, 300) for part in fault.split("\0", 1)) for fault in faults)
                )
            )
        return recipe.read_at(place)

    def read_at(self, place: str) -> "Recipe":
        """Note where the recipe was read, for messages, and return it."""
        self._place = place
        return self

    def to_mapping(self) -> dict[str, object]:
        """Return the plain document, with only the keys that were given."""
        document = _plain(self.model_dump(exclude_unset=True, exclude_none=True))
        assert isinstance(document, dict)
        return document

    def to_yaml(self) -> str:
        """Return the document as YAML."""
        return yaml.safe_dump(self.to_mapping(), sort_keys=False, allow_unicode=True)

    def digest(self) -> str:
        """Return the SHA-256 of the document, whatever the order of its keys."""
        text = json.dumps(self.to_mapping(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def structure(self) -> str:
        """Return what decides which tensors a result has and what they are made of: all but values of parameters."""
        return self.model_dump_json(
            exclude={
                "parameters": True,
                "models": {"__all__": {"parameters"}},
                "slices": {"__all__": {"parameters": True, "sources": {"__all__": {"parameters"}}}},
            }
        )

    def references(self) -> tuple[str, ...]:
        """Return every model that the recipe names, in listed order, the base last if it is not listed."""
        return tuple(dict.fromkeys(self._references()))

    def _references(self) -> Iterator[str]:
        parts: Sequence[Recipe | Module] = [self, *(self.modules or {}).values()]
        for part in parts:
            yield from (entry.model for entry in part.models or ())
            for piece in part.slices or ():
                yield from (source.model for source in piece.sources)
                if piece.base_model is not None:
                    yield piece.base_model
        if self.base_model is not None:
            yield self.base_model


def load_recipes(path: Path) -> tuple[Recipe, ...]:
    """Read a recipe file; several documents are the stages of one merge, in the order to run them.

    Raises:
        RecipeError: It cannot be read, is no YAML, or a document is wrong.
    """
    try:
        documents = read_yaml(read_text(path), str(path))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror or error}") from None
    except DocumentError as error:
        raise RecipeError(str(error)) from None
    if not documents:
        raise RecipeError(f"{path}: must hold a recipe, got an empty file")
    places = [f"{path}" if len(documents) == 1 else f"{path}: document {n}" for n in range(1, len(documents) + 1)]
    recipes = [Recipe.from_mapping(d, place=place) for d, place in zip(documents, places, strict=True)]
    return recipes_in_order(recipes, str(path))


def recipes_in_order(recipes: Sequence[Recipe], place: str) -> tuple[Recipe, ...]:
    """Return documents so that each comes after those whose results it uses, the unnamed one last.

    Raises:
        RecipeError: Two have no name or the same one, or they need each other.
    """
    names = [recipe.name for recipe in recipes]
    if len(recipes) > 1 and (names.count(None) > 1 or len(set(names)) < len(names)):
        raise RecipeError(f"{place}: every document but the result must have a name of its own, got {names}")
    waiting, done = list(recipes), list[Recipe]()
    while waiting:
        blocked = {recipe.name for recipe in waiting}
        ready = [r for r in waiting if not blocked & set(r.references())]
        if not ready:
            raise RecipeError(
                f"{place}: documents must not need each other, got a circle among {sorted(map(str, blocked))}"
            )
        done += ready
        waiting = [r for r in waiting if r not in ready]
    return tuple(sorted(done, key=lambda recipe: recipe.name is None) if None in names else done)


_PARTS: dict[str, type[BaseModel]] = {
    "models": ListedModel,
    "slices": Slice,
    "sources": Source,
    "modules": Module,
    "tokens": TokenSettings,
    "tokenizer": TokenizerSettings,
}


def _structure_faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        path, kind = fault["loc"], fault["type"]
        if "parameters" in path[:-1] or (kind == "too_short" and fault["input"]):
            continue  # told elsewhere; a list is also too short for pydantic where its entries are wrong
        if kind == "extra_forbidden":
            within = next((str(p) for p in reversed(path[:-1]) if p in _PARTS), "")
            fields = _PARTS.get(within, Recipe).model_fields
            text = f"unknown key{did_you_mean(str(path[-1]), fields)}"
        elif kind == "missing":
            text = "must be given"
        else:
            text = f"{_sentence(str(fault['msg']))}, got {fault['input']!r}"
        yield f"{yaml_path(path)}\0{text}"


def _sentence(said: str) -> str:
    """Return pydantic's words in our form."""
    said = said.removeprefix("Value error, ").replace("Input should", "must").replace("input should", "must")
    said = re.sub(r"^Tuple should (have .*) after validation, not \d+$", r"must \1", said)
    said = said.replace("a valid dictionary or instance of ListedModel", "a mapping with model and parameters")
    said = re.sub(r"a valid dictionary or instance of \w+", "a mapping", said)
    return said[:1].lower() + said[1:]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
