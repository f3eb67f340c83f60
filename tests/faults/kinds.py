"""The kinds of files that strangers hand over: valid examples of each, and the command that reads them."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from hypothesis import strategies as st

from experiments.cli import app
from experiments.exit_codes import explained
from tests.faults.mutations import as_json, as_yaml, bomb, hostile_text, mutated, nested, scarred
from tests.faults.valid_documents import ADAPTERS, ARC_ROW, CARD_DOCUMENTS, GSM_ROW, RECIPES, STAGES, STUDIES
from tests.merge.parents import CONFIG, tensors_of, write_family

CARDS = Path(__file__).resolve().parent.parent / "experiments" / "reproduce" / "card" / "cards"


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: What it is called.
        inputs: Hostile files of the kind; a file is its bytes, or its name and its bytes.
        places: Words of which every message about one must hold one.
        prepare: Writes what stands beside it, once, into a folder.
        call: Puts a file in its place; returns the application and the arguments of the command that reads it.
        share: How many of all inputs are of this kind, in hundredths.
        example: A good file, with which everything is imported that is needed.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    places: tuple[str, ...]
    prepare: Callable[[Path], None]
    call: Callable[[Path, Any], tuple[Any, list[str]]]
    share: int
    example: Any


def of(action: Callable[[], object]) -> Any:
    """Return an application whose only command does something as every command of ours does: faults explained."""
    own = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @own.command()
    def do() -> None:
        with explained():
            action()

    return own


def _family(home: Path) -> None:
    from tests.tiny import make_tokenizer

    write_family(home / "models")
    for name in ("base", "a", "b"):
        make_tokenizer().save_pretrained(home / "models" / name)


def _study(home: Path, raw: bytes) -> tuple[Any, list[str]]:
    (home / "study.yaml").write_bytes(raw)
    return of(lambda: _read_study(home / "study.yaml")), []


def _read_study(file: Path) -> None:
    """Do everything with a study that needs no model: show its space, override it, fill a candidate."""
    import optuna

    from experiments.running.overrides import Overrides
    from experiments.running.space_table import print_space
    from merge.errors import RecipeError

    print_space(file)
    study = Overrides(trials=3, data="hub").apply(file)
    study.digest()
    study.with_search(seed=2).identity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(2):
        with suppress(RecipeError):  # a candidate that cannot be merged is a failed trial
            found = study.space.suggest(asked.ask())
            found.recipe().digest()
            found.yaml()


def _recipe(home: Path, raw: bytes) -> tuple[Any, list[str]]:
    (home / "recipe.yaml").write_bytes(raw)
    models = ["--models-root", str(home / "models")]
    return app, ["merge", str(home / "recipe.yaml"), str(home / "out"), *models, "--quiet"]


def _as_stages(documents: Any) -> str:
    return "---\n".join(as_yaml(one) for one in documents) if isinstance(documents, list) else as_yaml(documents)


def _card(home: Path, raw: bytes) -> tuple[Any, list[str]]:
    (home / "card.md").write_bytes(raw)
    return app, ["reproduce", str(home / "card.md"), "--dry-run"]


def _as_card(document: Any) -> str:
    if not isinstance(document, dict):
        return str(document)
    front, recipe, table = (document.get(key) for key in ("front", "recipe", "table"))
    lines = [" | ".join(map(str, row)) for row in table] if isinstance(table, list) and all(
        isinstance(row, list) for row in table) else [str(table)]  # fmt: skip
    rule = "|---" * 3 + "|"
    rows = "\n".join(f"| {line} |" for line in lines[1:])
    return (
        f"---\n{as_yaml(front)}---\n# card\n\n```yaml\n{as_yaml(recipe)}```\n\n"
        f"| {lines[0] if lines else ''} |\n{rule}\n{rows}\n\nIt reaches 62.6 on ARC.\n"
    )


def _adapter(home: Path, raw: bytes) -> tuple[Any, list[str]]:
    (home / "models" / "lora" / "adapter_config.json").write_bytes(raw)
    document = {"merge_method": "passthrough", "models": [{"model": "base+lora"}]}
    (home / "recipe.yaml").write_text(as_yaml(document))
    models = ["--models-root", str(home / "models")]
    return app, ["merge", str(home / "recipe.yaml"), str(home / "out"), *models, "--quiet"]


def _weights(home: Path, raw: bytes) -> tuple[Any, list[str]]:
    (home / "models" / "hostile" / "model.safetensors").write_bytes(raw)
    pair = [{"model": name, "parameters": {"weight": 0.5}} for name in ("hostile", "a")]
    (home / "recipe.yaml").write_text(as_yaml({"merge_method": "linear", "models": pair}))
    models = ["--models-root", str(home / "models")]
    return app, ["merge", str(home / "recipe.yaml"), str(home / "out"), *models, "--quiet"]


def _hostile_model(home: Path) -> None:
    _family(home)
    (home / "models" / "hostile").mkdir()
    (home / "models" / "hostile" / "config.json").write_text(json.dumps(CONFIG))


def header_of(tensors: dict[str, Any]) -> dict[str, Any]:
    """Return the header of some tensors in float32, as the format writes it."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + 4 * tensor.numel()]}
        at += 4 * tensor.numel()
    return header


def safetensors(header: str, data: bytes, length: int | None = None) -> bytes:
    """Return a safetensors file with a header of any kind, and of any stated length."""
    raw = header.encode("utf-8", "surrogatepass")
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def _good_weights() -> bytes:
    tensors = tensors_of(0)
    return safetensors(as_json(header_of(tensors)), b"".join(tensor.numpy().tobytes() for tensor in tensors.values()))


@st.composite
def _weight_files(draw: st.DrawFn) -> bytes:
    tensors = tensors_of(0)
    data = b"".join(tensor.numpy().tobytes() for tensor in tensors.values())
    header = header_of(tensors)
    kind = draw(st.sampled_from(("header", "header", "header", "text", "length", "data", "raw")))
    if kind == "header":
        return safetensors(as_json(draw(mutated([header]))), data)
    if kind == "text":
        return len(as_json(header)).to_bytes(8, "little") + draw(scarred(as_json(header))) + data
    if kind == "length":
        return safetensors(as_json(header), data, draw(st.sampled_from((0, 1, 7, 2**31, 2**63, 2**64 - 1))))
    if kind == "data":
        return safetensors(as_json(header), data[: draw(st.integers(0, len(data)))] + draw(st.binary(max_size=40)))
    return draw(st.binary(max_size=60))


def _models(home: Path) -> None:
    from tests.tiny import make_family

    make_family(home / "models")


def _model(home: Path, given: tuple[str, bytes]) -> tuple[Any, list[str]]:
    name, raw = given
    import shutil

    folder = home / "models" / "given"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(home / "models" / "base", folder)
    (folder / name).write_bytes(raw)
    return of(lambda: _use_model(home)), []


def _use_model(home: Path) -> None:
    """Do with a model folder what scoring and merging do: vocabulary, live model, tokenizer, a chat, its weights."""
    from merge.live_model import load_tokenizer, new_live_model
    from merge.merger import Merger
    from merge.recipe.schema import Recipe

    forms: tuple[dict[str, object], ...] = ({}, {"tokenizer_source": "union", "chat_template": "auto"})
    for more in forms:
        document = {"merge_method": "linear", "models": [{"model": "given", "parameters": {"weight": 1.0}}], **more}
        merger, recipe = Merger([home / "models"]), Recipe.from_mapping(document, place="recipe.yaml")
        merger.check(recipe)
        tokenizer = load_tokenizer(merger, recipe)
        model = new_live_model(merger, recipe)
        merger.merge_live(recipe, model)
        tokenizer("a question of two words")


def _model_files() -> st.SearchStrategy[tuple[str, bytes]]:
    from tests.tiny import make_tokenizer

    made = make_tokenizer()
    config = {**CONFIG, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "vocab_size": len(made)}
    vocabulary = json.loads(made.backend_tokenizer.to_str())
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "pad_token": "<|end|>",
                "model_max_length": 10**30, "auto_map": {"AutoTokenizer": ["x.Evil", None]},
                "added_tokens_decoder": {"256": {"content": "<|end|>", "special": True}}}  # fmt: skip
    several = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors_of(0), "model.safetensors")}
    plain = {key: value for key, value in settings.items() if key != "auto_map"}
    documents: dict[str, tuple[Any, ...]] = {
        "config.json": (config, {**config, "auto_map": {"AutoModelForCausalLM": "x.Evil"}, "rope_theta": 1e4}),
        "tokenizer.json": (vocabulary,),
        "tokenizer_config.json": (plain, settings),
        "generation_config.json": ({"eos_token_id": [1, 2], "do_sample": False, "max_length": 20},),
        "special_tokens_map.json": ({"eos_token": {"content": "<|end|>", "lstrip": False}, "pad_token": "<|end|>"},),
        "model.safetensors.index.json": (several,),
    }
    files = [st.tuples(st.just(name), hostile_text(found, as_json)) for name, found in documents.items()]
    template = scarred("{% for m in messages %}{{ m['role'] }}{% endfor %}")
    files.append(st.tuples(st.just("chat_template.jinja"), template))
    return st.one_of(files[0], *files)


@st.composite
def _row_files(draw: st.DrawFn) -> tuple[str, bytes]:
    task = draw(st.sampled_from(("arc_easy", "gsm8k")))
    row = {"arc_easy": ARC_ROW, "gsm8k": GSM_ROW}[task]
    lines = [json.dumps({**row, "question": f"{row['question']} {number}"}).encode() for number in range(6)]
    hostile = hostile_text([row], as_json, ["[" * 3000 + "]" * 3000, "{}", "null", "[]"])
    for _ in range(draw(st.integers(1, 2))):
        lines.insert(draw(st.integers(0, len(lines))), draw(hostile))
    return task, b"\n".join(lines)


def _rows(home: Path, given: tuple[str, bytes]) -> tuple[Any, list[str]]:
    task, raw = given
    (home / "data" / task / "test.jsonl").write_bytes(raw)
    return of(lambda: _use_rows(home / "data", task)), []


def _use_rows(data: Path, task: str) -> None:
    """Do with rows what scoring does before a model is asked: load, draw, build every prompt."""
    from evals.evaluation import Evaluation
    from evals.tasks.loading import TaskSpec, load_tasks
    from evals.tasks.sampling import Leaf
    from tests.tiny import make_tokenizer

    (loaded,) = load_tasks([TaskSpec(task=task, num_fewshot=2)], data=data)
    questions = Leaf.of(loaded).test.questions(loaded.name)
    Evaluation.build([loaded], questions, tokenizer=make_tokenizer(), metrics="all")


def _data(home: Path) -> None:
    for task, row in (("arc_easy", ARC_ROW), ("gsm8k", GSM_ROW)):
        (home / "data" / task).mkdir(parents=True)
        rows = [json.dumps({**row, "question": f"{row['question']} train {n}"}) for n in range(5)]
        for split in ("train", "validation"):
            (home / "data" / task / f"{split}.jsonl").write_text("\n".join(rows))


def _nothing(home: Path) -> None:
    del home


def _yaml_texts() -> Sequence[str]:
    return (
        bomb(),
        "a: &a [*a]",
        as_yaml(nested(40)),
        "[" * 3000,
        "{a: " * 2000,
        "- " * 3000,
        "? " * 3000,
        "study: x\nstudy: y",
    )


_CARD_TEXTS = (f"```yaml\n{bomb()}\n```", "|" * 3000, "`" * 3000, "<p>" * 2000)
_CARD_FILES = tuple(path.read_text("utf-8") for path in sorted(CARDS.glob("*.md")))
_CARDS = st.one_of(
    hostile_text(CARD_DOCUMENTS, _as_card, _CARD_TEXTS),
    st.sampled_from(_CARD_FILES).flatmap(scarred),
)
_STUDIES = hostile_text(STUDIES, as_yaml, _yaml_texts())
_RECIPES = hostile_text((*RECIPES, *STAGES), _as_stages, _yaml_texts())
_ADAPTERS = hostile_text(ADAPTERS, as_json, ("[" * 3000,))

_ARC_ROWS = ("arc_easy", json.dumps(ARC_ROW).encode())

KINDS = (
    Kind("study", _STUDIES, ("study.yaml",), _nothing, _study, 25, as_yaml(STUDIES[0]).encode()),
    Kind("recipe", _RECIPES, ("recipe.yaml",), _family, _recipe, 22, as_yaml(RECIPES[0]).encode()),
    Kind("card", _CARDS, ("card.md",), _nothing, _card, 18, _as_card(CARD_DOCUMENTS[0]).encode()),
    Kind("adapter", _ADAPTERS, ("lora",), _family, _adapter, 10, as_json(ADAPTERS[0]).encode()),
    Kind("safetensors", _weight_files(), ("hostile", "recipe.yaml"), _hostile_model, _weights, 13, _good_weights()),
    Kind("model", _model_files(), ("given",), _models, _model, 7, ("chat_template.jinja", b"{{ 1 }}")),
    Kind("rows", _row_files(), ("test.jsonl", "arc_easy", "gsm8k"), _data, _rows, 5, _ARC_ROWS),
)
