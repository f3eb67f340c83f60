"""Every reference merge, bit for bit in compatibility mode and to 1e-6 in our own."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from merge.checkpoint.tokenizer import Vocabulary, build_vocabulary
from merge.errors import MergeError, RecipeError
from merge.merger import Merger
from merge.methods import get_method, method_names
from merge.multi_stage import merge_stages
from merge.recipe.schema import Recipe, load_recipes
from tests.conftest import golden_cases

CASES = golden_cases()
MERGES = [case for case in CASES if not case.name.startswith("error_")]
ERRORS = [case for case in CASES if case.name.startswith("error_")]
TIES_AT_THRESHOLD = {"ties_fp32_out_bf16_qwen2": 0.05}
"""Where equal magnitudes stand at the threshold; our rule keeps the first ones, the reference's sort others."""

SUMS_IN_ANY_ORDER = {"multislerp", "sce", "ram", "ramplus_tl", "nearswap"}
"""The reference sums these in an order that changes from run to run."""

NORMS = {"karcher", "nuslerp"}
"""In float32 two of these cases gave the reference's bits on a Xeon and not on an EPYC. We take it that the norms they
divide by are summed in another order there, which was not isolated; the reference material asks for 1e-6 in float32."""

OURS_DIFFERS = {
    "arcee_fusion_phi_bf16": "float32 arithmetic, and the stated dtype is written",
    "arcee_fusion_phi_fp32": "a threshold in float32 flips entries",
    "breadcrumbs_ties_phi_fp32": "small tensors keep what the paper says",
    "linear_common_submatrix_llama_fp32": "an error that names the tokenizer block",
}


def case_name(case: Path) -> str:
    return case.name


@pytest.fixture
def models(golden: Path) -> list[Path]:
    return [golden / "models"]


def test_no_case_is_left_out(shared: Path, request: pytest.FixtureRequest) -> None:
    if len(request.config.args) > 1 or "::" in request.config.args[0]:
        pytest.skip("some tests were chosen by name, so that not every case is collected")
    collected = {word for item in request.session.items for word in re.findall(r"\[([\w.-]+)", item.name)}
    assert {case.name for case in (shared / "golden" / "cases").iterdir()} <= collected


def recipes_of(case: Path) -> tuple[Recipe, ...]:
    return load_recipes(case / "recipe.yaml")


def merged(case: Path, models: list[Path], out: Path, *, compat: bool) -> dict[str, Tensor]:
    seed = json.loads((case / "case.json").read_text()).get("random_seed", 0)
    with pytest.MonkeyPatch.context() as patch:
        if (case / "expected_vocab.json").is_file():
            patch.setattr("merge.merger.build_vocabulary", in_order_of(case))
        merge_stages(recipes_of(case), out, models_roots=models, seed=seed, compat=compat)
    return load_file(out / "model.safetensors")


def in_order_of(case: Path) -> Callable[..., Vocabulary | None]:
    """Return what builds our vocabulary, with its tokens in the reference's order, which changes from run to run.

    Rows follow tokens, and padding rows are a mean over all of them, so that its last bit depends on the order.
    """
    ids = json.loads((case / "expected_vocab.json").read_text())

    def build(*given: Any) -> Vocabulary | None:
        ours = build_vocabulary(*given)
        assert ours is not None
        assert set(ours.tokens) == set(ids)
        return dataclasses.replace(ours, tokens=tuple(sorted(ids, key=ids.__getitem__)))

    return build


def is_random(case: Path) -> bool:
    names = json.loads((case / "case.json").read_text())["methods"]
    return any(get_method(name).random for name in names if name in method_names())


@pytest.mark.parametrize("case", MERGES, ids=case_name)
def test_compatibility_mode_gives_the_reference_bits(
    golden: Path, case: Path, models: list[Path], tmp_path: Path
) -> None:
    result = merged(case, models, tmp_path / "out", compat=True)
    expected = load_file(case / "expected.safetensors")
    methods = set(json.loads((case / "case.json").read_text())["methods"])
    assert {name: (t.shape, t.dtype) for name, t in result.items()} == {
        name: (t.shape, t.dtype) for name, t in expected.items()
    }
    for name, wanted in expected.items():
        norms = bool(methods & NORMS) and wanted.dtype == torch.float32
        if norms or methods & SUMS_IN_ANY_ORDER:
            assert (result[name].double() - wanted.double()).abs().max() <= 1e-6, name
        else:
            assert torch.equal(result[name].view(torch.uint8), wanted.view(torch.uint8)), name


@pytest.mark.parametrize("case", MERGES, ids=case_name)
def test_config_is_the_reference_one(golden: Path, case: Path, models: list[Path], tmp_path: Path) -> None:
    if not (case / "expected_config.json").is_file():
        pytest.skip("the reference failed to write config.json here")
    merged(case, models, tmp_path / "out", compat=True)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == json.loads((case / "expected_config.json").read_text())


@pytest.mark.parametrize("case", [c for c in MERGES if c.name not in OURS_DIFFERS], ids=case_name)
def test_default_mode_agrees_where_it_means_the_same(
    golden: Path, case: Path, models: list[Path], tmp_path: Path
) -> None:
    if is_random(case):
        pytest.skip("our random masks are others")
    result = merged(case, models, tmp_path / "out", compat=False)
    expected = load_file(case / "expected.safetensors")
    assert {name: (t.shape, t.dtype) for name, t in result.items()} == {
        name: (t.shape, t.dtype) for name, t in expected.items()
    }
    arithmetic = recipes_of(case)[-1].dtype or str(expected[min(expected)].dtype).removeprefix("torch.")
    beyond = 0
    for name, wanted in expected.items():
        error = (result[name].double() - wanted.double()).abs()
        if wanted.dtype == torch.float32:
            assert error.max() <= 1e-6, name
        elif arithmetic == "float32":
            allowed = wanted.double().abs() * 2**-7 + 1e-9
            beyond += int((error > allowed).sum())
    assert beyond <= TIES_AT_THRESHOLD.get(case.name, 0.0) * sum(t.numel() for t in expected.values())


@pytest.mark.parametrize("case", ERRORS, ids=case_name)
def test_wrong_recipes_are_refused_before_weights_are_read(
    golden: Path, case: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merge.checkpoint.reader.safe_open", lambda *_, **__: pytest.fail("a weight was read"))
    with pytest.raises(MergeError):
        Merger(models, compat=True).check(recipes_of(case)[-1])


@pytest.mark.parametrize("case", ERRORS, ids=case_name)
def test_only_two_of_them_have_a_meaning_in_our_own_mode(golden: Path, case: Path, models: list[Path]) -> None:
    meant = {"error_della_epsilon", "error_ties_density_too_small"}
    if case.name in meant:
        Merger(models).check(recipes_of(case)[-1])
    else:
        with pytest.raises(MergeError):
            Merger(models).check(recipes_of(case)[-1])


def test_stages_without_names_of_their_own_are_refused(tmp_path: Path) -> None:
    text = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n"
    (tmp_path / "r.yaml").write_text(f"{text}---\n{text}")
    with pytest.raises(RecipeError, match="name of its own"):
        load_recipes(tmp_path / "r.yaml")


def test_there_are_cases_where_there_is_reference_material(golden: Path) -> None:
    assert len(MERGES) > 50
    assert len(ERRORS) == 10
