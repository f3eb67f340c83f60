"""Loading tasks: local files without a network, embedded ones, and errors that say what to do."""

import os
import socket
from pathlib import Path

import pytest

from evals.errors import DataError, TaskError
from evals.tasks.index import index_folder, lm_eval_folder
from evals.tasks.loading import TaskSpec, load_tasks
from tests.evals.conftest import arc_rows, write_rows


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_local_files_are_read_in_place_of_the_hub(data: Path) -> None:
    arc, gsm, anatomy = load_tasks([TaskSpec(task=name) for name in ("arc_easy", "gsm8k", "mmlu_anatomy")], data=data)
    assert arc.metrics == ("acc", "acc_norm", "gold_prob", "gold_bits_per_byte")
    assert gsm.metrics == ("exact_match/strict-match", "exact_match/flexible-extract", "gold_bits_per_byte")
    assert gsm.higher_is_better["gold_bits_per_byte"] is False
    assert (arc.default_metric, gsm.default_metric) == ("acc", "exact_match/strict-match")
    assert [len(task.task.eval_docs) for task in (arc, gsm, anatomy)] == [10, 8, 6]
    assert gsm.task.get_config("num_fewshot") == 5


@pytest.mark.parametrize("name", ["mini_arc", "mini_gsm8k", "mini_mmlu"])
def test_embedded_tasks_need_nothing(name: str, data: Path) -> None:
    for loaded in (load_tasks([TaskSpec(task=name)]), load_tasks([TaskSpec(task=name)], data=data)):
        assert {task.label for task in loaded} == {name}
        assert all(len(task.task.eval_docs) > 0 for task in loaded)


def test_variants_find_their_rows_by_the_hubs_names(data: Path) -> None:
    for name in ("gsm8k_cot", "mmlu_anatomy_generative"):
        assert load_tasks([TaskSpec(task=name)], data=data)[0].name == name
    with pytest.raises(DataError, match="gsm8k_platinum"):
        load_tasks([TaskSpec(task="gsm8k_platinum")], data=data)


def test_a_split_that_nothing_needs_may_be_missing(tmp_path: Path) -> None:
    write_rows(tmp_path / "arc_easy" / "test.jsonl", arc_rows("test", 3))
    assert load_tasks([TaskSpec(task="arc_easy", num_fewshot=0)], data=tmp_path)
    with pytest.raises(DataError, match=r"few-shot examples, got no file .*arc_easy/train\.jsonl"):
        load_tasks([TaskSpec(task="arc_easy", num_fewshot=5)], data=tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"arc_easy/SPLIT\.jsonl"):
        load_tasks([TaskSpec(task="arc_easy")], data=tmp_path)
    write_rows(tmp_path / "arc_easy" / "train.jsonl", arc_rows("train", 3))
    with pytest.raises(DataError, match=r"questions, got no file .*arc_easy/test\.jsonl"):
        load_tasks([TaskSpec(task="arc_easy")], data=tmp_path)
    with pytest.raises(DataError, match="must be a folder"):
        load_tasks([TaskSpec(task="arc_easy")], data=tmp_path / "nowhere")


def test_a_wrong_schema_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "arc_easy" / "test.jsonl", [{"prompt": "why?"}])
    with pytest.raises(DataError, match=r"columns that the task's template reads.*'question' is undefined"):
        load_tasks([TaskSpec(task="arc_easy", num_fewshot=0)], data=tmp_path)
    (tmp_path / "arc_easy" / "test.jsonl").write_text("not json\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.jsonl: line 1: must be a JSON object, got 'not json'"):
        load_tasks([TaskSpec(task="arc_easy", num_fewshot=0)], data=tmp_path)


def test_every_row_is_checked_and_counted(tmp_path: Path) -> None:
    rows = arc_rows("test", 6)
    write_rows(tmp_path / "arc_easy" / "train.jsonl", arc_rows("train", 3))
    write_rows(tmp_path / "arc_easy" / "test.jsonl", rows)
    with pytest.raises(DataError, match=r"rows for 5 few-shot examples, got 3 in .*train\.jsonl; .* fewer shots"):
        load_tasks([TaskSpec(task="arc_easy", num_fewshot=5)], data=tmp_path)
    assert load_tasks([TaskSpec(task="arc_easy", num_fewshot=3)], data=tmp_path)
    write_rows(tmp_path / "arc_easy" / "test.jsonl", [*rows[:4], {"id": "x", "question": "q"}])
    with pytest.raises(DataError, match=r"test\.jsonl: line 5: .* got none called answerKey, choices"):
        load_tasks([TaskSpec(task="arc_easy", num_fewshot=0)], data=tmp_path)
    (tmp_path / "arc_easy" / "test.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.jsonl: must have rows, got an empty file"):
        load_tasks([TaskSpec(task="arc_easy", num_fewshot=0)], data=tmp_path)


def test_a_leaderboards_task_takes_the_rows_of_the_plain_one(benchmark_data: Path) -> None:
    (task,) = load_tasks([TaskSpec(task="leaderboard_ifeval")], data=benchmark_data)
    assert len(task.task.eval_docs) == 271


def test_unknown_names_come_with_the_nearest(data: Path) -> None:
    with pytest.raises(TaskError, match=r"evaluate\.tasks\[1\]\.task: .*'arc_esy'; did you mean 'arc_easy'"):
        load_tasks([TaskSpec(task="mini_arc"), TaskSpec(task="arc_esy")], data=data)
    with pytest.raises(TaskError, match=r"mini_arcs.*did you mean 'mini_arc'"):
        load_tasks([TaskSpec(task="mini_arcs")])
    with pytest.raises(TaskError, match=r"metric: must be one of acc, acc_norm.*'acc_nrm'; did you mean 'acc_norm'"):
        load_tasks([TaskSpec(task="arc_easy", metric="acc_nrm")], data=data)
    with pytest.raises(TaskError, match="twice"):
        load_tasks([TaskSpec(task="arc_easy"), TaskSpec(task="arc_easy")], data=data)


@pytest.mark.parametrize("asked", ["exact_match,strict-match", "exact_match/strict-match", "exact_match"])
def test_lm_evals_spelling_of_a_metric_is_understood(data: Path, asked: str) -> None:
    (task,) = load_tasks([TaskSpec(task="gsm8k", metric=asked)], data=data)
    assert task.spec.metric == task.default_metric == "exact_match/strict-match"


def test_own_tasks_win_over_lm_evals(tmp_path: Path, data: Path) -> None:
    base = lm_eval_folder() / "tasks" / "arc" / "arc_easy.yaml"
    (tmp_path / "mine.yaml").write_text(f'include: {base}\ntask: arc_easy\ndoc_to_text: "Why? {{{{question}}}}"\n')
    (task,) = load_tasks([TaskSpec(task="arc_easy", num_fewshot=0)], data=data, include_path=tmp_path)
    assert task.task.doc_to_text(task.task.eval_docs[0]).startswith("Why? test 0")


def test_the_index_knows_what_lm_eval_knows() -> None:
    index = index_folder(lm_eval_folder() / "tasks")
    assert len(index.names) > 10_000
    assert set(index.collect("ai2_arc")) == {"ai2_arc", "arc_easy", "arc_challenge"} - {"ai2_arc"}
    assert (
        len(
            [
                name
                for name in index.collect("mmlu")
                if name not in {"mmlu", "mmlu_stem", "mmlu_other", "mmlu_humanities", "mmlu_social_sciences"}
            ]
        )
        == 57
    )
    assert "leaderboard_bbh_snarks" in index.collect("leaderboard")


def test_ifeval_without_its_sentence_model_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"punkt_tab.*nltk_data"):
        load_tasks([TaskSpec(task="ifeval")], data=tmp_path)


def test_the_embedded_instructions_need_no_sentence_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    monkeypatch.setattr(nltk, "download", None)
    load_tasks([TaskSpec(task="mini_ifeval")])
    from lm_eval.tasks.ifeval import instructions_util

    instructions_util._get_sentence_tokenizer.cache_clear()
    try:
        assert instructions_util.count_sentences("We ran, e.g. to Dr. Green. Why? He came late!") == 3
        with pytest.raises(DataError, match="punkt_tab"):
            load_tasks([TaskSpec(task="ifeval")], data=tmp_path)  # its counts are those of nltk's own
    finally:
        instructions_util._get_sentence_tokenizer.cache_clear()


def test_a_hub_that_is_switched_off_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"must come from the hub.*--data DIR"):
        load_tasks([TaskSpec(task="piqa")])


def test_a_task_inside_a_listed_group_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "pair.yaml").write_text("group: pair\ntask: [mmlu_anatomy, mmlu_virology]\n", encoding="utf-8")
    with pytest.raises(TaskError, match="mmlu_anatomy in two entries"):
        load_tasks([TaskSpec(task="pair"), TaskSpec(task="mmlu_anatomy")], data=data, include_path=tmp_path)


def test_the_hub_is_switched_off_only_while_local_files_are_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    load_tasks([TaskSpec(task="arc_easy")], data=data)
    assert constants.HF_HUB_OFFLINE is False
    assert "HF_HUB_OFFLINE" not in os.environ


def test_a_hub_that_hangs_is_waited_for_a_few_seconds_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from threading import Event

    import huggingface_hub

    from evals.tasks.lm_eval_setup import HUB_SECONDS, ask_hub

    asked: list[float] = []
    never = Event()

    class Hanging:
        def head(self, _: str, timeout: float) -> None:
            asked.append(timeout)
            never.wait(60)

    monkeypatch.setattr(huggingface_hub, "get_session", Hanging)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    assert HUB_SECONDS <= 4, "imports and reading of models need their share of ten seconds"
    assert not ask_hub(seconds=0.05)()
    assert asked == [0.05]
    monkeypatch.setattr("evals.tasks.loading.ask_hub", lambda: ask_hub(seconds=0.05))
    with pytest.raises(DataError, match=r"'piqa'.*must come from the hub.*--data DIR"):
        load_tasks([TaskSpec(task="piqa")])
    assert "the hub does not answer" in caplog.text
    assert "--data DIR" in caplog.text
    never.set()
