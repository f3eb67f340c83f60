"""The MLflow mirror: one experiment per study, one run for the study, a child run per scored candidate."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.tracking.entries import TAG, log_metrics, log_questions, log_values, milliseconds, record_tags
from experiments.tracking.mirror_index import MirrorIndex
from experiments.tracking.mlflow_store import NOTE, PARENT, RECORD, SOURCE, STUDY_ID, OpenStore, open_store
from experiments.tracking.names import safe_name
from merge.output.model_card import as_text
from search.results.observer import TrialRecord
from search.results.verdict import Verdict

DIGEST = "mergesearch.digest"
ALIAS = "best"
MIRRORED = ".mirrored.jsonl"
"""Name of the file in a study's folder that lists what its mirror holds."""
VERDICT_DIGEST = "mergesearch.verdict"
"""Tag of the study's run: a digest of the verdict that was written last."""


@dataclass
class MlflowMirror:
    """Mirrors a study to MLflow, each record once, however often it is given.

    Nothing is opened before the first record. A fault of the store goes through ``say`` as one line, and the mirror is
    off from then on.

    Args:
        uri: MLflow tracking URI. Beside a sqlite file, artifacts go to ``mlartifacts``; else where the server says.
        study: Name of the study and of the experiment.
        study_id: Digest of the study's identity; its run is found again by it.
        say: Takes one line for a person.
        folder: The study's folder: files of a finished study are logged from there, and the index lies there.
        figures: Makes the Plotly figures of a finished study, by name.
        anew: Ask MLflow for everything, whatever the index says, and write the verdict again.
    """

    uri: str
    study: str = field(kw_only=True)
    study_id: str = field(kw_only=True)
    say: Callable[[str], None] = field(kw_only=True)
    folder: Path | None = field(default=None, kw_only=True)
    figures: Callable[[], Mapping[str, Any]] | None = field(default=None, kw_only=True)
    anew: bool = field(default=False, kw_only=True)
    _store: OpenStore | None = field(default=None, init=False, repr=False)
    _off: bool = field(default=False, init=False, repr=False)
    _best: float | None = field(default=None, init=False, repr=False)
    _ended: float | None = field(default=None, init=False, repr=False)

    @property
    def off(self) -> bool:
        """Whether a fault of the store has ended the mirror."""
        return self._off

    def log_trial(self, record: TrialRecord) -> None:
        """Mirror a baseline, trial or finalist; one that is mirrored already costs nothing. Never raises."""
        self._guarded(lambda: self._mirror(record))

    def log_verdict(self, verdict: Verdict) -> None:
        """Write the verdict to the study's run and close it. Never raises."""
        self._guarded(lambda: self._conclude(verdict))

    def sync(self, records: Sequence[TrialRecord]) -> int:
        """Mirror whatever is missing of a study's records; return how many are in the mirror afterwards."""
        for record in records:
            self.log_trial(record)
        if self._off or self._store is None:
            return 0
        return sum(1 for _, complete in self._store.children.values() if complete)

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._off:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - a search never stops for its mirror
            self._off = True
            why = " ".join(str(error).split())[:200] or type(error).__name__
            self.say(
                f"mlflow mirror is off: {self.uri}: {why}; rebuild it later with 'mergesearch mlflow-sync "
                f"{self.folder or self.study}'"
            )

    def _opened(self, began: float) -> OpenStore:
        if self._store is None:
            index = None if self.folder is None else MirrorIndex(self.folder / MIRRORED)
            if self.anew and index is not None:
                index.path.unlink(missing_ok=True)
            self._store = open_store(self.uri, self.study, self.study_id, began, index)
        return self._store

    def _mirror(self, record: TrialRecord) -> None:
        store = self._opened(record.started)
        self._ended = max(self._ended or 0.0, record.ended)
        improved = self._improvement(record)
        key = f"{record.kind}/{record.part}/{record.number}/{record.name}"[:TAG]
        run, complete = store.children.get(key, ("", False))
        if complete:
            return
        if not run:
            run = store.client.create_run(
                store.experiment,
                start_time=milliseconds(record.started),
                tags={PARENT: store.run, STUDY_ID: self.study_id, RECORD: key, **SOURCE, **record_tags(record)},
                run_name=record.name if record.part == "search" else f"{record.name} ({record.part})",
            ).info.run_id
            store.children[key] = run, False
        log_values(store.client, run, record)
        store.client.log_text(run, record.recipe_yaml, "recipe.yaml")
        if record.results is not None:
            store.client.log_text(run, record.results.answers.to_csv(index=False), "answers.csv")
            if record.state == "complete":
                log_questions(store.client, run, record.part, record.results)
            if record.kind == "baseline":
                log_questions(store.client, store.run, record.part, record.results)
        if improved:
            history = {"objective": record.metrics["objective"], "best_objective": self._best or 0.0}
            log_metrics(store.client, store.run, history, record.ended, step=record.number)
        store.mark_complete(key, run)
        status = "FAILED" if record.state == "failed" else "FINISHED"
        store.client.set_terminated(run, status=status, end_time=milliseconds(record.ended))
        store.children[key] = run, True

    def _improvement(self, record: TrialRecord) -> bool:
        """Take up a trial's objective; return whether the study's curve gets a point for it."""
        value = record.metrics.get("objective")
        if record.kind != "trial" or record.part != "search" or record.state != "complete" or value is None:
            return False
        self._best = value if self._best is None else max(self._best, value)
        return True

    def _conclude(self, verdict: Verdict) -> None:
        now = self._ended or time.time()
        store = self._opened(now)
        digest = hashlib.sha256(json.dumps([asdict(verdict), sorted(store.children)], default=str).encode()).hexdigest()
        if (
            not self.anew
            and not store.begun
            and store.client.get_run(store.run).data.tags.get(VERDICT_DIGEST) == digest
        ):
            return
        metrics = {f"test/{name}": value for name, value in verdict.scores.get(verdict.winner, {}).items()}
        metrics |= {"test/objective": verdict.test_value, "optimism": verdict.optimism}
        if verdict.comparisons:
            interval = verdict.comparisons[0].objective
            metrics |= {"against_best_parent": interval.estimate, "against_best_parent/low": interval.low}
        log_metrics(store.client, store.run, metrics, now)
        for name, value in (("winner", verdict.winner), ("family", verdict.family), ("digest", verdict.digest)):
            store.client.set_tag(store.run, name, value[:TAG])
        store.client.log_text(store.run, verdict.recipe_yaml, "best.yaml")
        for name in ("study.yaml", "table.md", "trials.csv", "verdict.json", "report.html"):
            if self.folder is not None and (self.folder / name).is_file():
                store.client.log_artifact(store.run, str(self.folder / name))
        if self.folder is not None and (self.folder / "table.md").is_file():
            table = (self.folder / "table.md").read_text(encoding="utf-8")
            store.client.set_tag(store.run, NOTE, table[:TAG].rsplit("\n", 1)[0])
        if self.figures is not None:
            for name, figure in self.figures().items():
                whole = {"include_plotlyjs": True}  # by default the page would fetch the library from the network
                store.client.log_figure(store.run, figure, f"plots/{safe_name(name)}.html", save_kwargs=whole)
        _register(store, safe_name(self.study), verdict)
        store.client.set_tag(store.run, VERDICT_DIGEST, digest)
        store.client.set_terminated(store.run, end_time=milliseconds(now))


def _register(store: OpenStore, name: str, verdict: Verdict) -> None:
    """Register the winner as a model version that points at its recipe; no weights are copied.

    The same winner again changes nothing but the alias.
    """
    from mlflow.exceptions import MlflowException

    client, source = store.client, f"runs:/{store.run}/winner"
    client.log_text(store.run, verdict.recipe_yaml, "winner/best.yaml")
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name, description="Winners of a mergesearch study, by reference: recipes only.")
    versions = {v.tags.get(DIGEST): v for v in client.search_model_versions(f"name = '{name}'") if v.source == source}
    version = versions.get(verdict.digest)
    if version is None:
        tags = {DIGEST: verdict.digest, "winner": verdict.winner[:TAG], "family": verdict.family[:TAG]}
        value = f"objective {verdict.test_value:.4f} on test questions"
        words = f"{as_text(verdict.winner)}: {value}; weights: mergesearch export"
        version = client.create_model_version(name, source, store.run, tags=tags, description=words)
    client.set_registered_model_alias(name, ALIAS, version.version)
