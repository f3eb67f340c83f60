"""The engine on tiny models: live and folder give the same bits, nothing is written twice, faults are named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from merge.errors import CheckpointError, CompatibilityError, NumericalError, RecipeError
from merge.live_model import new_live_model
from merge.merger import Merger
from merge.recipe.schema import Recipe
from tests.merge.parents import recipe_of, tensors_of, write_adapter, write_model

DARE = recipe_of("dare_ties", models={name: {"weight": 0.5, "density": 0.5} for name in ("a", "b+lora")})


class Live(nn.Module):
    """A model with the tiny parents' tensors and nothing else."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        for name, tensor in tensors_of(9).items():
            at: nn.Module = self
            *path, last = name.split(".")
            for step in path:
                if not hasattr(at, step):
                    at.add_module(step, nn.Module())
                at = getattr(at, step)
            at.register_parameter(last, nn.Parameter(torch.zeros_like(tensor, dtype=dtype), requires_grad=False))


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("method", ["ties", "dare_ties", "della", "linear", "slerp"])
def test_live_model_and_folder_hold_the_same_bits(
    merger: Merger, tmp_path: Path, method: str, dtype: str | None
) -> None:
    own: dict[str, object] = {"weight": 0.4} if method != "slerp" else {}
    if method in {"ties", "dare_ties", "della"}:
        own["density"] = 0.5
    base = "a" if method == "slerp" else None if method == "linear" else "base"
    shared = {"parameters": {"t": 0.3}} if method == "slerp" else {}
    stated = {"dtype": dtype} if dtype else {}
    recipe = recipe_of(method, base=base, models={"a": own, "b+lora": own}, **shared, **stated)
    live = Live()
    merger.merge_live(recipe, live, seed=5)
    folder = merger.merge_to_folder(recipe, tmp_path / "out", seed=5)
    stored = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16 if dtype else torch.float32}
    assert same(weights(live), {name: tensor.float() for name, tensor in stored.items()})


def test_a_merge_gives_the_same_bits_however_it_was_reached(family: Path) -> None:
    fresh, used = Live(), Live()
    Merger([family], seed=3).merge_live(DARE, fresh)
    merger = Merger([family], seed=0, keep_bytes=0)
    merger.merge_live(recipe_of("linear", base=None, models={"b": {"weight": 1.0}}), used)
    merger.merge_live(DARE, used, seed=1)
    merger.merge_live(DARE, used, seed=3)
    assert same(weights(fresh), weights(used))


def test_tensors_that_did_not_change_are_not_written_again(merger: Merger) -> None:
    live, total = Live(), len(tensors_of(0))
    gradient: dict[str, object] = {"weight": [{"filter": "mlp", "value": 0.5}, {"value": 1.0}]}
    assert (
        merger.merge_live(
            recipe_of("linear", base=None, models={"a": gradient, "b": {"weight": 1.0}}), live
        ).tensors_written
        == total
    )
    gradient = {"weight": [{"filter": "mlp", "value": 0.7}, {"value": 1.0}]}
    stats = merger.merge_live(recipe_of("linear", base=None, models={"a": gradient, "b": {"weight": 1.0}}), live)
    assert (stats.tensors_written, stats.tensors_skipped) == (6, total - 6)
    assert stats.bytes_written == 6 * 24 * 16 * 4


def test_what_someone_else_wrote_is_written_again(merger: Merger) -> None:
    live = Live()
    merger.merge_live(DARE, live)
    wanted = weights(live)
    with torch.no_grad():
        live.get_parameter("model.norm.weight").mul_(2)
    assert merger.merge_live(DARE, live).tensors_written == 1
    assert same(weights(live), wanted)


def test_two_models_of_one_merger_do_not_share_their_state(merger: Merger) -> None:
    first, second = Live(), Live()
    merger.merge_live(DARE, first)
    merger.merge_live(DARE, second)
    assert same(weights(first), weights(second))


def test_another_seed_changes_random_methods_only(merger: Merger) -> None:
    live = Live()
    merger.merge_live(DARE, live, seed=1)
    before = weights(live)
    merger.merge_live(DARE, live, seed=2)
    assert not same(weights(live), before)
    ties = recipe_of("ties", models={"a": {"weight": 0.5}})
    merger.merge_live(ties, live, seed=1)
    assert merger.merge_live(ties, live, seed=2).tensors_written == 0


def test_a_parent_itself_can_be_merged_with_its_adapter(merger: Merger, family: Path) -> None:
    live = Live()
    merger.merge_live(
        Recipe.from_mapping({"merge_method": "passthrough", "models": [{"model": "base+lora"}]}, place="r"), live
    )
    base, adapter = (
        load_file(family / "base" / "model.safetensors"),
        load_file(family / "lora" / "adapter_model.safetensors"),
    )
    down, up = (next(t for name, t in adapter.items() if part in name) for part in ("lora_A", "lora_B"))
    name = "model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(live.state_dict()[name], base[name] + (up @ down) * 2.0)
    base.pop(name)
    assert all(torch.equal(live.state_dict()[other], tensor) for other, tensor in base.items())


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"use_rslora": True}, 6 / 3**0.5),
        ({"alpha_pattern": {"q_proj": 9}}, 3.0),
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 3}}, 1.0),
        ({"alpha_pattern": {"k_proj": 9}}, 2.0),
    ],
)
def test_the_scale_of_an_adapter_is_pefts(family: Path, config: dict[str, object], scale: float) -> None:
    write_adapter(family / "other", rank=3, alpha=6, **config)
    merger = Merger([family])
    name = "model.layers.1.self_attn.q_proj.weight"
    base, plain, other = (merger.checkpoint(ref).tensor(name) for ref in ("base", "base+lora", "base+other"))
    torch.testing.assert_close(other - base, (plain - base) * scale / 2)


@pytest.mark.parametrize("key", ["use_dora", "lora_bias", "layer_replication"])
def test_what_an_adapter_may_not_use_is_refused_in_one_line(family: Path, key: str) -> None:
    write_adapter(family / "other", rank=3, alpha=6, **{key: [1]})
    with pytest.raises(CheckpointError, match="must be plain LoRA") as raised:
        Merger([family]).checkpoint("base+other")
    assert len(str(raised.value).splitlines()) == 1


def test_an_adapter_that_does_not_fit_is_refused(family: Path) -> None:
    tensors = tensors_of(0)
    tensors["model.layers.1.self_attn.q_proj.weight"] = torch.zeros(16, 8)
    write_model(family / "narrow", tensors)
    with pytest.raises(CheckpointError, match=r"q_proj.weight: the base is \[16, 8\], the adapter makes \[16, 16\]"):
        Merger([family]).checkpoint("narrow+lora")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_parent_that_is_not_finite_is_named(family: Path, value: float) -> None:
    tensors = tensors_of(0)
    tensors["model.layers.0.mlp.up_proj.weight"][3, 2] = value
    write_model(family / "broken", tensors)
    recipe = recipe_of("ties", models={"broken": {"weight": 1.0, "density": 0.1}})
    with pytest.raises(CheckpointError, match=r"broken: model\.layers\.0\.mlp\.up_proj\.weight: must be finite"):
        Merger([family]).merge_live(recipe, Live())
    Merger([family], allow_nan=True).merge_live(recipe, Live())


def test_a_result_that_overflows_is_a_numerical_error_and_the_next_merge_is_whole(merger: Merger) -> None:
    live, fresh = Live(), Live()
    huge = recipe_of(
        "linear",
        base=None,
        models={"a": {"weight": 1e30}, "b": {"weight": 1e30}},
        parameters={"normalize": False},
        dtype="float16",
    )
    with pytest.raises(NumericalError, match="must be finite"):
        merger.merge_live(huge, live)
    merger.merge_live(DARE, live)
    merger.merge_live(DARE, fresh)
    assert same(weights(live), weights(fresh))


def test_all_differences_between_parents_are_told_at_once(family: Path) -> None:
    tensors = tensors_of(0)
    for layer in range(2):
        tensors[f"model.layers.{layer}.mlp.up_proj.weight"] = torch.zeros(20, 16)
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    write_model(family / "other", tensors, architectures=["OtherForCausalLM"])
    recipe = recipe_of("linear", base=None, models={"a": {"weight": 1}, "other": {"weight": 1}})
    with pytest.raises(CompatibilityError) as raised:
        Merger([family], allow_crimes=True).check(recipe)
    assert "other has no model.layers.1.self_attn.k_proj.weight" in str(raised.value)
    assert (
        "model.layers.*.mlp.up_proj.weight (2 layers): must have one shape, got [24, 16] in a, [20, 16] in other"
        in str(raised.value)
    )
    with pytest.raises(CompatibilityError, match="must have one architecture"):
        Merger([family]).check(recipe)


def test_layers_outside_a_model_are_refused_with_their_path(merger: Merger) -> None:
    document = {"merge_method": "passthrough", "slices": [{"sources": [{"model": "a", "layer_range": [1, 3]}]}]}
    with pytest.raises(RecipeError, match=r"r\.yaml: slices\[0\]\.sources\[0\]\.layer_range: must end at 2 at most"):
        merger.check(Recipe.from_mapping(document, place="r.yaml"))


def test_weights_that_cancel_out_are_refused_before_merging(merger: Merger) -> None:
    with pytest.raises(RecipeError, match="must not sum to zero"):
        merger.check(recipe_of("linear", base=None, models={"a": {"weight": 1.0}, "b": {"weight": [-1.0, 1.0]}}))


def test_a_live_model_of_another_shape_is_refused(merger: Merger) -> None:
    live = Live()
    live.register_parameter("extra", nn.Parameter(torch.zeros(3)))
    with pytest.raises(CompatibilityError, match="extra: the recipe gives no such tensor"):
        merger.merge_live(DARE, live)


def test_a_live_model_of_transformers_runs_and_ties_its_head(merger: Merger) -> None:
    recipe: Any = DARE
    model = new_live_model(merger, recipe)
    merger.merge_live(recipe, model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not model.training
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()


def test_block_expansion_leaves_the_logits_alone(merger: Merger) -> None:
    zero = [{"filter": "o_proj", "value": 0.0}, {"filter": "down_proj", "value": 0.0}, {"value": 1.0}]
    copy = {"sources": [{"model": "a", "layer_range": [1, 2], "parameters": {"scale": zero}}]}
    document = {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": "a", "layer_range": [0, 2]}]}, copy, copy],
    }
    grown = Recipe.from_mapping(document, place="r")
    parent = Recipe.from_mapping({"merge_method": "passthrough", "models": [{"model": "a"}]}, place="r")
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    logits = []
    for recipe in (parent, grown):
        model = new_live_model(merger, recipe)
        merger.merge_live(recipe, model)
        logits.append(model(tokens).logits)
    assert torch.equal(*logits)


def test_fingerprints_follow_the_bytes(family: Path) -> None:
    before, after = Merger([family]), Merger([family])
    before.checkpoint("a")
    first = before.fingerprints()["a"]
    tensors = load_file(family / "a" / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, family / "a" / "model.safetensors")
    after.checkpoint("a")
    assert after.fingerprints()["a"] != first
