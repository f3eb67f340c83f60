"""Hostile model folders: pickles stay closed, code of models is never run, nothing is read or written elsewhere."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.cli import app
from merge.errors import CheckpointError, RecipeError
from merge.live_model import load_tokenizer, new_live_model
from merge.merger import Merger
from merge.recipe.schema import Recipe, load_recipes
from tests.faults.kinds import of
from tests.faults.mutations import bomb
from tests.faults.watch import Heard, invoked
from tests.merge.parents import CONFIG, tensors_of
from tests.tiny import make_family


class Malicious:
    """What unpickles to a file on the disk."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


def merge(home: Path, *more: str) -> Heard:
    (home / "recipe.yaml").write_text("merge_method: passthrough\nmodels: [{model: given}]\n")
    arguments = ["merge", str(home / "recipe.yaml"), str(home / "out"), "--models-root", str(home / "models"), *more]
    return invoked(app, arguments, (home,))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "given"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.mark.parametrize("options", [(), ("--allow-pickle",)], ids=["by default", "--allow-pickle"])
@pytest.mark.parametrize("protocol", ["zip", "old", "bare"])
def test_a_malicious_checkpoint_is_never_unpickled(options: tuple[str, ...], protocol: str, home: Path) -> None:
    file, mark = home / "models" / "given" / "pytorch_model.bin", home / "mark"
    if protocol == "bare":
        file.write_bytes(pickle.dumps(Malicious(mark)))
    else:
        torch.save({"w": Malicious(mark)}, file, _use_new_zipfile_serialization=protocol == "zip")
    heard = merge(home, *options)
    assert not mark.exists()
    assert heard.code == 2
    assert not list(heard.faults(size=1000, places=("given",)))
    assert ("must hold tensors only" if options else "use --allow-pickle") in heard.err


def test_a_pickle_of_tensors_is_read_when_it_is_allowed(home: Path) -> None:
    torch.save(tensors_of(0), home / "models" / "given" / "pytorch_model.bin")
    assert merge(home, "--allow-pickle", "--no-copy-tokenizer").code == 0


@pytest.mark.parametrize("where", ["../evil.bin", "/evil.bin", 3, ""], ids=str)
def test_an_index_of_pickles_names_files_beside_it(where: object, home: Path) -> None:
    torch.save(tensors_of(0), home / "models" / "evil.bin")
    folder = home / "models" / "given"
    (folder / "pytorch_model.bin").write_bytes(b"")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"w": where}}))
    heard = merge(home, "--allow-pickle")
    assert (heard.code, "weight_map" in heard.err) == (2, True)
    assert not list(heard.faults(size=1000, places=("given",)))


def test_hostile_caches_of_prompts_are_not_unpickled(tmp_path: Path) -> None:
    from evals.cache.disk_cache import DiskCache

    cache = DiskCache(tmp_path / "prompts")
    cache.write("tasks", "key", {"a": 1})
    (file,) = [path for path in (tmp_path / "prompts").rglob("*") if path.is_file()]
    file.write_bytes(pickle.dumps(Malicious(tmp_path / "mark")))
    assert cache.read("tasks", "key") is None
    assert not (tmp_path / "mark").exists()


def test_hostile_states_of_a_sampler_are_not_unpickled(tmp_path: Path) -> None:
    """Optuna's own CMA-ES keeps pickles in the store, which others can write to; ours keeps numbers."""
    import optuna

    from search.samplers import SamplerContext, make_sampler
    from tests.search.fake import fake_study

    study = fake_study(search={"sampler": "cmaes"})
    made = optuna.create_study(direction="maximize")
    state = pickle.dumps(Malicious(tmp_path / "mark")).hex()
    space = study.space.dimensions()
    for number in range(12):
        trial = optuna.trial.create_trial(
            value=float(number),
            params=dict.fromkeys(space, 0.5),
            distributions=space,
            system_attrs={"cma:optimizer": state, "cma:generation": 0, "cma:n_restarts": 0, "cma:optimizer:0": state},
        )
        made.add_trial(trial)
    made.sampler = make_sampler("cmaes", SamplerContext(study.space, 20, 0, 0), {})
    study.space.suggest(made.ask())
    assert not (tmp_path / "mark").exists()


CODE = "from pathlib import Path\nPath({mark!r}).mkdir()\n"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Return a good model folder called ``given``, beside which a module would leave a mark when it is run."""
    models = make_family(tmp_path / "models")
    folder = (models / "base").rename(models / "given")
    for name in ("modeling_evil", "configuration_evil", "tokenization_evil", "setup", "conftest", "__init__"):
        (folder / f"{name}.py").write_text(CODE.format(mark=str(tmp_path / "mark")))
    return folder


def use(root: Path, **more: object) -> None:
    document = {"merge_method": "linear", "models": [{"model": "given", "parameters": {"weight": 1.0}}], **more}
    merger, recipe = Merger([root]), Recipe.from_mapping(document, place="recipe.yaml")
    load_tokenizer(merger, recipe)
    merger.merge_live(recipe, new_live_model(merger, recipe))


@pytest.mark.parametrize("known", [True, False], ids=["of a known kind", "of an unknown kind"])
def test_code_of_a_model_is_never_run(known: bool, given: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    config = json.loads((given / "config.json").read_text())
    maps = {
        "AutoConfig": "configuration_evil.E",
        "AutoModelForCausalLM": "modeling_evil.E",
        "AutoModel": "modeling_evil.E",
    }
    config |= {"auto_map": maps, **({} if known else {"model_type": "evil"})}
    (given / "config.json").write_text(json.dumps(config))
    settings = json.loads((given / "tokenizer_config.json").read_text())
    settings |= {"auto_map": {"AutoTokenizer": ["tokenization_evil.E", "tokenization_evil.E"]}}
    settings |= {} if known else {"tokenizer_class": "EvilTokenizer"}
    (given / "tokenizer_config.json").write_text(json.dumps(settings))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a person was asked to run a model's code"))
    heard = invoked(of(lambda: use(given.parent)), [], (given.parent.parent,))
    assert not (given.parent.parent / "mark").exists()
    assert not list(heard.faults(size=10_000, places=("given",)))
    assert heard.code in ((0, 2) if known else (2,))


@pytest.mark.parametrize("name", ["../../../evil", "/evil", "a/b", "..", "evil\x00"], ids=repr)
def test_chat_templates_are_not_written_elsewhere(name: str, given: Path) -> None:
    settings = json.loads((given / "tokenizer_config.json").read_text())
    settings["chat_template"] = [{"name": name, "template": "x"}, {"name": "default", "template": "y"}]
    (given / "tokenizer_config.json").write_text(json.dumps(settings))
    (given / "chat_template.jinja").unlink(missing_ok=True)
    home = given.parent.parent
    (home / "recipe.yaml").write_text(
        "merge_method: linear\nmodels: [{model: given, parameters: {weight: 1}}]\ntokenizer_source: union\n"
    )
    arguments = ["merge", str(home / "recipe.yaml"), str(home / "out"), "--models-root", str(given.parent)]
    heard = invoked(app, arguments, (home,))
    assert heard.code == 2
    assert not list(heard.faults(size=10_000, places=("given",)))
    assert sorted(path.name for path in home.iterdir()) == ["models", "recipe.yaml"]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
def test_links_out_of_a_model_folder_are_refused(name: str, given: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_bytes((given / name).read_bytes())
    (given / name).unlink()
    (given / name).symlink_to(secret)
    heard = merge(tmp_path)
    assert (heard.code, "must not lead out" in heard.err) == (2, True)
    assert not list(heard.faults(size=1000, places=(name,)))


@pytest.mark.parametrize("stage", ["../evil", "/evil", "~/evil", "a/../../evil", "..", "C:\\evil", ""])
def test_names_of_stages_stay_in_their_folder(stage: str, given: Path) -> None:
    home = given.parent.parent
    one = {"name": stage, "merge_method": "passthrough", "models": [{"model": "given"}]}
    last = {"merge_method": "passthrough", "models": [{"model": stage or "given"}]}
    (home / "recipe.yaml").write_text(f"{json.dumps(one)}\n---\n{json.dumps(last)}\n")
    arguments = ["merge", str(home / "recipe.yaml"), str(home / "out"), "--models-root", str(given.parent)]
    heard = invoked(app, arguments, (home,))
    assert heard.code == 2
    assert not list(heard.faults(size=1000, places=("recipe.yaml",)))
    assert sorted(path.name for path in home.iterdir()) == ["models", "recipe.yaml"]


TAGS = (
    "!!python/object/apply:os.mkdir [{mark}]",
    "!!python/object/new:os.mkdir [{mark}]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!binary aGVsbG8=",
    "!!set {{a, b}}",
    "!!timestamp 2024-01-01",
    "!!str text",
    "!own text",
    "!<tag:yaml.org,2002:str> text",
)


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_refused_everywhere(tag: str, tmp_path: Path) -> None:
    text = f"merge_method: linear\nname: {tag.format(mark=tmp_path / 'mark')}\nstudy: x\nmodels: [{{model: a}}]\n"
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"file\.yaml:2:7: tags are refused"):
        load_recipes(tmp_path / "file.yaml")
    heard = invoked(app, ["space", str(tmp_path / "file.yaml")], (tmp_path,))
    assert (heard.code, "file.yaml:2:7: tags are refused" in heard.err) == (2, True)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("command", [["space"], ["merge", "OUT"], ["reproduce", "--dry-run"]], ids=lambda c: c[0])
def test_aliases_cannot_grow(command: list[str], tmp_path: Path) -> None:
    text = bomb(width=10, depth=12)
    (tmp_path / "file.yaml").write_text(
        text if command[0] != "reproduce" else f"---\n{text}\n---\n# x\n```yaml\n{text}\n```"
    )
    more = [str(tmp_path / "out") if word == "OUT" else word for word in command[1:]]
    heard = invoked(app, [command[0], str(tmp_path / "file.yaml"), *more], (tmp_path,))
    assert heard.code == 2
    assert not list(heard.faults(size=len(text), places=("file.yaml",)))


def test_a_config_cannot_ask_for_more_than_the_weights(given: Path) -> None:
    config = json.loads((given / "config.json").read_text())
    for changed in ({"intermediate_size": 10**12}, {"vocab_size": 10**12}, {"head_dim": 10**11}):
        (given / "config.json").write_text(json.dumps(config | changed))
        heard = invoked(of(lambda: use(given.parent)), [], (given.parent.parent,))
        assert heard.code == 2
        assert not list(heard.faults(size=1000, places=("given",)))


def test_a_pattern_of_an_adapter_cannot_take_for_ever(given: Path, tmp_path: Path) -> None:
    from tests.merge.parents import write_adapter

    for number, pattern in enumerate(("(a+)+$", "(.*)*x", ".*.*.*.*.*.*y", "(?=(a+))\\1b", "(", "x" * 500)):
        folder = write_adapter(tmp_path / "models" / f"lora{number}", rank=3, alpha=6, alpha_pattern={pattern: 4})
        with pytest.raises(CheckpointError, match="alpha_pattern"):
            Merger([given.parent]).checkpoint(f"given+{folder.name}")
