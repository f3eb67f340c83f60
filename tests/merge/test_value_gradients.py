"""Gradients by the values of a document: levels, filters, lists over depth, slices, modules, adapters, vocabularies."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch
from torch import Tensor, nn

from merge.errors import CompatibilityError, RecipeError
from merge.live_model import new_live_model
from merge.merger import Merger
from merge.planning.plan import Plan
from merge.planning.recipe_values import recipe_values
from merge.recipe.schema import Recipe
from merge.value_gradients import ValueGradients
from tests.merge.checkpoint.test_tokenizer import write as write_vocabulary
from tests.merge.parents import tensors_of, write_adapter, write_model
from tests.merge.planning.test_modules import pictures  # noqa: F401 - a fixture

STEP = 2.0**-6
Document = dict[str, Any]


class Weights(nn.Module):
    """The tensors of a plan in float64, and nothing else."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        for tensor in plan.tensors:
            at: nn.Module = self
            *path, last = tensor.name.split(".")
            for step in path:
                if not hasattr(at, step):
                    at.add_module(step, nn.Module())
                at = getattr(at, step)
            at.register_parameter(last, nn.Parameter(torch.zeros(tensor.shape, dtype=torch.float64)))


def curved(model: nn.Module) -> Tensor:
    """Return an objective that every entry enters, not quite linearly."""
    total = torch.zeros((), dtype=torch.float64)
    for name, weight in model.named_parameters():
        generator = torch.Generator().manual_seed(crc32(name.encode()))
        total = total + (torch.randn(weight.shape, generator=generator, dtype=torch.float64) * weight).sum()
        total = total + 0.3 * weight.sin().sum()
    return total


def steps_of(path: str) -> list[Any]:
    return [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)]


def changed(recipe: Recipe, path: str, by: float) -> Recipe:
    """Return the recipe with another number at a path."""
    document = at = recipe.to_mapping()
    *way, last = steps_of(path)
    for step in way:
        at = at[step]  # type: ignore[assignment]
    at[last] = float(at[last]) + by  # type: ignore[arg-type]
    return Recipe.from_mapping(document, place="recipe")


def check(
    merger: Merger,
    document: Document,
    model: nn.Module | None = None,
    objective: Callable[[nn.Module], Tensor] = curved,
    kinds: tuple[str, ...] = ("weight", "t", "lambda", "scale"),
) -> dict[str, float]:
    """Compare the gradient with differences of the objective by the document's values; return it."""
    recipe = Recipe.from_mapping(document, place="recipe")
    model = Weights(merger.plan(recipe)) if model is None else model
    gradients = ValueGradients(merger, recipe, seed=4)

    def value(other: Recipe) -> float:
        merger.merge_live(other, model, seed=4)
        return float(objective(model).detach())

    merger.merge_live(recipe, model, seed=4)
    sinks = gradients.sinks(model)
    for parameter, _ in sinks:
        parameter.requires_grad_(True)
    objective(model).backward()  # type: ignore[no-untyped-call]
    error = 0.0
    for parameter, sink in sinks:
        assert parameter.grad is not None
        sink(parameter.grad)
        error += float((parameter.grad * parameter.detach()).square().sum())
        parameter.requires_grad_(False)
    found = gradients.by_value()
    for one in gradients.values:
        if one.parameter.name in kinds:
            coarse, fine = (
                (value(changed(recipe, one.path, h)) - value(changed(recipe, one.path, -h))) / (2 * h)
                for h in (STEP, STEP / 2)
            )
            tolerance = 2 * abs(coarse - fine) + 6 * 2**-23 * error**0.5 / STEP
            assert found[one.path] == pytest.approx(fine, rel=1e-5, abs=tolerance), one.path
    return found


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Merger:
    """Return a merger of ``base``, ``a`` and ``b`` with four layers, and an adapter ``lora``."""
    root = tmp_path_factory.mktemp("deep")

    def tensors(seed: int, scale: float = 0.1) -> dict[str, Tensor]:
        upper = {k.replace("layers.0", "layers.2"): v for k, v in tensors_of(seed + 50, scale).items()}
        upper = {k.replace("layers.1", "layers.3"): v for k, v in upper.items()}
        return {**upper, **tensors_of(seed, scale)}

    base = tensors(0)
    write_model(root / "base", base, num_hidden_layers=4)
    for seed, name in ((1, "a"), (2, "b")):
        change = tensors(seed, 0.05)
        write_model(root / name, {k: v + change[k] for k, v in base.items()}, num_hidden_layers=4)
    write_adapter(root / "lora", rank=3, alpha=6)
    return Merger([root])


def listed(**models: Any) -> list[Document]:
    return [{"model": name.replace("_", "+"), "parameters": own} for name, own in models.items()]


FILTERS = [
    {"filter": "self_attn", "value": [0.2, 0.8, 0.5]},
    {"filter": "mlp", "value": 0.4},
    {"filter": "never", "value": 0.1},
    {"value": [0.6, 0.9]},
]
METHODS: dict[str, Document] = {
    "task_arithmetic": {"parameters": {"lambda": [1.0, 0.7], "normalize": False}},
    "linear": {"base_model": None},
    "dare_linear": {"parameters": {"density": 0.6, "lambda": 0.9}},
    "multislerp": {},
    "nuslerp": {},
}


@pytest.mark.parametrize("method", METHODS)
def test_lists_over_depth_filters_and_models_weights_get_their_shares(deep: Merger, method: str) -> None:
    document = {
        "merge_method": method,
        "base_model": "base",
        "models": listed(a={"weight": [0.3, 0.6, "0.9"]}, b_lora={"weight": FILTERS}),
        **METHODS[method],
    }
    found = check(deep, {key: value for key, value in document.items() if value is not None})
    assert found["models[1].parameters.weight[2].value"] == 0, "no tensor's name holds it"
    assert found["models[1].parameters.weight[0].value[1]"] != 0
    assert found["models[0].parameters.weight[2]"] != 0


def test_a_position_and_a_scale_over_depth(deep: Merger) -> None:
    t = [{"filter": "self_attn", "value": [0.1, 0.9]}, {"value": 0.3}]
    check(deep, {"merge_method": "slerp", "base_model": "a", "models": listed(b={}), "parameters": {"t": t}})
    source = {"model": "a", "layer_range": [1, 4], "parameters": {"scale": [{"filter": "o_proj", "value": [0.5, 1]}]}}
    check(deep, {"merge_method": "passthrough", "slices": [{"sources": [source]}, {"sources": [source]}]})


def sources(**parts: tuple[list[int], Document]) -> list[Document]:
    return [{"model": m, "layer_range": layers, "parameters": own} for m, (layers, own) in parts.items()]


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "dare_linear"])
def test_slices_that_use_a_layer_twice_and_the_nearest_level_that_speaks(deep: Merger, method: str) -> None:
    base = {"base_model": "base"} if method != "linear" else {}
    third: dict[str, Any] = {"base": ([0, 2], {})} if base else {}
    slices: list[Document] = [
        {"sources": sources(a=([0, 2], {"weight": [0.2, 0.7]}), b=([0, 2], {}), **third)},
        {"sources": sources(a=([0, 2], {}), b=([2, 4], {"weight": 0.6}), **third)},
    ]
    slices[1]["parameters"] = {"weight": [{"filter": "mlp", "value": [0.35, 0.55]}]}
    document = {"merge_method": method, **base, "slices": slices, "parameters": {"weight": [0.4, 0.5]}}
    found = check(deep, document)
    assert all(found.values())
    assert set(found) >= {"slices[1].parameters.weight[0].value[1]", "parameters.weight[0]"}


def test_modules_have_values_of_their_own(pictures: Path) -> None:  # noqa: F811
    modules = {
        "text_decoder": {"models": listed(a={"weight": [0.9, 0.1]}, b={"weight": 0.5})},
        "vision_tower": {"models": listed(a={}, b={}), "parameters": {"weight": [0.3, 0.8], "normalize": False}},
        "multi_modal_projector": {"models": listed(a={}, b={})},
    }
    document = {"merge_method": "linear", "modules": modules, "parameters": {"weight": 0.7}}
    merger = Merger([pictures])
    found = check(merger, document)
    assert found["modules.vision_tower.parameters.weight[1]"] != 0
    assert abs(found["parameters.weight"]) < 1e-6, "a common factor of normalised weights changes nothing"


def test_rows_of_a_union_of_vocabularies(tmp_path: Path) -> None:
    for seed, (name, words) in enumerate((("one", "abcd"), ("two", "adxb"))):
        write_vocabulary(tmp_path / name, words, seed)
    models = listed(one={"weight": [{"filter": "embed_tokens", "value": 0.3}, {"value": 0.5}]}, two={"weight": 0.6})
    document = {"merge_method": "linear", "models": models, "tokenizer_source": "union"}
    assert all(check(Merger([tmp_path]), {**document, "parameters": {"normalize": False}}).values())


@pytest.fixture(scope="module")
def llamas(tiny_models: Path) -> Merger:
    return Merger([tiny_models])


def loss(model: Any) -> Tensor:
    ids = torch.arange(40).reshape(2, 20)
    found: Tensor = model(input_ids=ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None]).mean()
    return found


LLAMA = {
    "merge_method": "task_arithmetic",
    "base_model": "base",
    "models": listed(
        math={"weight": [{"filter": "embed_tokens", "value": 0.5}, {"value": [0.4, 0.8]}]}, science={"weight": 0.6}
    ),
    "parameters": {"lambda": 0.8},
}


def test_a_tied_embedding_of_a_real_model_gets_the_gradient_of_both_its_uses(llamas: Merger) -> None:
    model = new_live_model(llamas, Recipe.from_mapping(LLAMA, place="recipe"), dtype=torch.float64)
    found = check(llamas, LLAMA, model, loss)
    assert found["models[0].parameters.weight[0].value"] != 0


def test_a_head_of_its_own_follows_the_last_slice(tmp_path: Path) -> None:
    for seed, name in enumerate(("tied", "untied")):
        head = {"lm_head.weight": torch.randn(40, 16, generator=torch.Generator().manual_seed(9))} if seed else {}
        write_model(tmp_path / name, {**tensors_of(seed), **head}, tie_word_embeddings=not seed)
    weight = [{"filter": "lm_head", "value": 0.2}, {"value": 0.6}]
    document = {"merge_method": "linear", "models": listed(tied={"weight": 0.5}, untied={"weight": weight})}
    found = check(Merger([tmp_path]), {**document, "base_model": "untied"})
    assert all(found.values())


def test_thresholds_and_elections_add_up_over_tensors(deep: Merger) -> None:
    own = {"weight": 0.5, "density": [{"filter": "mlp", "value": [0.3, 0.6]}, {"value": 0.5}]}
    document = {"merge_method": "ties", "base_model": "base", "models": listed(a=own, b={"weight": 0.3})}
    recipe = Recipe.from_mapping(document, place="recipe")
    every, some = (ValueGradients(deep, recipe, paths=p) for p in (None, ["models[0].parameters.density[0].value[1]"]))
    assert set(some.tensors) == {name for name in every.tensors if "mlp" in name and "layers.0" not in name}
    for gradients in (every, some):
        for tensor in deep.plan(recipe).tensors:
            generator = torch.Generator().manual_seed(crc32(tensor.name.encode()))
            gradients.add(tensor.name, torch.randn(tensor.shape, generator=generator))
    (path,) = some.by_value()
    assert some.by_value()[path] == every.by_value()[path] != 0


def test_values_are_the_real_numbers_of_a_document_in_its_order() -> None:
    document = {
        "merge_method": "dare_ties",
        "base_model": "base",
        "models": listed(a={"weight": [1, "2e-1"], "density": {"filter": "mlp", "value": 0.5}}, b={"weight": True}),
        "parameters": {"normalize": True, "lambda": 0.5, "weight": [{"filter": "*", "value": [0.1, 0.2]}]},
    }
    values = recipe_values(Recipe.from_mapping(document, place="recipe"))
    assert [(value.path, value.value) for value in values] == [
        ("models[0].parameters.weight[0]", 1.0),
        ("models[0].parameters.weight[1]", 0.2),
        ("models[0].parameters.density.value", 0.5),
        ("parameters.weight[0].value[0]", 0.1),
        ("parameters.weight[0].value[1]", 0.2),
        ("parameters.lambda", 0.5),
    ]


def test_what_cannot_be_had_is_one_line(deep: Merger) -> None:
    recipe = Recipe.from_mapping({"merge_method": "linear", "models": listed(a={"weight": 0.5})}, place="r.yaml")
    with pytest.raises(RecipeError, match=r"^r.yaml: models: must be a real number of the recipe, found none there$"):
        ValueGradients(deep, recipe, paths=["models"])
    with pytest.raises(RecipeError, match="compat mode"):
        ValueGradients(Merger(deep.models_roots, compat=True), recipe)
    with pytest.raises(CompatibilityError, match=r"gradient must be \[16\], got \[3\]"):
        ValueGradients(deep, recipe).add("model.norm.weight", torch.zeros(3))


@pytest.mark.parametrize(("method", "suffice"), [("task_arithmetic", True), ("ties", False)])
def test_products_of_an_adapter_replace_the_gradient(deep: Merger, method: str, *, suffice: bool) -> None:
    recipe = Recipe.from_mapping(
        {"merge_method": method, "base_model": "base", "models": listed(a={"weight": 0.5}, b_lora={"weight": 0.3})},
        place="recipe",
    )
    name = "model.layers.1.self_attn.q_proj.weight"
    by_gradient, by_products = ValueGradients(deep, recipe), ValueGradients(deep, recipe)
    assert by_products.products_suffice(name) == suffice
    gradient = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    base = deep.checkpoint("base").tensor(name)
    changes = [deep.checkpoint(reference).tensor(own) - base for reference, own in by_products.parents(name)]
    products = [float((gradient * change).sum()) for change in changes]
    if not suffice:
        with pytest.raises(CompatibilityError, match="ties needs the gradient"):
            by_products.add_products(name, products, 0.0)
        return
    by_gradient.add(name, gradient)
    by_products.add_products(name, products, float((gradient * base).sum()))
    assert by_products.by_value() == pytest.approx(by_gradient.by_value(), rel=1e-5)
