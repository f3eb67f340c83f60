"""What a winner leaves with: its recipe, its weights as a model folder with a card, a place on the hub."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import typer
import yaml

from experiments.atomic_files import write_text_atomically
from experiments.errors import InputError
from experiments.models_roots import models_roots as all_roots
from experiments.release.card import CardFacts, has_chat_template, winner_card
from experiments.release.licences import merged_licence, parent_licences
from experiments.release.merge_to_folder import shard_size
from experiments.release.push import check_repository, push_folder
from experiments.study_folder.folder import StudyFolder, find_finished, read_verdict
from merge.merger import Merger
from merge.recipe.schema import load_recipes
from search.storage.store import Store
from search.study.study import LoadedStudy, load_study


@dataclass(frozen=True)
class ExportOptions:
    """What to write; the names are those of the command line.

    Attributes:
        recipe: File for the recipe.
        model: Folder for the weights, tokenizer, generation config and card.
        push: ``USER/NAME`` on the hub.
        private: Whether a repository that is made is private.
        license: Licence of the result, instead of the one that follows from the parents'.
        out_shard_size: Largest shard, with K, M or B.
        force: Replace what is there.
    """

    recipe: Path | None = None
    model: Path | None = None
    push: str | None = None
    private: bool = False
    license: str | None = None
    out_shard_size: str = "5B"
    force: bool = False


def export_winner(study: Path, options: ExportOptions, *, models_roots: Sequence[Path] | None) -> None:
    """Write the winner of a finished study; recipe, model folder, a repository on the hub.

    Raises:
        InputError: The study has no winner, nothing is asked for, or a file is in the way.
        experiments.push.PushError: The hub did not take it.
        merge.errors.MergeError: A parent is missing; nothing is written.
        OSError: The disk is full; nothing is left under the final name.
    """
    folder = find_finished(study)
    _check(options)
    with ExitStack() as stack:
        target = options.model
        if target is None and options.push is not None:
            scratch = tempfile.TemporaryDirectory(prefix=".push-", dir=folder.root)
            target = Path(stack.enter_context(scratch)) / "model"
        if target is not None:
            _write_model(folder, target, options, all_roots(models_roots))
        if options.model is not None:
            typer.echo(f"weights: {options.model}")
        if options.recipe is not None:
            write_text_atomically(options.recipe, folder.best.read_text(encoding="utf-8"))
            typer.echo(f"recipe: {options.recipe}")
        if options.push is not None and target is not None:
            typer.echo(f"pushed: {push_folder(target, options.push, private=options.private)}")


def _check(options: ExportOptions) -> None:
    if options.recipe is None and options.model is None and options.push is None:
        raise InputError("export: must be told what to write: --recipe FILE, --model DIR, --push USER/NAME")
    if options.recipe is not None and options.recipe.exists() and not options.force:
        raise InputError(f"--recipe {options.recipe}: is there already; use --force to replace it")
    if options.push is not None:
        check_repository(options.push)


def _write_model(folder: StudyFolder, out: Path, options: ExportOptions, roots: tuple[Path, ...]) -> None:
    (winner,) = load_recipes(folder.best)
    study = load_study(folder.study)
    verdict = read_verdict(folder)
    licence = merged_licence(parent_licences(winner.references(), roots), options.license)

    def finish(work: Path) -> None:
        facts = CardFacts(
            name=options.push or out.name,
            recipe=winner,
            verdict=verdict,
            table=folder.table.read_text(encoding="utf-8"),
            study=study,
            licence=licence,
            chat=has_chat_template(work),
        )
        write_text_atomically(work / "README.md", winner_card(facts))
        write_text_atomically(work / "mergesearch_study.yaml", _shareable(study))

    seed, size = study.file.search.seed, shard_size(options.out_shard_size)
    merger = Merger(roots, seed=seed)
    merger.check(winner)
    _check_parents(folder, study, merger)
    merger.merge_to_folder(winner, out, seed=seed, out_shard_size=size, force=options.force, finish=finish)
    for note in licence.notes:
        typer.echo(f"note: {note}")


def _check_parents(folder: StudyFolder, study: LoadedStudy, merger: Merger) -> None:
    """Refuse to export under a verdict that was found with other parents."""
    if study.file.store is None and not (folder.root / "study.db").is_file():
        typer.echo("note: the study's store is not here, so that its parents are taken as they are")
        return
    pinned = Store(folder.store_url(study), study, existing=True).pinned("parents")
    known = pinned if isinstance(pinned, dict) else {}
    changed = [name for name, now in merger.fingerprints().items() if known.get(name, now) != now]
    if changed:
        raise InputError(
            f"{folder.root}: {changed[0]} must be as it was when the study was run, its weights changed; restore it"
        )


def _shareable(study: LoadedStudy) -> str:
    """Return a study file without what belongs to this machine: folders, and a store's address or password."""
    document = study.file.model_dump(mode="json", exclude_unset=True, exclude={"store", "tracking"})
    for key in ("data", "include_path"):
        value = document["evaluate"].get(key)
        if isinstance(value, str) and value != "hub":
            document["evaluate"][key] = Path(value).name
    return yaml.safe_dump(document, sort_keys=False, width=120)
