"""Hostile names in what people open: cards, tables and the registry show them as text; the report has its own test."""

import re
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest
from markdown_it import MarkdownIt

from evals.scores.statistics import Interval
from experiments.release.card import CardFacts, winner_card
from experiments.release.licences import Licence
from experiments.study_folder.folder import verdict_page
from merge.output.model_card import model_card
from merge.recipe.schema import Recipe
from search.results.verdict import Comparison, Verdict
from tests.search.fake import fake_study

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "[free](javascript:alert(3))",
    "![x](javascript:alert(4))",
    "<javascript:alert(5)>",
    "`` ` `` <b onclick=alert(6)>",
    "|x|</table><iframe src=//evil>",
    "```<script>alert(7)</script>",
    "*a* __b__ [c]: javascript:alert(8)",
)


class _Seen(HTMLParser):
    """Keeps what a browser would act on."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.acts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "iframe", "img", "object", "embed", "svg", "form", "base", "meta", "link", "style", "b"}:
            self.acts.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (name in {"href", "src"} and "script:" in str(value).lower()):
                self.acts.append(f"{name}={value}")


def acts(markdown: str) -> list[str]:
    """Return what a browser would act on, of Markdown that is shown with its HTML and its tables."""
    body = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.DOTALL)
    return _Seen(MarkdownIt("commonmark", {"html": True}).enable("table").render(body)).acts


def test_the_judge_sees_what_acts() -> None:
    assert [acts(text) for text in HOSTILE[:2]] == [["script"], ["img", "onerror=alert(2)"]]
    assert acts("a <b onclick=alert(6)>") == ["b", "onclick=alert(6)"]


def recipe_of(name: str) -> Recipe:
    document = {
        "merge_method": "ties",
        "base_model": name,
        "models": [{"model": f"{name} 2", "parameters": {"weight": 1.0, "density": 0.5}}],
        "chat_template": "{{ x }}\n\n```\n<script>alert(9)</script>\n",
    }
    return Recipe.from_mapping(document, place="recipe.yaml")


def verdict_of(name: str) -> Verdict:
    interval = Interval(0.1, 0.0, 0.2, 0.95)
    scores = {name: {f"{name}/acc": 0.5, "objective": 0.5}, f"{name} 2": {f"{name}/acc": 0.4, "objective": 0.4}}
    return Verdict(
        winner=name, family=name, recipe={}, recipe_yaml="", digest="d", search_value=0.5, test_value=0.5,
        models=(f"{name} 2",), best_parent=f"{name} 2", comparisons=(Comparison(f"{name} 2", interval, ()),),
        scores=scores, higher_is_better={f"{name}/acc": True}, counts={"search": 1, "selection": 1, "test": 1},
        ended=name,
    )  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_in_cards_and_tables(name: str) -> None:
    verdict = verdict_of(name)
    facts = CardFacts(
        name=name,
        recipe=recipe_of(name),
        verdict=verdict,
        table=verdict_page(verdict),
        study=fake_study(),
        licence=Licence(name, {name: name}, (name,)),
        chat=True,
    )  # fmt: skip
    pages = {"card of a merge": model_card(recipe_of(name)), "table": verdict_page(verdict), "card": winner_card(facts)}
    assert {what: acts(page) for what, page in pages.items()} == {what: [] for what in pages}
    assert all("alert" in page or "evil" in page for page in pages.values())


def test_hostile_names_cannot_end_the_script_of_a_figure(tmp_path: object) -> None:
    """What MLflow is given as a page is Plotly's own, which writes its data as JSON without a mark of HTML."""
    figure = go.Figure(go.Bar(x=[HOSTILE[0]], y=[1], name=HOSTILE[0]))
    page = figure.to_html(include_plotlyjs=False)
    assert "alert(1)" in page
    assert "<script>alert(1)" not in page
    assert len(re.findall("</script>", page)) == len(re.findall("<script", page))
