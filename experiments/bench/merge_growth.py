"""How time and memory of ``mergesearch merge`` grow from 10 million to a billion parameters.

    python -m experiments.bench.merge_growth --work DIR

No peer: it shows that peak memory follows the largest tensor, not the model. Takes about 6 minutes and 10 GB of disk;
in its smallest form, ``--sizes 10M``, 15 seconds.

Three models of each size, random weights in a llama's shape, are made below the folder, merged by three methods, and
deleted.
"""

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from experiments.bench.support.process import machine, middle, run
from merge.checkpoint.safetensors_file import write_header, write_tensor

METHODS = ("linear", "ties", "dare_ties")


@dataclass(frozen=True)
class Size:
    """The shape of a llama."""

    hidden: int
    inner: int
    layers: int
    vocabulary: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return every tensor's shape by name."""
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, self.hidden),
            "model.norm.weight": (self.hidden,),
        }
        for layer in range(self.layers):
            at = f"model.layers.{layer}"
            shapes |= {f"{at}.self_attn.{name}_proj.weight": (self.hidden, self.hidden) for name in "qkvo"}
            shapes |= {f"{at}.mlp.{name}_proj.weight": (self.inner, self.hidden) for name in ("gate", "up")}
            shapes |= {f"{at}.mlp.down_proj.weight": (self.hidden, self.inner)}
            shapes |= {f"{at}.{name}_layernorm.weight": (self.hidden,) for name in ("input", "post_attention")}
        return shapes


SIZES = {
    "10M": Size(256, 688, 7, 16_000),
    "30M": Size(384, 1024, 12, 24_000),
    "100M": Size(640, 1728, 16, 32_000),
    "300M": Size(1024, 2816, 21, 32_000),
    "1B": Size(2048, 5632, 19, 32_000),
}


def write_model(folder: Path, size: Size, seed: int) -> None:
    """Write a random model in bfloat16; models of neighbouring seeds differ by a little noise."""
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.hidden // 64,
        "vocab_size": size.vocabulary,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    common, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    shapes = size.shapes()
    with (folder / "model.safetensors").open("wb") as stream:
        write_header(stream, {name: (torch.bfloat16, shape) for name, shape in shapes.items()})
        for shape in shapes.values():
            tensor = torch.randn(shape, generator=common).mul_(0.05)
            if seed:
                tensor.add_(torch.randn(shape, generator=own), alpha=0.002)
            write_tensor(stream, tensor.bfloat16())


def rows(name: str, size: Size, folder: Path, repeats: int) -> None:
    """Print the rows of one size."""
    for seed, model in enumerate(("base", "a", "b")):
        write_model(folder / model, size, seed)
    shapes = [torch.Size(shape).numel() for shape in size.shapes().values()]
    for method in METHODS:
        own = {"weight": 0.5, **({} if method == "linear" else {"density": 0.5})}
        models = [{"model": model, "parameters": own} for model in ("a", "b")]
        base = {} if method == "linear" else {"base_model": "base"}
        (folder / "recipe.yaml").write_text(yaml.safe_dump({"merge_method": method, **base, "models": models}), "utf-8")
        command = [sys.executable, "-m", "experiments", "merge", str(folder / "recipe.yaml"), str(folder / "out")]
        command += ["--models-root", str(folder), "--force", "--out-shard-size", "500M"]
        cost = middle([run(command, log=folder / "log") for _ in range(repeats)])
        print(
            f"| {name} | {method} | {sum(shapes) / 1e6:.0f} | {max(shapes) * 2 / 1e6:.0f} "
            f"| {cost.wall:.1f} | {cost.cpu:.1f} | {cost.anonymous / 1e6:.0f} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for up to 10 GB; deleted afterwards")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--sizes", default=",".join(SIZES))
    arguments = parser.parse_args()
    print(f"{machine()}, torch {torch.__version__}; bfloat16, two models and a base\n")
    print("| size | method | parameters, million | largest tensor MB | wall s | CPU s | anonymous MB |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.sizes.split(","):
        scratch = Path(tempfile.mkdtemp(prefix="merge-growth-", dir=arguments.work))
        try:
            rows(name, SIZES[name], scratch, arguments.repeats)
        finally:
            shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
