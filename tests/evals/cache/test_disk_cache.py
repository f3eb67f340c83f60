"""What a second start takes from disk: tasks, prompts and tokens, by content, and never a damaged file."""

import os
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from evals.cache.disk_cache import DiskCache
from evals.engines.live.engine import LiveScorer
from evals.evaluation import Evaluation
from evals.tasks.cached import remembered_questions, remembered_tasks
from evals.tasks.index import lm_eval_folder
from evals.tasks.loading import LoadedTask, TaskSpec, load_tasks
from evals.tasks.sampling import Leaf, Question
from tests.evals.conftest import arc_rows, write_rows

SPECS = (TaskSpec(task="arc_easy", num_fewshot=2), TaskSpec(task="gsm8k", num_fewshot=1), TaskSpec(task="mini_arc"))


@pytest.fixture
def own_data(data: Path, tmp_path: Path) -> Path:
    return Path(copytree(data, tmp_path / "data"))


class Starts:
    """Starts that share a folder, each with nothing in memory; `opened` counts how often tasks were opened."""

    def __init__(self, folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.data, self.opened = folder, data, 0

        def counting(*args: Any, **options: Any) -> Any:
            self.opened += 1
            return load_tasks(*args, **options)

        monkeypatch.setattr("evals.tasks.cached.load_tasks", counting)
        self.questions: tuple[Question, ...] = ()

    def evaluation(self, tokenizer: Any, **options: Any) -> Evaluation:
        kept = DiskCache(self.folder)
        tasks = remembered_tasks(SPECS, kept, data=self.data, include_path=None, place="study")
        if not self.questions:
            self.questions = tuple(q for t in tasks for q in Leaf.of(t).test.questions(t.name)[:3])
        return Evaluation.build(tasks, self.questions, tokenizer=tokenizer, kept=kept, **options)


@pytest.fixture
def starts(own_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starts:
    return Starts(tmp_path / "prompts", own_data, monkeypatch)


def test_a_second_start_makes_nothing_and_answers_the_same(starts: Starts, model: Any, tokenizer: Any) -> None:
    first, scorer = starts.evaluation(tokenizer), LiveScorer(model, tokenizer)
    results = first.run(scorer)
    assert starts.opened == 1
    second, fresh = starts.evaluation(tokenizer), LiveScorer(model, tokenizer)
    assert starts.opened == 1
    again = second.run(fresh)
    assert starts.opened == 2  # metrics need the tasks, after the model has answered
    assert again.scores == results.scores
    assert again.answers.equals(results.answers)
    assert [r.args for one in second.asked for r in one.requests] == [r.args for o in first.asked for r in o.requests]


def test_no_text_is_tokenised_at_a_second_start(
    starts: Starts, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts.evaluation(tokenizer).run(LiveScorer(model, tokenizer))
    evaluation, scorer = starts.evaluation(tokenizer), LiveScorer(model, tokenizer)
    evaluation.run(scorer)
    stops = len(scorer.tokens._stops)
    assert scorer.tokens.made == stops  # the stop strings of generation alone


@pytest.mark.parametrize("harm", [lambda body: body[:-20], lambda body: body.replace(b"blue", b"grey"), lambda _: b""])
def test_a_damaged_file_is_made_again(
    starts: Starts, tokenizer: Any, harm: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    first = [one.requests for one in starts.evaluation(tokenizer).asked]
    files = sorted(starts.folder.glob("*.json"))
    assert {file.name.split("-")[0] for file in files} == {"tasks", "prompts", "tokens"}
    before = {file: file.read_bytes() for file in files}
    for file in files:
        file.write_bytes(harm(before[file]))
    assert [one.requests for one in starts.evaluation(tokenizer).asked] == first
    assert "made again" in caplog.text
    assert {file: file.read_bytes() for file in files} == before


def test_other_rows_other_settings_and_other_tokenizers_are_not_mistaken(starts: Starts, tokenizer: Any) -> None:
    plain = [one.own[0].args[0] for one in starts.evaluation(tokenizer).asked]
    chat = [one.own[0].args[0] for one in starts.evaluation(tokenizer, apply_chat_template=True).asked]
    assert chat != plain
    write_rows(starts.data / "arc_easy" / "train.jsonl", arc_rows("other", 30))
    changed = [one.own[0].args[0] for one in starts.evaluation(tokenizer).asked]
    assert starts.opened == 3  # for the first prompts, those of the chat, those of the other rows
    assert changed != plain
    assert "other" in changed[0]


def test_a_new_file_of_rows_is_noticed(starts: Starts, tokenizer: Any) -> None:
    starts.evaluation(tokenizer)
    write_rows(starts.data / "arc_easy" / "extra.jsonl", arc_rows("extra", 2))
    starts.evaluation(tokenizer)
    assert starts.opened == 2


def hub_like(folder: Path) -> Path:
    """Return a folder of task files whose rows ``datasets`` fetches and keeps by itself, as it does the hub's."""
    write_rows(folder / "rows" / "test.jsonl", arc_rows("test", 4))
    base = lm_eval_folder() / "tasks" / "arc" / "arc_easy.yaml"
    told = f"include: {base}\ntask: far_away\ndataset_path: {folder / 'rows'}\ndataset_name: null\n"
    (folder / "far_away.yaml").write_text(
        f"{told}training_split: null\nvalidation_split: null\nnum_fewshot: 0\n", encoding="utf-8"
    )
    return folder


def test_rows_of_the_hub_are_opened_again_and_their_prompts_kept(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "arrow")
    tasks_folder, kept = hub_like(tmp_path / "tasks"), DiskCache(tmp_path / "prompts")

    def prompts() -> list[tuple[Any, ...]]:
        tasks = remembered_tasks([TaskSpec(task="far_away")], kept, data=None, include_path=tasks_folder, place="t")
        assert tasks[0].fingerprint is not None
        asked = Evaluation.build(tasks, remembered_questions(tasks, kept, None), tokenizer=tokenizer, kept=kept).asked
        return [one.own[0].args for one in asked]

    first = prompts()
    kinds = [file.name.split("-")[0] for file in sorted(kept.folder.iterdir())]
    assert kinds == ["prompts", "rows", "tokens"], "what the tasks are may have changed at the hub"
    monkeypatch.setattr("evals.evaluation.build_leaf", None)
    assert prompts() == first
    monkeypatch.undo()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "arrow")
    write_rows(tasks_folder / "rows" / "test.jsonl", arc_rows("changed", 4))
    assert "changed" in prompts()[0][0]


def test_questions_are_numbered_without_opening_their_task(starts: Starts) -> None:
    kept = DiskCache(starts.folder)

    def load() -> tuple[LoadedTask, ...]:
        return remembered_tasks(SPECS, kept, data=starts.data, include_path=None, place="study")

    first = remembered_questions(load(), kept, 2)
    assert [question.task for question in first] == [spec.task for spec in SPECS for _ in range(2)]
    assert remembered_questions(load(), kept, 2) == first
    assert starts.opened == 1
    assert len(remembered_questions(load(), kept, None)) > len(first)


def test_the_files_used_longest_ago_make_room(tmp_path: Path) -> None:
    kept = DiskCache(tmp_path, most_bytes=450)
    for age, key in enumerate("abcd"):
        if key == "d":
            assert kept.read("kind", "a") == "a" * 80
        kept.write("kind", key, key * 80)  # 147 bytes each
        for file in tmp_path.iterdir():
            if file.stat().st_mtime > 1e6:
                os.utime(file, (age, age))
    assert [kept.read("kind", key) is not None for key in "abcd"] == [True, False, True, True]
    kept.write("kind", "large", "x" * 1000)
    assert [file.stat().st_size > 1000 for file in tmp_path.iterdir()] == [True]


def test_values_wait_until_the_cache_settles(tmp_path: Path) -> None:
    kept = DiskCache(tmp_path / "later", waiting=True)
    kept.write("kind", 1, ["value"])
    assert not kept.folder.exists()
    kept.settle()
    assert DiskCache(kept.folder).read("kind", 1) == ["value"]
    assert not list(kept.folder.glob(".*"))


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    DiskCache(tmp_path / "file").write("kind", 1, ["value"])
    assert "could not be kept" in caplog.text


def test_what_does_not_come_back_equal_is_not_kept(tmp_path: Path) -> None:
    kept = DiskCache(tmp_path)
    for value in ((1, 2), {1, 2}):
        assert kept.remember("kind", 1, lambda value=value: value, lambda v: v, lambda v: v) == value  # type: ignore[misc]
    assert not list(tmp_path.iterdir())
