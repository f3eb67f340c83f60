"""Vocabularies: the result's tokens, and each model's embeddings brought into their order before the merge."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from merge.checkpoint.reader import Checkpoint
from merge.errors import CheckpointError, RecipeError, did_you_mean
from merge.recipe.schema import Recipe

Load = Callable[[str], Tensor]


@dataclass(frozen=True)
class TokenSource:
    """Where the row of one token comes from.

    Args:
        model: Reference of a model; None for a row of zeros.
        token: Its token, by text; None for the same one.
        token_id: Its token, by number.
        force: Whether models that have the token get this row too.
        fallback: Whether the mean of the model's rows stands in where it lacks the token.
    """

    model: str | None
    token: str | None = None
    token_id: int | None = None
    force: bool = False
    fallback: bool = False


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a result.

    Args:
        tokens: In the order of their ids.
        size: Rows of the embeddings, padding included.
        ids: The ids of each model, by reference, in listed order.
        base: Reference of the model whose row is taken where several have a token that another lacks.
        sources: What the recipe says of single tokens.
        tokenizer: transformers' tokenizer, to be saved with the result.
        place: The recipe's, for messages.
    """

    tokens: tuple[str, ...]
    size: int
    ids: Mapping[str, Mapping[str, int]]
    base: str | None
    sources: Mapping[str, TokenSource]
    tokenizer: Any
    place: str

    def rows(self, reference: str, load: Load, among: Collection[str] | None = None) -> Tensor:
        """Return a model's embedding in the order of these tokens.

        A token that the model lacks gets the row of the only model that has it, else the base's, else the mean
        over the models that have it. Padding rows are the mean of the others.

        Args:
            reference: The model.
            load: Reads the embedding of any model by reference.
            among: As the reference does it: only these models, those that this tensor is merged from, lend rows; where
                none of them has a token, its row is zero. None for all models of the recipe.
        """
        own, known = load(reference), self.ids[reference]
        places = torch.tensor([_place(known.get(token), own) for token in self.tokens], device=own.device)
        result = own[places.clamp(min=0)]
        for index, token in enumerate(self.tokens):
            source = self.sources.get(token)
            if places[index] < 0 or (source is not None and source.force):
                result[index] = self._row(token, source, load, among)
        if self.size == len(self.tokens):
            return result
        padding = result.float().mean(dim=0, keepdim=True).to(result.dtype)
        return torch.cat((result, padding.expand(self.size - len(self.tokens), *result.shape[1:])))

    def _row(self, token: str, source: TokenSource | None, load: Load, among: Collection[str] | None) -> Tensor:
        if source is not None:
            return self._stated(token, source, load)
        lenders = [ref for ref in self.ids if among is None or ref in among]
        owners = [ref for ref in lenders if _place(self.ids[ref].get(token), load(ref)) >= 0]
        if not owners and among is not None and len(lenders) < len(self.ids):
            return torch.zeros_like(load(lenders[0])[0])
        if not owners:
            raise RecipeError(
                f"{self.place}: tokenizer.tokens: no model has a row for {token!r}, got {', '.join(self.ids)}; "
                "give it a source"
            )
        if self.base in owners:
            owners = [self.base]
        rows = [load(owner)[self.ids[owner][token]] for owner in owners]
        return rows[0] if len(rows) == 1 else torch.stack(rows).float().mean(dim=0).to(rows[0].dtype)

    def _stated(self, token: str, source: TokenSource, load: Load) -> Tensor:
        if source.model is None:
            return torch.zeros_like(load(next(iter(self.ids)))[0])
        table = load(source.model)
        text = token if source.token is None else source.token
        place = _place(source.token_id if source.token_id is not None else self.ids[source.model].get(text), table)
        if place >= 0:
            return table[place]
        if source.fallback:
            return table.float().mean(dim=0).to(table.dtype)
        raise RecipeError(f"{self.place}: tokenizer.tokens.{token}: {source.model} has no row for {text!r}")


def build_vocabulary(recipe: Recipe, opened: Callable[[str], Checkpoint]) -> Vocabulary | None:
    """Return the vocabulary that a recipe asks for, None where it has no tokenizer block.

    Raises:
        RecipeError: It names a model that is not part of the recipe, or a token that no model has.
        CheckpointError: A model has no tokenizer.
    """
    if recipe.tokenizer is None and recipe.tokenizer_source is None:
        return None
    block = recipe.tokenizer
    wanted = str(recipe.tokenizer_source if block is None else block.source)
    references = recipe.references()
    base = recipe.base_model or references[0]
    if wanted not in {"union", "base", *references}:
        near = did_you_mean(wanted, ("union", "base", *references))
        raise RecipeError(
            f"{recipe.place}: tokenizer source: must be union, base or a model of the recipe, got '{wanted}'{near}"
        )
    tokenizers = {reference: load_tokenizer_of(opened(reference)) for reference in dict.fromkeys((base, *references))}
    ids = {reference: dict(tokenizer.get_vocab()) for reference, tokenizer in tokenizers.items()}
    result = tokenizers[base if wanted in {"union", "base"} else wanted]
    if wanted == "union":
        _extend(result, [tokenizers[reference] for reference in references if reference != base])
    sources: dict[str, TokenSource] = {}
    for token, settings in (block.tokens or {}).items() if block is not None else ():
        source = _source(recipe, token, settings.source, base, force=settings.force)
        sources |= {} if source is None else {token: source}
        if token not in result.get_vocab():
            result.add_tokens([token])
    numbers = result.get_vocab()
    tokens = tuple(sorted(numbers, key=numbers.__getitem__))
    if [numbers[token] for token in tokens] != list(range(len(tokens))):
        raise CheckpointError(f"{wanted} of {', '.join(references)}: the tokenizer must number its tokens without gaps")
    unit = block.pad_to_multiple_of if block is not None and block.pad_to_multiple_of else 1
    return Vocabulary(tokens, -(-len(tokens) // unit) * unit, ids, recipe.base_model, sources, result, recipe.place)


_FILE_NAME = re.compile(r"\w[\w-]*")


def load_tokenizer_of(checkpoint: Checkpoint) -> Any:
    """Return the tokenizer of a model folder.

    Raises:
        CheckpointError: There is none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - each kind of tokenizer fails in its own way over a broken file
        said = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{checkpoint.reference}: {checkpoint.folder} must have a tokenizer, got {type(error).__name__}: {said}"
        ) from None
    templates = tokenizer.chat_template
    for name in templates if isinstance(templates, Mapping) else ():
        if _FILE_NAME.fullmatch(str(name)) is None:
            raise CheckpointError(
                f"{checkpoint.reference}: {checkpoint.folder}: chat_template: each is written to a file of its name, "
                f"got {str(name)[:80]!r}"
            )
    return tokenizer


def _extend(tokenizer: Any, others: Sequence[Any]) -> None:
    """Add the tokens of other tokenizers, in listed order and by their ids; special ones last."""
    special: dict[str, Any] = {}
    for other in others:
        added = {str(token): token for token in other.added_tokens_decoder.values()}
        numbers = other.get_vocab()
        for token in sorted(numbers, key=numbers.__getitem__):
            if token in added and added[token].special:
                special.setdefault(token, added[token])
            elif token not in tokenizer.get_vocab():
                tokenizer.add_tokens([added.get(token, token)])
    known = tokenizer.get_vocab()
    tokenizer.add_tokens([token for text, token in special.items() if text not in known], special_tokens=True)


def _source(recipe: Recipe, token: str, value: object, base: str, *, force: bool) -> TokenSource | None:
    place = f"{recipe.place}: tokenizer.tokens.{token}.source"
    if value is None:
        return None
    if isinstance(value, str):
        model, fallback = (base, True) if value == "base" else (value, False)
        source = TokenSource(model, force=force, fallback=fallback)
    elif isinstance(value, Mapping) and value.get("kind") == "zero":
        source = TokenSource(None, force=force)
    elif isinstance(value, Mapping) and value.get("kind") == "model_token" and isinstance(value.get("model"), str):
        text, number = value.get("token"), value.get("token_id")
        if (text is None) == (number is None):
            raise RecipeError(f"{place}: one of token and token_id must be given")
        source = TokenSource(
            value["model"], None if text is None else str(text), None if number is None else int(number), force=force
        )
    else:
        raise RecipeError(f"{place}: must be a model, base, {{kind: zero}} or {{kind: model_token}}, got {value!r}")
    if source.model is not None and source.model not in recipe.references():
        raise RecipeError(f"{place}: must be a model of the recipe, got '{source.model}'")
    return source


def _place(number: int | None, table: Tensor) -> int:
    """Return a row that exists, -1 for none (vocabularies may be larger than their embedding)."""
    return number if number is not None and 0 <= number < len(table) else -1
