"""Reading model cards: tables and recipes are found however a card lays them out."""

import json
import textwrap
from collections.abc import Callable

import pytest
import yaml

from experiments.reproduce.card.card_text import clean
from merge.recipe.schema import Recipe
from tests.experiments.reproduce.card.test_reading import claims_of, one_line, recipes_of, told, unindented

PIPES = """
| Metric | Value |
|---|---:|
| ARC (25-shot) | 62.63 |
| HellaSwag | 77.25 |
| Avg. | 69.94 |
"""
REVERSED = """
| Value | Metric |
|---|---|
| 62.63 | ARC (25-shot) |
| 77.25 | HellaSwag |
| 69.94 | Avg. |
"""
MODELS_IN_ROWS = """# x/cool
| Model | Avg | ARC | HellaSwag |
|--|--|--|--|
| x/a | 60 | 61 | 62 |
| **x/cool** | 69.94 | 62.63 | 77.25 |
"""
OWN_IN_THE_MIDDLE = """# cool
| Task | x/a | cool | x/b | Δ |
|--|--|--|--|--|
| ARC | 1.2 | 62.63 | 3.4 | +61 |
| HellaSwag | 5 | 77.25 | 6 | +72 |
| Average | 7 | 69.94 | 8 | +62 |
"""
HTML = """# cool
<table><tr><th>Metric</th><th>Value</th></tr>
<tr><td><b>ARC</b></td><td>62.63</td></tr>
<tr><th>HellaSwag</th><td><strong>77.25</strong></td></tr>
<tr><td>Avg</td><td>69.94</td></tr></table>
"""
AMONG_OTHERS = """
| Benchmark | Score |
|---|---|
| MT-Bench | 7.9 |
| ARC | .6263 |
| HellaSwag | 0.7725 |
| MMLU anatomy | 6150 |
| Average | 0.6994 |
"""
LAYOUTS = {
    "plain": PIPES,
    "windows": PIPES.replace("\n", "\r\n"),
    "one dash": PIPES.replace("|---|---:|", "|-|-|"),
    "no outer pipes": "\n".join(line.strip("| ") for line in PIPES.split("\n")),
    "quoted": textwrap.indent(PIPES, "> "),
    "values first": REVERSED,
    "bold percent": PIPES.replace("62.63", "**62.63 %**").replace("77.25", "_77.25%_"),
    "decimal comma": PIPES.replace("62.63", "62,63").replace("77.25", "77,25").replace("69.94", "69,94"),
    "changes": PIPES.replace("62.63", "62.63 (+1.2)").replace("77.25", "↑77.25*"),
    "models in rows": MODELS_IN_ROWS,
    "own in the middle": OWN_IN_THE_MIDDLE,
    "html": HTML,
    "of a hundred": PIPES.replace("62.63", "62.63/100").replace("77.25", "77.25 / 100"),
    "other scales": AMONG_OTHERS,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_table_is_read_however_it_is_laid_out(layout: str) -> None:
    claims = claims_of(clean(LAYOUTS[layout].encode()))
    assert told(claims) == {("arc_challenge", "acc_norm", 25): 62.63, ("hellaswag", "acc_norm", 10): 77.25}
    assert claims.average == pytest.approx(0.6994)
    assert any(note.startswith("MMLU anatomy: left out") for note in claims.notes) == (layout == "other scales")


def test_columns_of_metrics_are_scores_of_their_own() -> None:
    claims = claims_of("| Task | acc | acc_norm |\n|--|--|--|\n| ARC | 59.39 | 63.65 |\n| MMLU anatomy | 70 | |")
    assert told(claims) == {
        ("arc_challenge", "acc", 25): 59.39,
        ("arc_challenge", "acc_norm", 25): 63.65,
        ("mmlu_anatomy", "acc", 5): 70.0,
    }


@pytest.mark.parametrize(("heading", "score"), [("# cool", 62.63), ("# other", 11.1), ("# neither", 11.1)])
def test_of_several_models_in_a_model_index_the_card_s_own_counts(heading: str, score: float) -> None:
    models = "".join(
        f"- name: {name}\n  results:\n  - dataset: {{name: ARC, type: ai2_arc}}\n"
        f"    metrics: [{{type: acc_norm, value: {value}}}]\n"
        for name, value in (("other", 11.1), ("cool", 62.63))
    )
    found = told(claims_of(f"---\nmodel-index:\n{models}---\n{heading}\n\nA merge.\n"))
    assert found == {("arc_challenge", "acc_norm", 25): score}


@pytest.mark.parametrize("head", ["Shots", "n-shot", "few-shot", "num_fewshot", "# Shots"])
def test_shots_in_a_column_of_their_own_are_no_score(head: str) -> None:
    rule = "|--|--|--|--|"
    claims = claims_of(f"| Task | {head} | Metric | Score |\n{rule}\n| ARC | 0 | acc | 55.2 |\n| GSM8K | 8 | em | 40 |")
    assert told(claims) == {("arc_challenge", "acc", 0): 55.2, ("gsm8k", "exact_match/strict-match", 8): 40.0}
    assert not any(score.others for score in claims.scores)


@pytest.mark.parametrize("damage", [lambda text: text, one_line, unindented], ids=["whole", "one line", "unindented"])
def test_a_subject_that_only_the_config_of_a_result_names_is_the_task(damage: Callable[[str], str]) -> None:
    results = "".join(
        f"  - dataset:\n      name: MMLU\n      type: cais/mmlu\n      config: {config}\n"
        f"    metrics:\n    - type: acc\n      value: {value}\n"
        for config, value in (("anatomy", 61.5), ("all", 58.65))
    )
    text = f"---\nmodel-index:\n- name: m\n  results:\n{results}---\n# m\n"
    assert told(claims_of(damage(text))) == {("mmlu_anatomy", "acc", 5): 61.5, ("mmlu", "acc", 5): 58.65}


RECIPE = """merge_method: ties
base_model: org/base
models:
  - model: org/base
  - model: org/a
    parameters: {density: 0.5, weight: 0.4}
  - model: org/b
    parameters:
      density: 0.5
      weight:
        - {filter: mlp, value: [0.1, 0.3]}
        - value: 0.3
parameters: {normalize: true}
"""
BRACES = RECIPE.replace("- model: org/base\n", "- {model: org/base}\n")
PLACES = {
    "fence": f"```yaml\n{RECIPE}```",
    "tildes": f"~~~yml\n{RECIPE}~~~",
    "four marks": f"````yaml title='config'\n{RECIPE}````",
    "indented": f"The config:\n\n{textwrap.indent(RECIPE, '    ')}\nand that is all.",
    "quoted": textwrap.indent(f"```yaml\n{RECIPE}```", "> ", lambda _: True),
    "twice": f"```yaml\n{RECIPE}```\nOnce more:\n```yaml\n{RECIPE}```",
    "details": f"<details><summary>config</summary>\n\n```yaml\n{RECIPE}```\n</details>",
    "html": f"<html><body><pre><code>{RECIPE}</code></pre></body></html>",
    "old mac": RECIPE.replace("\n", "\r"),
    "one line": one_line(RECIPE),
    "one line, braces": one_line(BRACES),
    "unindented, braces": unindented(BRACES),
    "json": f"```json\n{json.dumps(yaml.safe_load(RECIPE))}\n```",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_recipe_is_read_wherever_it_stands(place: str) -> None:
    (found,) = recipes_of(clean(PLACES[place].encode()))
    assert found.digest() == Recipe.from_mapping(yaml.safe_load(RECIPE), place="expected").digest()
