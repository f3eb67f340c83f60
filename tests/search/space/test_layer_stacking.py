"""Layer stacking: what is written in a family, which plain slices it becomes, and a search over depths."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.engines.live.engine import LiveScorer
from merge.errors import RecipeError
from merge.live_model import load_tokenizer, new_live_model
from merge.merger import Merger
from merge.recipe.schema import Recipe
from search.errors import SpaceError
from search.loop.run import run_search
from search.scoring.live_models import LiveModels
from search.space.family import Family
from search.study.study import parse_study
from tests.search.recorder import Recorder
from tests.search.studies import tiny_study

TIMES = {"low": 0, "high": 2, "int": True}
SCALE = [{"filter": "o_proj", "value": {"low": 0.0, "high": 1.0, "name": "scale"}}, {"value": 1.0}]
STACK: dict[str, Any] = {
    "merge_method": "passthrough",
    "slices": [
        {"sources": [{"model": "math", "layer_range": [0, 1]}]},
        {"repeat": TIMES, "sources": [{"model": "math", "layer_range": [1, 2], "parameters": {"scale": SCALE}}]},
        {
            "repeat": TIMES,
            "sources": [
                {"model": "science", "layer_range": {"start": {"low": 0, "high": 1, "int": True}, "length": 1}}
            ],
        },
    ],
}


def names(family: Family) -> list[str]:
    return [dimension.name for dimension in family.dimensions]


def test_repeats_and_lengths_become_plain_slices() -> None:
    family = Family("f", STACK, place="f")
    assert names(family) == [
        "slices.1.repeat",
        "scale",
        "slices.2.repeat",
        "slices.2.sources.science.layer_range.start",
    ]
    start = "slices.2.sources.science.layer_range.start"
    plain: Any = family.decode({"slices.1.repeat": 0, "scale": 0.5, "slices.2.repeat": 2, start: 1})
    ranges = [(piece["sources"][0]["model"], piece["sources"][0]["layer_range"]) for piece in plain["slices"]]
    assert ranges == [("math", [0, 1]), ("science", [1, 2]), ("science", [1, 2])]
    assert all(set(piece) == {"sources"} for piece in plain["slices"])


def test_order_sorts_the_slices() -> None:
    order = {"low": 0.0, "high": 1.0}
    slices = [{"order": order, "sources": [{"model": "math", "layer_range": [i, i + 1]}]} for i in range(3)]
    family = Family("f", {"merge_method": "passthrough", "slices": slices}, place="f")
    plain: Any = family.decode({"slices.0.order": 0.9, "slices.1.order": 0.1, "slices.2.order": 0.5})
    assert [piece["sources"][0]["layer_range"] for piece in plain["slices"]] == [[1, 2], [2, 3], [0, 1]]
    with pytest.raises(SpaceError, match="cannot be read as repeats"):
        family.encode(plain)


def test_nothing_left_is_a_failed_candidate_in_one_line() -> None:
    slices = [{"repeat": {"low": 0, "high": 2, "int": True}, "sources": [{"model": "math", "layer_range": [0, 1]}]}]
    family = Family("f", {"merge_method": "passthrough", "slices": slices}, place="f")
    with pytest.raises(RecipeError, match=r"slices") as caught:
        family.recipe({"slices.0.repeat": 0})
    assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2), st.floats(0, 1), st.integers(0, 2), st.integers(0, 1))
def test_a_stacked_recipe_is_read_back_to_the_same_slices(one: int, scale: float, two: int, start: int) -> None:
    family = Family("f", STACK, place="f")
    plain = family.decode(dict(zip(names(family), (one, scale, two, start), strict=True)))
    assert family.decode(family.encode(plain)) == plain


def test_models_of_every_depth_share_their_tensors_and_answer_as_models_of_their_own(tiny_models: Path) -> None:
    merger = Merger([tiny_models])
    family = Family("f", STACK, place="f")
    recipes = [family.recipe(dict(zip(names(family), v, strict=True))) for v in ((0, 1.0, 0, 0), (2, 0.5, 1, 1))]
    tokenizer = load_tokenizer(merger, recipes[0])
    models = LiveModels(merger, tokenizer, "cpu")

    def likelihoods(recipe: Recipe, *, fresh: bool) -> list[float]:
        model = new_live_model(merger, recipe)
        scorer = LiveScorer(model, tokenizer)
        if not fresh:
            model, scorer = models.of(recipe).model, models.of(recipe).scorer
        merger.merge_live(recipe, model)
        asked = [SimpleNamespace(args=texts) for texts in (("1 + 1 =", " 2"), ("a b c", " d"))]
        return [score for score, _ in scorer.loglikelihood(asked)]

    for recipe in (*recipes, *recipes):
        assert likelihoods(recipe, fresh=False) == pytest.approx(likelihoods(recipe, fresh=True))
    assert len(models) == 2
    shallow, deep = (dict(models.of(recipe).model.named_parameters()) for recipe in recipes)
    assert all(deep[name] is tensor for name, tensor in shallow.items())
    assert len(deep) > len(shallow)


def test_a_search_goes_through_models_of_several_depths(tmp_path: Path, tiny_models: Path) -> None:
    document = yaml.safe_load(tiny_study(sampler="random", trials=5, race=False))
    document["families"] = {"stack": STACK}
    recorder = Recorder()
    study = parse_study(yaml.safe_dump(document), place="t")
    verdict = run_search(study, tmp_path, observer=recorder, models_roots=[tiny_models])
    depths = {len(yaml.safe_load(record.recipe_yaml)["slices"]) for record in recorder.trials()}
    assert len(depths) > 1
    assert {record.state for record in recorder.trials()} == {"complete"}
    assert verdict.winner
