"""What the code may not contain: pickles, shells, evaluated text, unsafe YAML, code of models, open doors."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted(path for room in ("merge", "evals", "search", "experiments") for path in (ROOT / room).rglob("*.py"))
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv",
    "subprocess.getoutput", "subprocess.getstatusoutput", "yaml.unsafe_load", "yaml.unsafe_load_all",
    "yaml.full_load", "yaml.full_load_all", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.Loader", "tempfile.mktemp",
    "torch.serialization.add_safe_globals",
}  # fmt: skip
FORBIDDEN_IMPORTS = {
    "pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "_pickle", "http.server", "socketserver", "xmlrpc",
    "flask", "fastapi", "uvicorn", "telnetlib", "ftplib",
}  # fmt: skip
LOADERS = {"merge/documents.py", "evals/tasks/index.py"}
"""Files that give YAML a loader of their own, which must be a SafeLoader."""


def name_of(node: ast.expr) -> str:
    """Return ``a.b.c`` for names and attributes; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return ""


def keyword(call: ast.Call, name: str) -> object:
    """Return the constant that a keyword is given; None where there is none."""
    return next((k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None)


def faults(tree: ast.AST, file: str) -> Iterator[str]:
    """Go through what a module contains and may not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"{node.lineno}: imports {name}" for name in names if name in FORBIDDEN_IMPORTS)
        elif isinstance(node, ast.Call):
            yield from (f"{node.lineno}: {fault}" for fault in call_faults(node, file))
        elif isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "[::]"):  # noqa: S104
            yield f"{node.lineno}: listens to everybody"


def call_faults(call: ast.Call, file: str) -> Iterator[str]:
    name = name_of(call.func)
    last = name.rpartition(".")[2]
    if name in FORBIDDEN_CALLS:
        yield f"calls {name}"
    if any(
        k.arg == "shell" and not (isinstance(k.value, ast.Constant) and k.value.value is False) for k in call.keywords
    ):
        yield "starts a shell"
    if name.startswith("yaml.") and last in ("load", "load_all", "compose", "compose_all", "parse", "scan"):
        loaders = [name_of(k.value) for k in call.keywords if k.arg == "Loader"]
        if file not in LOADERS or loaders != ["_Loader"]:
            yield f"reads YAML with {loaders or 'no loader'}"
    if name == "torch.load" and keyword(call, "weights_only") is not True:
        yield "reads a pickle with code"
    if name.endswith("load") and keyword(call, "allow_pickle") is True:
        yield "reads a pickle"
    if keyword(call, "trust_remote_code") is True:
        yield "runs the code of a model"
    loads = name.startswith("Auto") and last in ("from_pretrained", "from_config")
    if loads and not file.startswith("experiments/bench") and keyword(call, "trust_remote_code") is not False:
        yield f"{name} would ask to run the code of a model: say trust_remote_code=False"
    if last == "bind" and "sock" in name.lower():
        yield "opens a port"
    if name == "ray.init" and keyword(call, "include_dashboard") is not False and keyword(call, "address") is not None:
        yield "starts Ray's dashboard"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_in_a_module_runs_what_strangers_wrote(path: Path) -> None:
    file = path.relative_to(ROOT).as_posix()
    assert not list(faults(ast.parse(path.read_text("utf-8")), file))


@pytest.mark.parametrize("file", sorted(LOADERS))
def test_own_loaders_are_safe_ones(file: str) -> None:
    classes = [node for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))) if isinstance(node, ast.ClassDef)]
    assert [[name_of(base) for base in one.bases] for one in classes if one.name == "_Loader"] == [["yaml.SafeLoader"]]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from marshal import loads",
        "eval('1')",
        "import os\nos.system('true')",
        "import subprocess\nsubprocess.run('true', shell=True)",
        "import subprocess\nsubprocess.run('true', shell=flag)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nyaml.load(text)",
        "import torch\ntorch.load(file)",
        "import torch\ntorch.load(file, weights_only=False)",
        "import numpy\nnumpy.load(file, allow_pickle=True)",
        "AutoTokenizer.from_pretrained(folder)",
        "AutoModelForCausalLM.from_config(config, trust_remote_code=True)",
        "server.listen('0.0.0.0')",
    ],
)
def test_what_is_forbidden_is_seen(source: str) -> None:
    assert list(faults(ast.parse(source), "merge/new.py"))
