"""The ready studies: every one loads, every recipe is mergekit's, and the small ones are the large ones shrunk."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from merge.merger import Merger
from merge.recipe.schema import Recipe, load_recipes
from search.study.study import load_study

STUDIES = Path(__file__).resolve().parent.parent.parent / "experiments" / "studies"
NAMES = ["biomed-llama3", "block-expansion", "mistral-dare-slerp", "phigment6", "tutorial"]


@pytest.mark.parametrize("path", sorted(STUDIES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(STUDIES)))
def test_every_file_loads(path: Path) -> None:
    if path.parent.name == "recipes":
        assert load_recipes(path)
    else:
        assert load_study(path).file.families


@pytest.mark.parametrize("name", NAMES)
def test_a_small_study_has_the_families_and_baselines_of_the_large_one(name: str) -> None:
    large, small = (load_study(STUDIES / folder / f"{name}.yaml").file for folder in ("", "small"))
    assert small.study == f"small-{large.study}"
    assert list(large.families) == list(small.families)
    assert list(large.baselines) == list(small.baselines)
    methods = [{key: family.get("merge_method") for key, family in file.families.items()} for file in (large, small)]
    assert methods[0] == methods[1]


@pytest.mark.parametrize("folder", ["", "small"])
@pytest.mark.parametrize(
    ("study", "baseline", "recipe"),
    [
        ("block-expansion", "published", "block-expansion"),
        ("biomed-llama3", "published", "biomed-llama3"),
        ("mistral-dare-slerp", "published dare_ties", "mistral-dare-ties"),
        ("mistral-dare-slerp", "published slerp", "mistral-slerp"),
        ("phigment6", "published", "phigment6"),
        ("tutorial", "tutorial slerp", "tutorial-slerp"),
        ("tutorial", "tutorial ties", "tutorial-ties"),
        ("tutorial", "tutorial dare_ties", "tutorial-dare-ties"),
        ("tutorial", "tutorial passthrough", "tutorial-passthrough"),
    ],
)
def test_what_a_study_calls_published_is_the_recipe_beside_it(
    folder: str, study: str, baseline: str, recipe: str
) -> None:
    known = load_study(STUDIES / folder / f"{study}.yaml").known[baseline]
    published = load_recipes(STUDIES / folder / "recipes" / f"{recipe}.yaml")[-1]
    assert known.digest() == listed_once(published).digest()


def listed_once(recipe: Recipe) -> Recipe:
    """Return a recipe without what it lists a second time: the base, whose parameters have no effect."""
    document: dict[str, Any] = dict(recipe.to_mapping())
    if "models" in document:
        document["models"] = list({entry["model"]: entry for entry in reversed(document["models"])}.values())[::-1]
    return Recipe.from_mapping(document, place="listed once")


@pytest.mark.parametrize("name", [*NAMES, *(f"small/{name}" for name in NAMES)])
def test_every_winner_of_a_study_loads_in_mergekit_which_refuses_a_model_listed_twice(name: str) -> None:
    study = load_study(STUDIES / f"{name}.yaml")
    candidates = [family.recipe(family.middle()) for family in study.space.families.values()]
    for recipe in (*candidates, *study.known.values()):
        assert recipe.digest() == listed_once(recipe).digest()


def test_the_base_listed_again_with_parameters_changes_no_bit(tiny_models: Path, tmp_path: Path) -> None:
    document: dict[str, Any] = {
        "merge_method": "dare_ties",
        "base_model": "base",
        "models": [
            {"model": "base"},
            {"model": "base", "parameters": {"density": 0.6, "weight": 0.5}},
            {"model": "math", "parameters": {"density": 0.55, "weight": 0.1}},
            {"model": "science", "parameters": {"density": 0.55, "weight": 0.4}},
        ],
    }
    twice = Recipe.from_mapping(document, place="twice")
    for name, recipe in (("twice", twice), ("once", listed_once(twice))):
        listed: Any = recipe.to_mapping()["models"]
        assert len(listed) == (4 if name == "twice" else 3)
        Merger([tiny_models]).merge_to_folder(recipe, tmp_path / name)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("twice", "once")]
    assert files[0] == files[1]


def test_the_recipe_of_a_saved_page_is_the_one_that_is_ready(shared: Path) -> None:
    from experiments.reproduce.card.card_text import read_card_text
    from experiments.reproduce.card.recipes import find_recipes

    for page, name in (("openchat-40-layers", "block-expansion"), ("llama3-merge-biomed", "biomed-llama3")):
        (found,) = find_recipes(read_card_text(str(shared / "cards" / f"{page}.txt")))
        (ready,) = load_recipes(STUDIES / "recipes" / f"{name}.yaml")
        assert found.recipe.digest() == ready.digest()


def test_the_command_in_each_file_names_the_file() -> None:
    for path in STUDIES.rglob("*.yaml"):
        text = path.read_text()
        assert f"experiments/studies/{path.relative_to(STUDIES)}" in text
        assert yaml.safe_load_all(text)
