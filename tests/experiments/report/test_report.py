"""The report: a study's all is on one page, nothing that it names can act there, and a browser draws it."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml

from evals.errors import DataError
from experiments.report.cost import savings
from experiments.report.depth import curves
from experiments.report.importance import importances
from experiments.report.page import report_page, write_report
from experiments.report.questions import (
    QuestionDifference,
    QuestionsWonAndLost,
    QuestionText,
    TaskQuestions,
    _text,
    questions_won_and_lost,
)
from experiments.report.study_facts import StudyFacts, gather_facts
from experiments.study_folder.verdict_text import verdict_lines
from merge.recipe.schema import Recipe
from search.scoring.resources import Resources
from tests.experiments.test_cli import run
from tests.search.studies import tiny_study

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}<a href='javascript:x'>"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Path:
    """Return the folder of a finished tiny study."""
    home = tmp_path_factory.mktemp("report")
    document = yaml.safe_load(tiny_study(trials=6)) | {"tracking": {"mlflow": None}}
    (home / "study.yaml").write_text(yaml.safe_dump(document))
    code, out, err = run("search", home / "study.yaml", "--models-root", tiny_models, "--out", home / "tiny")
    assert (code, err) == (0, "")
    assert "report.html" in out
    return home / "tiny"


@pytest.fixture(scope="module")
def facts(finished: Path) -> StudyFacts:
    return gather_facts(finished)


class _Elements(HTMLParser):
    """Keeps elements, their attributes, and where they lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def without_scripts(page: str) -> str:
    return re.sub(r"<script>.*?</script>", "<script></script>", page, flags=re.DOTALL)


def test_a_search_leaves_a_page_with_the_verdict_first(finished: Path) -> None:
    page = without_scripts((finished / "report.html").read_text())
    places = [page.index(f">{words}</h") for words in ("tiny", "Parents against winner", "History", "What it cost")]
    assert places == sorted(places)
    assert page.index("Winner: ") < page.index("Parents against winner")
    assert 'class="best' in page
    for name in ("scores", "differences", "questions", "cost", "history", "depth", "importances"):
        assert (finished / "tables" / f"{name}.csv").is_file()
    assert not list(finished.rglob("*.partial"))


def test_the_page_loads_nothing(finished: Path) -> None:
    elements = _Elements(without_scripts((finished / "report.html").read_text()))
    assert not set(elements.tags) & {"link", "iframe", "img", "object", "embed", "base", "form"}
    assert not [value for name, value in elements.attributes if name in {"src", "srcset", "action"}]
    assert all(str(value).startswith("#") for name, value in elements.attributes if name == "href")
    assert ("http-equiv", "Content-Security-Policy") in elements.attributes


def test_hostile_names_prompts_and_answers_stay_text(facts: StudyFacts) -> None:
    assert facts.verdict is not None
    scorings = tuple(
        replace(e, record=replace(e.record, name=HOSTILE, family=HOSTILE, reason=HOSTILE, params={HOSTILE: HOSTILE}))
        for e in facts.scorings
    )
    scores = {HOSTILE if name == facts.verdict.winner else name: of for name, of in facts.verdict.scores.items()}
    verdict = replace(facts.verdict, winner=HOSTILE, family=HOSTILE, scores=scores, recipe_yaml=HOSTILE, ended=HOSTILE)
    judged = QuestionDifference(HOSTILE, HOSTILE, 1.0, 0.0, 1.0, QuestionText(HOSTILE, (HOSTILE, "b"), HOSTILE))
    found = QuestionsWonAndLost(HOSTILE, (TaskQuestions(HOSTILE, False, (judged,), (judged,), 0),), HOSTILE)
    page = report_page(replace(facts, scorings=scorings, verdict=verdict), found)
    whole, plain = _Elements(page), report_page(facts, None)
    assert whole.tags.count("script") == _Elements(plain).tags.count("script") == 3
    assert not {"img", "a href"} & set(whole.tags)
    assert not [name for name, _ in whole.attributes if name.startswith("on")]
    assert not [value for name, value in whole.attributes if name == "href" and not str(value).startswith("#")]
    assert "alert(1)" in page
    figures = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, flags=re.DOTALL)
    assert figures is not None
    assert "<" not in figures[1]
    assert r"\u003ca" not in figures[1], "Plotly reads links in texts"


def test_an_unfinished_study_has_a_report_too(facts: StudyFacts) -> None:
    page = report_page(replace(facts, verdict=None), None)
    assert "No verdict yet" in page
    assert "Parents against winner" not in page


def test_questions_won_and_lost_have_their_text(facts: StudyFacts) -> None:
    found = questions_won_and_lost(facts)
    assert found is not None
    assert found.remark == ""
    for task in found.tasks:
        assert len(task.won) + len(task.lost) + task.level == 12
        assert all(one.gain > 0 for one in task.won)
        assert all(one.text is not None and one.text.gold for one in (*task.won, *task.lost))
    assert [task.score for task in found.tasks] == ["mini_arc/acc_norm", "mini_gsm8k/gold_bits_per_byte"]


def test_questions_whose_data_are_gone_are_told_by_id(facts: StudyFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[str] = []

    def gone(bench: Resources) -> None:
        places.append(bench._study.file.evaluate.data)
        raise DataError("data: must be there, got none")

    monkeypatch.setattr(Resources, "tasks", property(gone))
    found = questions_won_and_lost(facts)
    assert found is not None
    assert found.remark.startswith("the questions' texts are missing: data: must be there, got none; ")
    assert "'mergesearch report STUDY --data DIR'" in found.remark
    assert "must be there" in report_page(facts, found)
    with pytest.raises(DataError, match="must be there"):
        questions_won_and_lost(facts, Path("elsewhere"))
    assert places == [facts.study.file.evaluate.data, str(Path("elsewhere").resolve())]


def arc_data(folder: Path) -> Path:
    """Write a folder of made-up questions in the hub's schema of arc_easy."""
    (folder / "arc_easy").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        rows = [
            {
                "id": f"{split}-{n}",
                "question": f"Which number of the {split} follows {n}?",
                "choices": {"text": [f"{n + 1}", f"{n + 2}", "none"], "label": ["A", "B", "C"]},
                "answerKey": "A",
            }
            for n in range(12)
        ]
        (folder / "arc_easy" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_texts_are_shown_from_a_folder_that_moved_after_the_search(tmp_path: Path, tiny_models: Path) -> None:
    data, moved = arc_data(tmp_path / "data"), tmp_path / "elsewhere"
    document = yaml.safe_load(tiny_study(trials=1, sampler="random")) | {"tracking": {"mlflow": None}}
    document["families"].pop("slerp")
    task = {"task": "arc_easy", "metric": "gold_bits_per_byte", "num_fewshot": 0}
    questions = {"search": 6, "selection": 6, "test": 6}
    document["evaluate"] = {"tasks": [task], "questions": questions, "verdict": "asked"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    root = tmp_path / "tiny"
    searched = run("search", tmp_path / "study.yaml", "--models-root", tiny_models, "--data", data, "--out", root)
    assert (searched[0], searched[2]) == (0, "")
    data.rename(moved)

    def page() -> str:
        return without_scripts((root / "report.html").read_text())

    assert run("report", root)[0] == 0
    assert "texts are missing" in page()
    assert not re.search(r"Which number of the \w+ follows \d+\?", page())
    assert run("report", root, "--data", moved) == (0, f"report: {root / 'report.html'}\n", "")
    assert "texts are missing" not in page()
    assert len(re.findall(r"</span>Which number of the \w+ follows \d+\?</summary>", page())) == 6
    table = pd.read_csv(root / "tables" / "questions.csv")
    assert len(table) == 6
    assert [str(gold) for gold in table["gold"]] == [
        str(int(asked.split("follows ")[1].split("?")[0]) + 1) for asked in table["asked"]
    ]


def test_a_headline_leaves_out_what_prompts_put_around_a_question() -> None:
    assert QuestionText("Question: Why?\nAnswer:", (), "").headline == "Why?"
    assert QuestionText("Q: Is vitamin A: good\nA:", (), "").headline == "Is vitamin A: good"
    assert QuestionText("", ("one", "two"), "").headline == "one / two"


def test_a_text_whose_choices_are_beginnings_is_told_with_the_right_one() -> None:
    class Winogrande:
        """What of lm-eval's task is asked: the text is the number of the right beginning, the target what follows."""

        doc_to_text = staticmethod(lambda doc: int(doc["answer"]) - 1)
        doc_to_target = staticmethod(lambda _: " was taller.")
        doc_to_choice = staticmethod(lambda _: ["Ann said that Ann", "Ann said that Bea"])
        get_config = staticmethod(lambda name: name)

    assert _text(Winogrande, {"answer": "2"}) == QuestionText(
        "… was taller.", ("Ann said that Ann", "Ann said that Bea"), "Ann said that Bea"
    )


def test_a_study_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    code, _, err = run("report", tmp_path)
    assert code == 2
    assert err == f"error: {tmp_path}: must be the folder of a study, as in runs/NAME\n"
    assert list(tmp_path.iterdir()) == []


def test_scores_that_never_differ_share_a_line(facts: StudyFacts) -> None:
    verdict = facts.verdict
    assert verdict is not None
    (first, *_) = verdict.comparisons
    one = replace(first.tasks[0], detectable=0.1)
    same = [replace(one, task=f"task_{n}/acc", detectable=0.0) for n in range(3)]
    lines = list(verdict_lines(replace(verdict, comparisons=(replace(first, tasks=(one, *same)),))))
    assert "  answered alike in every question: task_0/acc, task_1/acc, task_2/acc" in lines
    assert [line.split(":")[0] for line in lines if line.startswith("  ")][:1] == [f"  {one.task}"]
    assert not any("task_0/acc:" in line for line in lines)


def test_few_trials_tell_no_importances(facts: StudyFacts) -> None:
    assert all("too few" in found.remark for found in importances(facts))


def test_racing_saves_what_a_stopped_trial_was_not_asked(facts: StudyFacts) -> None:
    (first, *_) = facts.trials
    stopped = replace(first, asked=8, record=replace(first.record, state="stopped", parts={"score": 2.0}))
    others = tuple(e for e in facts.scorings if e.record.kind != "trial")
    account = savings(replace(facts, scorings=(*others, stopped)))
    assert (account.stopped, account.questions, account.questions_share) == (1, 24, 0.75)
    assert account.seconds == pytest.approx(6.0)


def test_parameters_over_depth_follow_filters_gradients_and_slices() -> None:
    recipe = Recipe.from_mapping(
        {
            "merge_method": "slerp",
            "base_model": "a",
            "slices": [
                {"sources": [{"model": m, "layer_range": [0, 3]} for m in ("a", "b")]},
                {"sources": [{"model": m, "layer_range": [3, 5]} for m in ("a", "b")], "parameters": {"t": 0.25}},
            ],
            "parameters": {"t": [{"filter": "mlp", "value": [0, 1]}, {"value": 0.5}]},
        },
        place="recipe",
    )
    found = {curve.label: dict(zip(curve.depth, curve.values, strict=True)) for curve in curves(recipe)}
    assert {depth: found["mlp"][depth] for depth in (0.0, 1.0, 2.0)} == {0.0: 0.0, 1.0: 0.5, 2.0: 1.0}
    assert set(found["other tensors"].values()) == {0.5, 0.25}
    assert found["other tensors"][4.0] == 0.25


@pytest.fixture(scope="module")
def chromium() -> str:
    """Return a browser that can be run without a screen, or skip."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("no Chromium on this machine")


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "profile"
    shutil.rmtree(tmp_path / "profile", ignore_errors=True)


def test_a_browser_without_a_network_draws_every_figure(finished: Path, chromium: str, profile: Path) -> None:
    path = write_report(finished)
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
        "--virtual-time-budget=10000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    figures = path.read_text().count("data-figure=")
    assert figures >= 2
    assert f'data-drawn="{figures}"' in told.stdout
    assert "CONSOLE" not in told.stderr, told.stderr


def test_tables_beside_the_page_can_be_read_again(finished: Path) -> None:
    scores = pd.read_csv(finished / "tables" / "scores.csv", index_col="metric")
    assert "objective" in scores.index
    cost = pd.read_csv(finished / "tables" / "cost.csv", index_col="part")
    assert cost["tokens run"].to_dict()["total"] < cost["tokens unshared"].to_dict()["total"]
