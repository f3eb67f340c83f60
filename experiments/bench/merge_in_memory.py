"""CPU time of merging one candidate into a live model, for every method, one thread.

    python -m experiments.bench.merge_in_memory BASE --adapters DIR DIR

Peers: a plain copy of as many bytes as the candidate reads and writes (the floor), and the method as it is usually
written: tensor by tensor with whole-tensor operations, a top-k per parent and candidate.

Takes about 15 minutes for models of 135M parameters, most of it the usual way; without it (``--no-peer``) 6 minutes.
In its smallest form: ``--methods linear --dtypes bfloat16 --no-peer``, 15 seconds.

A candidate after the first reads its parents and writes the live model. The copy is torch's, on large pages as the
parents are, timed before and after each candidate. Of both the quickest of all repeats counts, since other load on the
machine can only add to either. Candidates change weights (and t, epsilon, select_topk); in the rows "new density" also
the density, and with it thresholds and norms, after three other densities have filled the caches.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.bench.support.parents import write_fine_tunes
from experiments.bench.support.process import machine
from merge.live_model import new_live_model
from merge.memory.large_pages import LargePages
from merge.merger import Merger
from merge.methods import get_method, method_names
from merge.recipe.schema import Recipe

DTYPES = ("bfloat16", "float32")
TWO_ONLY = {"slerp", "nuslerp", "nearswap", "arcee_fusion"}
NAIVE = ("linear", "slerp", "ties", "dare_ties")


@dataclass(frozen=True)
class Row:
    """One row of the table; seconds of CPU time.

    Attributes:
        title: Method and what changes between candidates.
        parents: Number of fine-tunes.
        first: The first candidate, which also prepares what depends on the parents alone.
        later: A later one.
        floor: A copy of the bytes that it reads and writes.
        naive: The method as it is usually written, None where it was not timed.
    """

    title: str
    parents: int
    first: float
    later: float
    floor: float
    naive: float | None

    def cells(self) -> str:
        """Return the row as Markdown."""
        naive = "" if self.naive is None else f"{self.naive:.1f} ({self.naive / self.later:.0f} x)"
        ratio = self.later / self.floor
        return f"| {self.title} | {self.parents} | {self.first:.2f} | {self.later:.3f} | {ratio:.2f} | {naive} |"


def recipe(method: str, parents: int, step: int, dtype: str, *, density: float) -> Recipe:
    """Return the candidate of a step; each step has other weights."""
    known = get_method(method).parameters()
    values: dict[str, Any] = {}
    if "density" in known:
        values["density"] = density
    shared: dict[str, Any] = {"t": 0.3 + step / 100} if "t" in known and method != "nearswap" else {}
    shared |= {"t": 0.001 + step / 1e5} if method == "nearswap" else {}
    shared |= {"epsilon": 1e-5 + step / 1e7} if method in {"ram", "ramplus_tl"} else {}
    shared |= {"select_topk": 0.5 + step / 100} if method == "sce" else {}
    models = []
    for number in range(1, parents + 1):
        own = values | ({"weight": (0.3 + step / 100) / number} if "weight" in known else {})
        own |= {"scale": 1 - step / 100} if method == "passthrough" else {}
        models.append({"model": f"tuned{number}", "parameters": own})
    based = get_method(method).base_model == "required"
    base = "tuned1" if method in {"slerp", "arcee_fusion"} else "base"
    document: dict[str, Any] = {"merge_method": method, "models": models, "parameters": shared, "dtype": dtype}
    return Recipe.from_mapping(document | ({"base_model": base} if based else {}), place=method)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of CPU time that some work takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(folder: Path, method: str, parents: int, dtype: str, repeats: int, *, densities: bool, peer: bool) -> Row:
    """Time one method on live models."""
    merger = Merger([folder])
    model = new_live_model(merger, recipe(method, parents, 0, dtype, density=0.5), dtype=getattr(torch, dtype))
    first = timed(lambda: merger.merge_live(recipe(method, parents, 0, dtype, density=0.5), model))
    moved = moved_bytes(merger, recipe(method, parents, 0, dtype, density=0.5), model)
    later, floors = [], []
    for step in range(3 if densities else 0):
        merger.merge_live(recipe(method, parents, 50 + step, dtype, density=0.2 + step / 50), model)
    for step in range(1, repeats + 1):
        density = 0.5 + step / 50 if densities else 0.5
        candidate = recipe(method, parents, step, dtype, density=density)
        forget(model)
        floors.append(copy_seconds(moved))
        later.append(timed(lambda candidate=candidate: merger.merge_live(candidate, model)))  # type: ignore[misc]
        floors.append(copy_seconds(moved))
    title = f"{method}, new density" if densities else method
    naive = None
    if peer and method in NAIVE and not densities:
        naive = timed(lambda: naive_candidate(merger, method, parents, dict(model.named_parameters())))
    return Row(title, parents, first, min(later), min(floors), naive)


def moved_bytes(merger: Merger, candidate: Recipe, model: nn.Module) -> int:
    """Return the size of a copy that reads and writes as many bytes as the candidate does."""
    names = {tensor.name: tensor for tensor in merger.plan(candidate).tensors}
    read = sum(
        merger.checkpoint(parent.reference).tensor(parent.name).nbytes
        for tensor in names.values()
        for parent in (*tensor.parents, *([] if tensor.base is None else [tensor.base]))
    )
    return (read + sum(parameter.nbytes for parameter in model.parameters())) // 2


def forget(model: nn.Module) -> None:
    """Touch every parameter, so that the next candidate writes all of them, whatever it has in common with the last."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1)


def copy_seconds(count: int) -> float:
    """Return the time it takes to copy so many bytes, the quicker of two; on large pages, which are there before."""
    arena = LargePages()
    source = arena.keep(torch.ones(count // 8, dtype=torch.int64))
    target = arena.keep(source)
    return min(timed(lambda: target.copy_(source)) for _ in range(2))


def naive_candidate(merger: Merger, method: str, parents: int, targets: dict[str, Tensor]) -> None:
    """Merge tensor by tensor with whole-tensor operations."""
    base = merger.checkpoint("base")
    tuned = [merger.checkpoint(f"tuned{number}") for number in range(1, parents + 1)]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, out in targets.items():
            xs = [checkpoint.tensor(name).float() for checkpoint in tuned]
            if method == "linear":
                merged = torch.stack([x / parents for x in xs]).sum(dim=0)
            elif method == "slerp":
                merged = naive_slerp(xs[0], xs[1], 0.4)
            else:
                root = base.tensor(name).float()
                vectors = [naive_sparse(x - root, method, generator) for x in xs]
                merged = root + naive_election(torch.stack(vectors))
            out.copy_(merged)


def naive_slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Interpolate along the great circle."""
    angle = torch.arccos((a / a.norm() * (b / b.norm())).sum().clamp(-1, 1))
    if angle < 1e-3:
        return (1 - t) * a + t * b
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def naive_sparse(vector: Tensor, method: str, generator: torch.Generator) -> Tensor:
    """Drop half of the entries: the smallest, or at random with what is left rescaled."""
    if method == "ties":
        flat = vector.reshape(-1)
        mask = torch.zeros_like(flat)
        mask[torch.topk(flat.abs(), max(1, flat.numel() // 2)).indices] = 1
        return (flat * mask).reshape(vector.shape)
    return vector * torch.bernoulli(torch.full_like(vector, 0.5), generator=generator) / 0.5


def naive_election(vectors: Tensor) -> Tensor:
    """Average what agrees with the sign of the sum."""
    sign = torch.where(vectors.sum(dim=0) >= 0, 1.0, -1.0)
    agrees = vectors.sign() == sign
    return (vectors * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)


def rows(folder: Path, dtype: str, methods: Iterable[str], repeats: int, *, peer: bool) -> Iterable[Row]:
    """Return a row for each method and number of parents."""
    for method in methods:
        single = method == "passthrough"
        for parents in (1,) if single else (2,) if method in TWO_ONLY else (2, 3):
            count = 1 if method in {"nearswap"} else parents
            yield measure(folder, method, count, dtype, repeats, densities=False, peer=peer)
            if method in {"ties", "dare_ties", "breadcrumbs"}:
                yield measure(folder, method, count, dtype, repeats, densities=True, peer=peer)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="folder of the base model")
    parser.add_argument("--adapters", type=Path, nargs=2, required=True, help="two adapters of it")
    parser.add_argument("--methods", nargs="+", default=sorted(method_names()), metavar="NAME")
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-peer", action="store_true", help="leave out the usual way, which takes most of the time")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    for dtype in given.dtypes:
        with tempfile.TemporaryDirectory() as scratch:
            write_fine_tunes(given.base, given.adapters, Path(scratch), dtype)
            print(f"\n{dtype}\n\n| method | fine-tunes | first, s | later, s | x copy | usual way, s |")
            print("| --- | --- | --- | --- | --- | --- |")
            for row in rows(Path(scratch), dtype, given.methods, given.repeats, peer=not given.no_peer):
                print(row.cells(), flush=True)


if __name__ == "__main__":
    main()
