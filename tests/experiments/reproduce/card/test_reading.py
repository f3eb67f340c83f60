"""Reading model cards: what is found survives what pages do to a card."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import InputError
from experiments.reproduce.card.card_text import CardText, clean, read_card_text
from experiments.reproduce.card.claimed_scores import PublishedScores, find_published_scores
from experiments.reproduce.card.front_matter import read_front_matter
from experiments.reproduce.card.recipes import find_recipes
from experiments.reproduce.chain import order_recipes
from merge.recipe.schema import Recipe

CARDS = Path(__file__).parent / "cards"


def recipes_of(text: str) -> list[Recipe]:
    page = CardText("card.md", text)
    return [found.recipe for found in find_recipes(page, read_front_matter(page).end)]


def claims_of(text: str, column: str | None = None) -> PublishedScores:
    page = CardText("card.md", text)
    return find_published_scores(page, read_front_matter(page), column)


def told(claims: PublishedScores) -> dict[tuple[str, str, int | None], float]:
    """Return task, metric and shots of each claim with its score in percent."""
    return {
        (score.asked.task, score.asked.metric, score.asked.shots): round(100 * score.value, 2)
        for score in claims.scores
        if score.asked is not None
    }


def card(name: str) -> str:
    return clean((CARDS / f"{name}.md").read_bytes())


def one_line(text: str) -> str:
    return " ".join(text.split())


def unindented(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def without_fences(text: str) -> str:
    return re.sub(r"^```\w*$", "", text, flags=re.MULTILINE)


def windows(text: str) -> str:
    return clean(text.replace("\n", "\r\n").encode("cp1252"))


def utf16(text: str) -> str:
    return clean(text.encode("utf-16"))


def non_breaking(text: str) -> str:
    return clean(text.replace("  ", "\u00a0\u00a0").encode())


DAMAGES: list[Callable[[str], str]] = [
    one_line,
    unindented,
    without_fences,
    windows,
    utf16,
    non_breaking,
    lambda text: unindented(without_fences(text)),
    lambda text: one_line(without_fences(text)),
]
NAMES = ["block-expansion", "slerp-chain", "tutorial", "dare-against-slerp", "medical"]
V1 = {
    ("arc_challenge", "acc_norm", 25): 62.63,
    ("hellaswag", "acc_norm", 10): 77.25,
    ("mmlu", "acc", 5): 58.65,
    ("truthfulqa_mc2", "acc", None): 50.49,
    ("winogrande", "acc", 5): 73.88,
    ("gsm8k", "exact_match/strict-match", 5): 58.61,
}
V2 = {
    ("leaderboard_ifeval", "", None): 59.61,
    ("leaderboard_bbh", "", None): 24.06,
    ("leaderboard_math_hard", "", None): 6.80,
    ("leaderboard_gpqa", "", None): 7.61,
    ("leaderboard_musr", "", None): 11.78,
    ("leaderboard_mmlu_pro", "", None): 25.44,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", range(len(DAMAGES)))
def test_a_damaged_page_gives_the_recipes_of_the_whole_one(name: str, damage: int) -> None:
    whole = card(name)
    assert [r.digest() for r in recipes_of(DAMAGES[damage](whole))] == [r.digest() for r in recipes_of(whole)]


@pytest.mark.parametrize("name", ["block-expansion", "slerp-chain", "dare-against-slerp", "medical"])
@pytest.mark.parametrize("damage", range(len(DAMAGES)))
def test_a_damaged_page_gives_the_scores_of_the_whole_one(name: str, damage: int) -> None:
    whole = card(name)
    assert told(claims_of(DAMAGES[damage](whole))) == told(claims_of(whole))


def test_the_block_expansion_is_read_with_its_filters_and_its_leaderboard() -> None:
    (recipe,) = recipes_of(card("block-expansion"))
    assert recipe.slices is not None
    assert [source.layer_range for piece in recipe.slices for source in piece.sources] == [(0, 32), *[(31, 32)] * 8]
    claims = claims_of(card("block-expansion"))
    assert told(claims) == V2
    assert claims.average == pytest.approx(0.2255)


def test_a_chain_of_merges_is_built_in_order() -> None:
    page = CardText("card.md", card("slerp-chain"))
    chain = order_recipes(find_recipes(page), place="card.md", number=None, mapped={})
    assert [stage.references() for stage in chain.stages] == [
        ("example/phi-dpo", "example/phi-hermes"),
        ("example/phi-psy", "example/phi-aana"),
        ("mergesearch-stage-1", "mergesearch-stage-2"),
    ]
    assert dict(chain.made) == {"mergesearch-stage-1": "example/merge-one", "mergesearch-stage-2": "example/merge-two"}
    assert told(claims_of(page.text)) == V1


def test_a_mapped_model_of_a_chain_is_not_built() -> None:
    page = CardText("card.md", card("slerp-chain"))
    mapped = {"example/merge-one": "here", "example/merge-two": "there"}
    chain = order_recipes(find_recipes(page), place="card.md", number=3, mapped=mapped)
    assert [stage.references() for stage in chain.stages] == [("example/merge-one", "example/merge-two")]


def test_a_page_with_four_recipes_asks_which_one_is_meant() -> None:
    page = CardText("tutorial.md", card("tutorial"))
    found = find_recipes(page)
    assert [one.recipe.merge_method for one in found] == ["slerp", "ties", "dare_ties", "passthrough"]
    with pytest.raises(
        InputError, match=r"tutorial.md: must hold one recipe, got 4: 1: slerp .*choose with --recipe N"
    ):
        order_recipes(found, place=page.name, number=None, mapped={})
    assert order_recipes(found, place=page.name, number=3, mapped={}).stages[0].merge_method == "dare_ties"


def test_the_row_of_a_table_with_several_models_can_be_chosen() -> None:
    default, chosen = claims_of(card("tutorial")), claims_of(card("tutorial"), "daredevil")
    assert any("choose another with --column" in note for note in default.notes)
    assert told(chosen)["arc_challenge", "acc_norm", 25] == 69.10
    assert told(default)["arc_challenge", "acc_norm", 25] == 66.30


def test_the_card_s_own_column_is_known_by_its_title() -> None:
    claims = claims_of(card("dare-against-slerp"))
    assert told(claims) == {("mmlu", "acc", 5): 64.10, ("truthfulqa_mc2", "acc", None): 60.52}
    assert claims.average == pytest.approx(0.7069)


def test_two_metrics_of_one_task_and_the_subjects_are_read() -> None:
    found = told(claims_of(card("medical")))
    assert found["arc_challenge", "acc", 25] == 59.39
    assert found["arc_challenge", "acc_norm", 25] == 63.65
    assert found["mmlu_professional_medicine", "acc", 5] == 77.94
    assert len(found) == 12


@pytest.mark.parametrize(
    ("name", "count", "first"), [("llama3-merge-biomed", 12, 59.39), ("openchat-40-layers", 6, 59.61)]
)
def test_the_saved_pages_are_read(shared: Path, name: str, count: int, first: float) -> None:
    page = read_card_text(str(shared / "cards" / f"{name}.txt"))
    front = read_front_matter(page)
    assert len(find_recipes(page, front.end)) == 1
    claims = find_published_scores(page, front)
    assert len(claims.scores) == count
    assert round(100 * claims.scores[0].value, 2) == first


@pytest.mark.parametrize(
    "text",
    [
        "Metric Value\nAvg. 63.58\nAI2 Reasoning Challenge 62.63\nHellaSwag (10-Shot) 77.25\nMMLU (5-Shot) 58.65\nTruthfulQA 50.49\nWinogrande 73.88\nGSM8k 58.61",  # noqa: E501
        "Model Average ARC HellaSwag MMLU TruthfulQA Winogrande GSM8K\nmine 63.58 62.63 77.25 58.65 50.49 73.88 58.61",
        "Metric\nValue\nAvg.\n63.58\nARC\n62.63\nHellaSwag\n77.25\nMMLU\n58.65\nTruthfulQA\n50.49\nWinogrande\n73.88\nGSM8K\n58.61",
        "62.63% on ARC, 77.25% for HellaSwag, 58.65% on MMLU, 50.49% on TruthfulQA, 73.88% on Winogrande, 58.61% on GSM8K",  # noqa: E501
        "ARC: 0.6263, HellaSwag: 0.7725, MMLU: 0.5865, TruthfulQA: 0.5049, Winogrande: 0.7388, GSM8K: 0.5861",
    ],
)
def test_scores_are_read_from_text(text: str) -> None:
    assert told(claims_of(text)) == V1


def test_the_table_that_lm_eval_prints_is_read() -> None:
    text = (
        "|  Tasks  |Version|Filter|n-shot| Metric |   |Value |   |Stderr|\n"
        "|---------|------:|------|-----:|--------|---|-----:|---|-----:|\n"
        "|arc_easy |      1|none  |     3|acc     |↑  |0.4600|±  |0.0500|\n"
        "|         |       |none  |     3|acc_norm|↑  |0.4400|±  |0.0490|\n"
        "|mini_arc |      1|none  |     0|acc_norm|↑  |0.2500|±  |0.0490|\n"
    )
    assert told(claims_of(text)) == {
        ("arc_easy", "acc", 3): 46.0,
        ("arc_easy", "acc_norm", 3): 44.0,
        ("mini_arc", "acc_norm", 0): 25.0,
    }


def test_a_saved_html_page_is_read() -> None:
    text = (
        b"<html><body><h1>merged</h1><script>var x = 'merge_method: evil';</script>"
        b"<table><tr><th>Metric</th><th>Value</th></tr><tr><td>ARC (25-shot)</td><td>62.63</td></tr></table>"
        b"<pre>merge_method: linear\nmodels:\n  - model: a/b\n    parameters:\n      weight: 1.0\n</pre></body></html>"
    )
    (recipe,) = recipes_of(clean(text))
    assert recipe.merge_method == "linear"
    assert told(claims_of(clean(text))) == {("arc_challenge", "acc_norm", 25): 62.63}


def test_parameters_that_mergekit_ignores_are_left_out_with_a_note() -> None:
    text = "```yaml\nmerge_method: linear\nmodels:\n- {model: a/b, parameters: {weight: 1, density: 0.5}}\n```"
    (found,) = find_recipes(CardText("card.md", text))
    assert found.notes == ("linear takes no 'density': left out",)


@pytest.mark.parametrize(
    ("text", "document"),
    [
        (
            "A DARE TIES merge of [a/one](https://hf.co/a) and b/two, weight and density 0.5 each, c/base as a base",
            {
                "merge_method": "dare_ties",
                "base_model": "c/base",
                "models": [{"model": m, "parameters": {"weight": 0.5, "density": 0.5}} for m in ("a/one", "b/two")],
            },
        ),
        (
            "I merged a/one with b/two by SLERP with t = 0.3.",
            {
                "merge_method": "slerp",
                "base_model": "a/one",
                "models": [{"model": "a/one"}, {"model": "b/two"}],
                "parameters": {"t": 0.3},
            },
        ),
        (
            "A linear merge of a/one and b/two, weights 0.7 and 0.3.",
            {
                "merge_method": "linear",
                "models": [
                    {"model": "a/one", "parameters": {"weight": 0.7}},
                    {"model": "b/two", "parameters": {"weight": 0.3}},
                ],
            },
        ),
    ],
)
def test_a_recipe_in_prose_is_read_when_everything_is_said(text: str, document: dict[str, object]) -> None:
    assert recipes_of(text) == [Recipe.from_mapping(document, place="expected")]


def test_a_recipe_in_prose_that_leaves_something_open_is_not_guessed() -> None:
    with pytest.raises(InputError, match=r"got sentences on slerp that do not say t$"):
        recipes_of("A SLERP merge of a/one and b/two.")


@pytest.mark.parametrize(
    "text",
    [
        "# nothing\n\nJust prose about merging.",
        "```yaml\nmerge_method: slerp\n```",
        "merge_method: !!python/object/apply:os.system ['touch x']\nmodels: []",
        "a: &a [x, x, x, x, x, x, x, x]\n" + "\n".join(f"b{i}: &b{i} [*a, *a, *a, *a, *a]" for i in range(9)),
    ],
)
def test_a_card_without_a_usable_recipe_is_refused_in_one_family_of_errors(text: str) -> None:
    with pytest.raises(InputError, match=r"card.md"):
        recipes_of(text)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([*"ab:-|{}[]#`'\" .01", "\n", "merge_method: ", "models:", "- model: ", "ARC ", "---"]))
)
def test_no_text_breaks_the_reader(parts: list[str]) -> None:
    page = CardText("card.md", clean("".join(parts).encode()))
    front = read_front_matter(page)
    find_published_scores(page, front)
    with suppress(InputError):
        find_recipes(page, front.end)
