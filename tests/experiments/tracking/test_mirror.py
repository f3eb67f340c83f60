"""The MLflow mirror: every record once, nothing lost, and never in the way of a search."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from evals.scores.results import Results
from evals.scores.statistics import Interval
from experiments.tracking.mirror import MlflowMirror
from experiments.tracking.mirror_index import MirrorIndex
from experiments.tracking.mlflow_store import QUIET, OpenStore
from search.results.observer import TrialRecord
from search.results.verdict import Comparison, Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ANSWERS = pd.DataFrame(
    {"task": ["arc"], "leaf": ["arc"], "question": ["00ff"], "metric": ["acc"], "value": [1.0], "weight": [1.0]}
)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'deep' / 'mlflow.db'}"


@pytest.fixture
def client(uri: str, monkeypatch: pytest.MonkeyPatch) -> "MlflowClient":
    for name, value in QUIET.items():  # heeded when mlflow is imported, which may be here
        monkeypatch.setenv(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def said() -> list[str]:
    return []


def record(number: int, **changes: object) -> TrialRecord:
    facts: dict[str, object] = {
        "study": "s", "study_id": "d", "number": number, "name": f"trial {number}", "family": "ties", "kind": "trial",
        "params": {"models.math.weight": 0.5}, "metrics": {"arc/acc_norm": 0.3, "objective": 0.3},
        "recipe_yaml": "merge_method: ties\n", "state": "complete", "reason": None, "started": 1000.0, "ended": 1002.5,
        "parts": {"merge": 1.0, "score": 1.5},
    }  # fmt: skip
    return TrialRecord(**{**facts, **changes})  # type: ignore[arg-type]


def runs(client: "MlflowClient", study: str) -> dict[str, "Run"]:
    experiment = client.get_experiment_by_name(study)
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert len(found) == len(client.search_runs([experiment.experiment_id])), "two runs of one name"
    return found


def test_a_study_becomes_a_run_with_children(
    uri: str, client: "MlflowClient", said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    results = Results.__new__(Results)
    object.__setattr__(results, "answers", ANSWERS)
    mirror = MlflowMirror(uri, study="tree", study_id="d", say=said.append)
    mirror.log_trial(record(-1, kind="baseline", name="math", family="", params={}, results=results))
    mirror.log_trial(record(0, results=results))
    mirror.log_trial(record(1, state="failed", reason="nan in model.norm", metrics={}))
    found = runs(client, "tree")
    parent, trial, failed = found["tree"], found["trial 0"], found["trial 1"]
    assert set(found) == {"tree", "math", "trial 0", "trial 1"}
    assert {run.data.tags.get("mlflow.parentRunId") for run in found.values()} == {None, parent.info.run_id}
    assert trial.data.params == {"models.math.weight": "0.5"}
    assert trial.data.metrics == {
        "arc/acc_norm": 0.3, "objective": 0.3, "hole/models.math.weight": 0.5, "seconds/merge": 1.0,
        "seconds/score": 1.5,
    }  # fmt: skip
    assert (trial.info.start_time, trial.info.end_time, trial.info.status) == (1_000_000, 1_002_500, "FINISHED")
    assert trial.data.tags["family"] == "ties"
    assert failed.info.status == "FAILED"
    assert failed.data.tags["reason"] == "nan in model.norm"
    assert sorted(item.path for item in client.list_artifacts(trial.info.run_id)) == ["answers.csv", "recipe.yaml"]
    assert (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts" / "tree").is_dir()
    (questions,) = client.get_run(parent.info.run_id).inputs.dataset_inputs
    assert (questions.dataset.name, questions.dataset.profile) == ("arc search", '{"num_rows": 1}')
    assert said == []
    assert capfd.readouterr() == ("", "")


def test_mirroring_again_adds_nothing(uri: str, client: "MlflowClient", said: list[str]) -> None:
    records = [record(number) for number in range(3)]
    for _ in range(2):
        mirror = MlflowMirror(uri, study="again", study_id="d", say=said.append)
        assert mirror.sync(records) == 3
        mirror.log_trial(records[0])
    found = runs(client, "again")
    assert len(found) == 4
    assert len(client.get_metric_history(found["again"].info.run_id, "objective")) == 3


def test_a_run_that_was_cut_short_is_completed_in_place(
    uri: str, client: "MlflowClient", said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            MlflowMirror(uri, study="cut", study_id="d", say=said.append).log_trial(record(0))
    assert runs(client, "cut")["trial 0"].info.status == "RUNNING"
    MlflowMirror(uri, study="cut", study_id="d", say=said.append).log_trial(record(0))
    found = runs(client, "cut")
    assert found["trial 0"].info.status == "FINISHED"
    assert len(found) == 2


def test_a_store_is_not_read_whole_again_while_nobody_else_writes_to_it(
    uri: str, client: "MlflowClient", said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    asked: list[str] = []
    search = MlflowClient.search_runs

    def counted(self: MlflowClient, ids: list[str], where: str = "", **more: Any) -> Any:
        asked.append(where)
        return search(self, ids, where, **more)

    monkeypatch.setattr(MlflowClient, "search_runs", counted)

    def mirror(folder: str, *, anew: bool = False) -> MlflowMirror:
        (tmp_path / folder).mkdir(exist_ok=True)
        place = tmp_path / folder
        return MlflowMirror(uri, study="kept", study_id="d", say=said.append, folder=place, anew=anew)

    records = [record(number) for number in range(5)]
    assert mirror("here").sync(records[:2]) == 2
    asked.clear()
    assert mirror("here").sync(records[:3]) == 3
    assert [where.endswith("attributes.status = 'RUNNING'") for where in asked] == [True]
    assert mirror("elsewhere").sync(records[:4]) == 4, "another host went on"
    assert mirror("here").sync(records) == 5
    with (tmp_path / "here" / ".mirrored.jsonl").open("a") as torn:
        torn.write('["trial/search/9')
    assert mirror("here").sync(records) == 5
    asked.clear()
    assert mirror("here", anew=True).sync(records) == 5
    assert not any("RUNNING" in where for where in asked)
    assert len(runs(client, "kept")) == 6
    assert said == []


@pytest.mark.parametrize("dies_in", ["mark_complete", "set_terminated", "add"])
def test_a_mirror_killed_at_the_end_of_a_run_neither_loses_nor_doubles_it(
    uri: str, client: "MlflowClient", said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    from mlflow import MlflowClient

    def mirror() -> MlflowMirror:
        return MlflowMirror(uri, study=f"killed in {dies_in}", study_id="d", say=said.append, folder=tmp_path)

    mirror().log_trial(record(0))
    place = {"mark_complete": OpenStore, "set_terminated": MlflowClient, "add": MirrorIndex}[dies_in]
    fault = OSError("disk full") if dies_in == "add" else KeyboardInterrupt()
    with monkeypatch.context() as patch:
        if dies_in == "add":
            patch.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(fault))
            mirror().log_trial(record(1))
        else:
            patch.setattr(place, dies_in, lambda *_, **__: (_ for _ in ()).throw(fault))
            with pytest.raises(KeyboardInterrupt):
                mirror().log_trial(record(1))
    assert mirror().sync([record(0), record(1), record(2)]) == 3
    found = runs(client, f"killed in {dies_in}")
    assert [found[f"trial {n}"].info.status for n in range(3)] == ["FINISHED"] * 3


def test_the_same_trial_on_other_questions_is_another_run(uri: str, client: "MlflowClient", said: list[str]) -> None:
    mirror = MlflowMirror(uri, study="parts", study_id="d", say=said.append)
    assert mirror.sync([record(0), record(0, kind="finalist", part="selection"), record(0, part="test")]) == 3
    assert set(runs(client, "parts")) == {"parts", "trial 0", "trial 0 (selection)", "trial 0 (test)"}


def test_names_that_mlflow_refuses_are_changed_and_stay_apart(
    uri: str, client: "MlflowClient", said: list[str]
) -> None:
    params = {"a,b": 1, "a;b": 2, **{f"t.{i}": i for i in range(150)}, "long" * 100: 3}
    name = "../../odd, name | study"
    mirror = MlflowMirror(uri, study=name, study_id="d", say=said.append)
    mirror.log_trial(record(0, params=params, metrics={"arc/acc,none": 0.5}))
    assert said == []
    trial = runs(client, name)["trial 0"]
    assert len(trial.data.params) == 153
    assert trial.data.metrics["arc/acc_none"] == 0.5
    assert set(Path(uri.removeprefix("sqlite:///")).parent.iterdir()) == {
        Path(uri.removeprefix("sqlite:///")).parent / entry for entry in ("mlflow.db", ".mlflow.db.lock", "mlartifacts")
    }


def test_studies_of_one_name_are_told_apart(uri: str, client: "MlflowClient", said: list[str]) -> None:
    for identity in ("first", "second"):
        assert MlflowMirror(uri, study="namesake", study_id=identity, say=said.append).sync([record(0)]) == 1
    experiment = client.get_experiment_by_name("namesake")
    assert len(client.search_runs([experiment.experiment_id])) == 4


def test_trials_are_found_by_any_hole_and_only_like_is_compared_with_like(
    uri: str, client: "MlflowClient", said: list[str]
) -> None:
    mirror = MlflowMirror(uri, study="filtered", study_id="d", say=said.append)
    mirror.log_trial(record(0, params={"t.mlp.0": 0.25, "merge_method": "ties"}))
    mirror.log_trial(record(1, params={"t.mlp.0": 0.75, "merge_method": "slerp"}))
    mirror.log_trial(record(2, params={"t.mlp.0": 0.9}, state="stopped", metrics={"objective": 0.99}))
    mirror.log_trial(record(-9, kind="finalist", name="trial 0", part="test", metrics={"objective": 0.98}))
    experiment = client.get_experiment_by_name("filtered")

    def named(where: str) -> list[str]:
        found = client.search_runs([experiment.experiment_id], where, order_by=["metrics.objective DESC"])
        return [run.info.run_name for run in found]

    assert set(named("metrics.`hole/t.mlp.0` > 0.5")) == {"trial 1", "trial 2"}
    assert named("metrics.`hole/t.mlp.0` < 0.5 and metrics.objective > 0.2") == ["trial 0"]
    assert named("params.merge_method = 'slerp'") == ["trial 1"]
    assert named("metrics.`partial/objective` > 0") == ["trial 2"]
    assert named("metrics.`test/objective` > 0") == ["trial 0 (test)"]
    assert max(run.data.metrics.get("objective", 0.0) for run in client.search_runs([experiment.experiment_id])) == 0.3
    assert said == []


def test_the_verdict_closes_the_study(uri: str, client: "MlflowClient", said: list[str], tmp_path: Path) -> None:
    (tmp_path / "table.md").write_text("| a |\n")
    interval = Interval(estimate=0.1, low=0.05, high=0.15, level=0.95)
    verdict = Verdict(
        "trial 0", "ties", {}, "merge_method: ties\n", "ab12", 0.5, 0.4, ("math",), "math",
        (Comparison("math", interval, ()),),
        {"trial 0": {"arc/acc": 0.4}}, {"arc/acc": True}, {"test": 3},
    )  # fmt: skip
    figure = go.Figure(go.Scatter(x=[1], y=[2]))
    drawn: list[int] = []

    def figures() -> dict[str, go.Figure]:
        drawn.append(1)
        return {"history": figure}

    for anew, times in ((False, 1), (False, 1), (True, 2)):
        mirror = MlflowMirror(
            uri, study="closed", study_id="d", say=said.append, folder=tmp_path, figures=figures, anew=anew
        )
        mirror.log_trial(record(0))
        mirror.log_verdict(verdict)
        assert len(drawn) == times, "the same verdict is written once, unless all is made anew"
    assert said == []
    run = runs(client, "closed")["closed"]
    assert (run.info.start_time, run.info.end_time, run.info.status) == (1_000_000, 1_002_500, "FINISHED")
    assert run.data.tags["winner"] == "trial 0"
    assert run.data.metrics["test/arc/acc"] == 0.4
    assert run.data.metrics["optimism"] == pytest.approx(0.1)
    assert run.data.tags["mlflow.note.content"] == "| a |"
    assert 'metrics."hole/NAME" > 0.5' in client.get_experiment_by_name("closed").tags["mlflow.note.content"]
    found = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert found == {"best.yaml", "table.md", "plots", "winner"}
    version = client.get_model_version_by_alias("closed", "best")
    assert (version.version, version.run_id, version.tags["winner"]) in (
        (1, run.info.run_id, "trial 0"),
        ("1", run.info.run_id, "trial 0"),
    )
    held = Path(client.download_artifacts(version.run_id, version.source.split("/", 2)[2]))
    assert [(file.name, file.read_text()) for file in held.iterdir()] == [("best.yaml", "merge_method: ties\n")]
    plot = client.download_artifacts(run.info.run_id, "plots/history.html")
    assert 'src="http' not in Path(plot).read_text(), "a figure must not need the network"


@pytest.mark.parametrize("kind", ["not a database", "no folder", "no server"])
def test_a_broken_store_is_told_once_and_stops_nothing(tmp_path: Path, said: list[str], kind: str) -> None:
    broken = tmp_path / "file.db"
    broken.write_bytes(b"not a database" * 1000)
    uri = {
        "not a database": f"sqlite:///{broken}",
        "no folder": f"sqlite:///{broken}/inside/mlflow.db",
        "no server": "http://127.0.0.1:9",
    }[kind]
    mirror = MlflowMirror(uri, study="s", study_id="d", say=said.append)
    assert mirror.sync([record(0), record(1)]) == 0
    assert len(said) == 1
    assert said[0].startswith("mlflow mirror is off: ")
    assert "mergesearch mlflow-sync s" in said[0]
    assert "\n" not in said[0]


def test_a_store_that_breaks_half_way_is_told_once(
    uri: str, said: list[str], monkeypatch: pytest.MonkeyPatch, client: "MlflowClient"
) -> None:
    from mlflow import MlflowClient

    mirror = MlflowMirror(uri, study="half", study_id="d", say=said.append)
    mirror.log_trial(record(0))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        mirror.log_trial(record(1))
        mirror.log_trial(record(2))
    assert len(said) == 1
    assert "disk full" in said[0]
    assert MlflowMirror(uri, study="half", study_id="d", say=said.append).sync([record(n) for n in range(3)]) == 3
    assert len(runs(client, "half")) == 4
