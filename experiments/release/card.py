"""The model card of a study's winner: what it is made of, how it scores, how and on what it was searched."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from experiments.release.licences import Licence
from experiments.score_tables import parents_against_winner, to_markdown
from merge.methods import get_method
from merge.output.model_card import as_text, fenced
from merge.recipe.schema import Recipe
from search.results.verdict import Verdict
from search.study.study import LoadedStudy

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CHAT = """messages = [{"role": "user", "content": "What is 12 times 12?"}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)"""
_PLAIN = 'inputs = tokenizer("Question: What is 12 times 12?\\nAnswer:", return_tensors="pt")'


@dataclass(frozen=True)
class CardFacts:
    """Everything that a card tells.

    Attributes:
        name: Name of the model, or ``USER/NAME`` on the hub.
        recipe: The winner's recipe.
        verdict: The study's verdict.
        table: The verdict in words and as a table, Markdown.
        study: The study.
        licence: What the model may be offered under.
        chat: Whether the tokenizer has a chat template.
    """

    name: str
    recipe: Recipe
    verdict: Verdict
    table: str
    study: LoadedStudy
    licence: Licence
    chat: bool


def winner_card(facts: CardFacts) -> str:
    """Return the README.md: front matter with a model-index, then the text."""
    data = ModelCardData(
        base_model=_hub_ids(facts.recipe) or None,
        library_name="transformers",
        license=facts.licence.name,
        model_name=facts.name.rsplit("/", 1)[-1],
        pipeline_tag="text-generation",
        tags=["mergekit", "merge", "mergesearch"],
        eval_results=list(_results(facts)) or None,
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_text(facts)}"))


def _hub_ids(recipe: Recipe) -> list[str]:
    """Return the base models that can be ids of the hub; adapters and local folders stand in the text alone."""
    bases = dict.fromkeys(reference.split("+")[0].split("@")[0] for reference in recipe.references())
    return [base for base in bases if _HUB_ID.fullmatch(base)]


def _results(facts: CardFacts) -> Iterator[EvalResult]:
    """Go through the winner's scores as entries of a model-index."""
    counts = facts.verdict.counts
    shots = _shots(facts.study)
    for key, value in facts.verdict.scores[facts.verdict.winner].items():
        task, _, metric = key.partition("/")
        if not metric:
            continue
        number = shots.get(task)
        yield EvalResult(
            task_type="text-generation",
            task_name="Text Generation",
            dataset_type=task,
            dataset_name=task if number is None else f"{task} ({number}-shot)",
            dataset_args=None if number is None else {"num_few_shot": number},
            metric_type=metric,
            metric_name=f"{metric}, on test questions of the study ({counts['test']} in all)",
            metric_value=round(float(value), 6),
        )


def _shots(study: LoadedStudy) -> dict[str, int | None]:
    from evals.suites import load_suite

    section = study.file.evaluate
    specs = section.tasks if section.suite is None else load_suite(section.suite).tasks
    return {spec.task: spec.num_fewshot for spec in specs}


def _text(facts: CardFacts) -> str:
    method = facts.recipe.merge_method
    about = (get_method(method).__doc__ or "").splitlines()[0]
    base = f", with {as_text(facts.recipe.base_model)} as the base model" if facts.recipe.base_model else ""
    models = "\n".join(f"* {as_text(reference)}" for reference in facts.recipe.references())
    return f"""# {as_text(facts.name.rsplit("/", 1)[-1])}

A merge of language models by `{method}`{base}, found by a search over recipes. {about}

## Models

{models}

## Recipe

The recipe as mergekit reads it{_seed(facts)}:

{fenced(facts.recipe.to_yaml(), "yaml")}

## Scores

Test questions that nobody searched on; the best of each row in bold.

{_table(facts)}
{_verdict(facts)}
## How it was found

{_how(facts)}

## Use

```python
{snippet(facts.name, chat=facts.chat)}```

## Licence

{_licence(facts.licence)}
"""


def _seed(facts: CardFacts) -> str:
    seed = facts.study.file.search.seed
    return (
        f" (random masks by `mergesearch merge --random-seed {seed}`)"
        if get_method(facts.recipe.merge_method).random
        else ""
    )


def _table(facts: CardFacts) -> str:
    scores, winner = facts.verdict.scores, facts.verdict.winner
    columns = {"this model": scores[winner], **{name: scores[name] for name in scores if name != winner}}
    return to_markdown(parents_against_winner(columns, facts.verdict.higher_is_better))


def _verdict(facts: CardFacts) -> str:
    """Return the verdict's sentences, which stand before the table of the study's page."""
    return facts.table.split("\n\n|", 1)[0] + "\n"


def _how(facts: CardFacts) -> str:
    file, counts = facts.study.file, facts.verdict.counts
    families = ", ".join(as_text(f"{name} ({family.get('merge_method')})") for name, family in file.families.items())
    tasks = file.evaluate.tasks
    listed = ", ".join(as_text(spec.task) for spec in tasks)
    asked = listed if file.evaluate.suite is None else f"suite {file.evaluate.suite}"
    settings = file.search
    lines = (
        f"Families: {families}; {settings.trials} trials by sampler `{settings.sampler}`, seed {settings.seed}.",
        f"Questions: {counts['search']} searched on, {counts['selection']} to choose by, {counts['test']} to judge.",
        f"Tasks: {asked}. What is searched on comes from training and validation rows, where a task has them.",
        "Do not compare these scores with leaderboards, which ask all test questions.",
        f"Recipe digest (SHA-256): `{facts.verdict.digest}`; the study as run is `mergesearch_study.yaml`.",
    )
    return "\n".join(f"* {line}" for line in lines)


def _licence(licence: Licence) -> str:
    lines = [f"* {as_text(name)}: {as_text(told or 'not told')}" for name, told in licence.parents.items()]
    result = f"This model: {as_text(licence.name)}." if licence.name else "The licence of this model is open."
    return "\n".join(
        [result, "", "Of the parents:", "", *lines, *(["", *map(as_text, licence.notes)] if licence.notes else [])]
    )


def snippet(name: str, *, chat: bool) -> str:
    """Return Python that loads a model and asks it something.

    Args:
        name: A folder or a hub id.
        chat: Whether to use the tokenizer's chat template.
    """
    return f"""from transformers import AutoModelForCausalLM, AutoTokenizer

name = {json.dumps(name)}
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, dtype="auto")
{_CHAT if chat else _PLAIN}
answer = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""


def has_chat_template(model: Path) -> bool:
    """Return whether the tokenizer of a model folder has a chat template."""
    if (model / "chat_template.jinja").is_file():
        return True
    settings = model / "tokenizer_config.json"
    return settings.is_file() and bool(json.loads(settings.read_text(encoding="utf-8")).get("chat_template"))
