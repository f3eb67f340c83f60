"""The loop on made-up answers: trade-offs, constraints, rungs, warm starts, reasons to stop, masks, honesty."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from evals.tasks.sampling import Question
from experiments.study_folder.folder import FolderWriter, StudyFolder
from experiments.study_folder.verdict_text import verdict_lines
from merge.recipe.schema import Recipe, load_recipes
from search.errors import StudyError
from search.objective.objective import Objective, Term
from search.proposals.warm_start import read_warm_start
from tests.search.fake import FakeResources, fake_study, run_fake, weights_of

ACC = Objective((Term("t", "acc", 1.0, True),))


def coin(*words: object) -> float:
    """Return a number in [0, 1) that depends on nothing but the words."""
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=6).digest()) / 2**48


def skilled(recipe: Recipe, seed: int, question: Question) -> Mapping[str, float]:
    """Answer best where a weighs 0.7 and b 0.3."""
    a, b = weights_of(recipe)
    skill = 0.8 - (a - 0.7) ** 2 - (b - 0.3) ** 2
    return {"acc": float(coin(question.id) < skill)}


def test_patience_ends_a_search_that_finds_nothing_better(tmp_path: Path) -> None:
    study = fake_study(search={"trials": 50, "patience": 4})
    bench = FakeResources(study, ACC, lambda *_: {"acc": 1.0})
    verdict, recorder = run_fake(bench, tmp_path)
    assert len(recorder.trials()) == 4
    assert verdict.ended == "no new best in 4 trials, after 4"


def test_hours_end_a_search_after_the_trial_that_is_running(tmp_path: Path) -> None:
    bench = FakeResources(fake_study(search={"trials": 50, "max_hours": 1e-9}), ACC, skilled)
    verdict, _ = run_fake(bench, tmp_path)
    assert verdict.ended.startswith("1e-09 hours were up after 0 trials; no candidate was scored on all questions")
    later = FakeResources(fake_study(search={"trials": 3}), ACC, skilled)
    verdict, recorder = run_fake(later, tmp_path)
    assert len(recorder.trials()) == 3
    assert verdict.ended == "the budget of 3 trials is spent"


def test_brute_force_ends_when_every_candidate_was_asked_for(tmp_path: Path) -> None:
    models = [{"model": name, "parameters": {"weight": {"choices": [0.25, 0.75]}}} for name in ("a", "b")]
    families = {"f": {"merge_method": "task_arithmetic", "base_model": "base", "models": models}}
    study = fake_study(families=families, search={"trials": 50, "sampler": "auto", "race": False})
    verdict, recorder = run_fake(FakeResources(study, ACC, skilled), tmp_path)
    assert len({tuple(record.params.items()) for record in recorder.trials()}) == len(recorder.trials()) == 4
    assert verdict.ended == "all 4 candidates of the space were asked for"


def test_a_pareto_search_returns_its_front(tmp_path: Path) -> None:
    def answer(recipe: Recipe, seed: int, question: Question) -> Mapping[str, float]:
        a, b = weights_of(recipe)
        return {"acc": float(coin(question.id) < (a * (1 - b / 2) if question.task == "u" else b * (1 - a / 2)))}

    objective = Objective((Term("u", "acc", 0.5, True), Term("v", "acc", 0.5, True)))
    tasks = {"tasks": [{"task": "u", "metric": "acc"}, {"task": "v", "metric": "acc"}]}
    study = fake_study(evaluate=tasks, search={"trials": 14, "objective": "pareto", "sampler": "tpe"})
    verdict, recorder = run_fake(FakeResources(study, objective, answer), tmp_path)
    points = [tuple(point.scores.values()) for point in verdict.front]
    full = [record for record in recorder.records if record.part == "search" and record.state == "complete"]
    everyone = [(record.metrics["u/acc"], record.metrics["v/acc"]) for record in full]
    assert len(points) > 1
    assert not any(o[0] >= p[0] and o[1] >= p[1] and o != p for o in everyone for p in points)
    FolderWriter(StudyFolder(tmp_path))._write_front(verdict)
    files = sorted((tmp_path / "front").iterdir(), key=lambda file: int(file.stem))
    assert [load_recipes(file)[0].to_yaml() for file in files] == [point.recipe_yaml for point in verdict.front]
    assert files[0].read_text().startswith(f"# {verdict.front[0].name}: u/acc {points[0][0]:.4f}, v/acc ")


def test_a_constraint_keeps_the_winner_from_forgetting(tmp_path: Path) -> None:
    def answer(recipe: Recipe, seed: int, question: Question) -> Mapping[str, float]:
        a, _ = weights_of(recipe)
        return {"acc": float(coin(question.id) < (0.2 + 0.7 * a if question.task == "t" else 0.9 - 0.6 * a * a))}

    objective = Objective((Term("guard", "acc", 0.0, True), Term("t", "acc", 1.0, True)))
    tasks = {"tasks": [{"task": "t", "metric": "acc"}, {"task": "guard", "metric": "acc", "weight": 0}]}

    def weight(**sections: Any) -> tuple[float, Any]:
        study = fake_study(evaluate=tasks, search={"trials": 25, "sampler": "tpe"}, **sections)
        name = "free" if not sections else "kept"
        folder = tmp_path / name
        folder.mkdir()
        verdict, _ = run_fake(FakeResources(study, objective, answer, (80, 80, 120)), folder)
        return weights_of(Recipe.from_mapping(verdict.recipe, place="t"))[0], verdict

    free, _ = weight()
    kept, verdict = weight(constraints={"guard/acc": {"at_least": "0.8 of base"}})
    assert free > 0.8
    assert kept < 0.65
    (check,) = verdict.constraints
    assert check.limit == "at least 0.8 of base"
    assert check.value > check.bound - 0.1


def test_a_constraint_on_what_is_not_measured_is_refused() -> None:
    with pytest.raises(StudyError, match=r"study.yaml: .*constraints.hellaswag/acc_norm: the task must be in"):
        fake_study(constraints={"hellaswag/acc_norm": {"at_least": "0.98 of base"}})
    with pytest.raises(StudyError, match="must be TASK/METRIC"):
        fake_study(constraints={"t": {"at_least": 0.5}})
    with pytest.raises(StudyError, match=r"constraints\.t/acc\.at_least"):
        fake_study(constraints={"t/acc": {"at_least": "about half"}})


def test_a_rung_stops_candidates_before_the_dear_metric_where_it_is_trusted(tmp_path: Path) -> None:
    low = Objective((Term("t", "gold_bits_per_byte", 1.0, False),))

    def run(name: str, *, agree: bool) -> tuple[Any, int]:
        def answer(recipe: Recipe, seed: int, question: Question) -> Mapping[str, float]:
            a, b = weights_of(recipe)
            bits = (a - 0.7) ** 2 + (b - 0.3) ** 2
            noise = 0.1 * coin(question.id, "bits")
            skill = 0.9 - bits
            return {
                "acc": float(coin(question.id) < skill),
                "gold_bits_per_byte": noise + (bits if agree else 1 - bits),
            }

        (tmp_path / name).mkdir()
        study = fake_study(search={"trials": 12, "rung": "likelihood"})
        verdict, recorder = run_fake(FakeResources(study, ACC, answer, rung=low), tmp_path / name)
        unfinished = [record for record in recorder.trials() if "t/acc" not in record.metrics]
        return verdict.rung, len(unfinished)

    trusted, stopped = run("yes", agree=True)
    assert trusted.trusted
    assert stopped > 0
    doubted, stopped = run("no", agree=False)
    assert doubted.correlation < 0
    assert stopped == 0


def test_masks_of_a_random_winner_are_scored_with_other_seeds(tmp_path: Path) -> None:
    def answer(recipe: Recipe, seed: int, question: Question) -> Mapping[str, float]:
        return {"acc": float(coin(question.id, seed) < (0.9 if recipe.merge_method == "dare_ties" else 0.1))}

    models = [{"model": n, "parameters": {"weight": {"low": 0.0, "high": 1.0}, "density": 0.5}} for n in ("a", "b")]
    families = {"dare": {"merge_method": "dare_ties", "base_model": "base", "models": models}}
    study = fake_study(families=families, search={"trials": 3, "mask_seeds": 4})
    verdict, _ = run_fake(FakeResources(study, ACC, answer), tmp_path)
    assert verdict.masks is not None
    assert len(set(verdict.masks.seeds)) == len(verdict.masks.values) == 4
    assert np.std(verdict.masks.values) > 0
    again, _ = run_fake(FakeResources(study, ACC, answer), tmp_path)
    assert again.masks == verdict.masks


def test_a_winner_without_masks_says_nothing_of_them(tmp_path: Path) -> None:
    verdict, _ = run_fake(FakeResources(fake_study(search={"trials": 3}), ACC, skilled), tmp_path)
    assert verdict.masks is None


def test_baselines_inside_the_space_are_known_before_the_first_trial(tmp_path: Path) -> None:
    from search.storage.store import Store

    study = fake_study(search={"trials": 3})
    run_fake(FakeResources(study, ACC, skilled), tmp_path)
    trials = Store(f"journal:{tmp_path / 'journal'}", study).trials.get_trials()
    known = {t.user_attrs["baseline"]: tuple(t.params.values()) for t in trials if "baseline" in t.user_attrs}
    assert known == {
        "base in linear": (0.0, 0.0),
        "a in linear": (1.0, 0.0),
        "b in linear": (0.0, 1.0),
        "equal weights in linear": (0.5, 0.5),
        "task arithmetic in linear": (1.0, 1.0),
    }


def recipe_file(folder: Path, weight: float) -> str:
    document = fake_study().space.families["linear"].decode({"models.a.weight": 0.5, "models.b.weight": 0.25})
    document["models"][0]["parameters"]["weight"] = weight  # type: ignore[index]
    path = folder / "published.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(path)


def test_a_published_recipe_is_asked_first_and_one_out_of_range_is_refused_with_its_path(tmp_path: Path) -> None:
    study = fake_study(search={"trials": 3, "warm_start": [recipe_file(tmp_path, 0.625)]})
    _, recorder = run_fake(FakeResources(study, ACC, skilled), tmp_path)
    assert dict(recorder.trials()[0].params) == {"models.a.weight": 0.625, "models.b.weight": 0.25}
    with pytest.raises(StudyError) as caught:
        read_warm_start(fake_study(search={"warm_start": [recipe_file(tmp_path, 1.5)]}))
    assert "search.warm_start[0]" in str(caught.value)
    assert "models[0].parameters.weight: must be in" in str(caught.value)
    with pytest.raises(StudyError, match="which is not there"):
        read_warm_start(fake_study(search={"warm_start": ["runs/nowhere"]}))


@pytest.mark.parametrize("sampler", ["cmaes", "tpe"])
def test_an_earlier_study_is_gone_on_with(tmp_path: Path, sampler: str) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    study = fake_study(search={"trials": 8, "race": False})
    (earlier / "study.yaml").write_text(yaml.safe_dump(study.file.model_dump(mode="json", exclude_unset=True)))
    _, recorder = run_fake(FakeResources(study, ACC, skilled), earlier, f"sqlite:///{earlier / 'study.db'}")
    best = max(recorder.trials(), key=lambda record: record.metrics["objective"])
    then = fake_study(study="then", search={"trials": 6, "sampler": sampler, "warm_start": [str(earlier)]})
    _, heard = run_fake(FakeResources(then, ACC, skilled), tmp_path)
    assert heard.trials()[0].params == best.params
    assert len(heard.trials()) == 6


def noise(seed: int) -> Any:
    """Return answers that depend on chance alone, yet differ from recipe to recipe."""

    def answer(recipe: Recipe, masks: int, question: Question) -> Mapping[str, float]:
        return {"acc": float(coin(seed, recipe.digest(), question.id) < 0.3 + 0.4 * coin(question.id))}

    return answer


def test_searches_over_chance_alone_do_not_call_winners(tmp_path: Path) -> None:
    """A verdict has 2.5 % for a false 'better'; of ten searches at most one may say so (97.6 % of the time)."""
    called = 0
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        study = fake_study(search={"trials": 6, "seed": seed})
        verdict, _ = run_fake(FakeResources(study, ACC, noise(seed), (40, 40, 80)), folder)
        called += any(": better, objective" in line for line in verdict_lines(verdict))
    assert called <= 1


def test_a_search_with_something_to_find_calls_its_winner(tmp_path: Path) -> None:
    study = fake_study(search={"trials": 24})
    verdict, recorder = run_fake(FakeResources(study, ACC, skilled, (60, 60, 300)), tmp_path)
    assert any(": better, objective" in line for line in verdict_lines(verdict))
    assert any(record.state == "stopped" for record in recorder.trials())
