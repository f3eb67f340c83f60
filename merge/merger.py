"""The one executor: runs a plan's kernels into a sink, a resident model or a folder."""

import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from weakref import WeakKeyDictionary

import psutil
import torch
from torch import Tensor, nn

from merge.checkpoint.chat_template import chat_template
from merge.checkpoint.reader import Checkpoint, open_checkpoint
from merge.checkpoint.tokenizer import Vocabulary, build_vocabulary
from merge.errors import CheckpointError
from merge.execution.live_state import LiveState, MergeStats
from merge.execution.operands import MergeContext, OperandReader, is_finite
from merge.execution.steps import LiveSteps, Step
from merge.kernels.arithmetic import Arithmetic
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import AbstractFused, Kernel
from merge.kernels.random_draws import CounterDraws, StreamDraws
from merge.memory.cache import ParentCache
from merge.memory.large_pages import ReusedBuffer
from merge.memory.prefetch import prepared_ahead
from merge.memory.shared_files import SharedFiles
from merge.native.tensors import readable
from merge.output.model_folder import Donor, FolderOptions, check_apart, write_folder
from merge.planning.plan import Plan, TensorPlan
from merge.planning.planned_checkpoint import PlannedCheckpoint
from merge.planning.planner import Planner, torch_dtype
from merge.recipe.schema import Recipe

AHEAD = 2
"""Tensors of a folder that are prepared while one is written; each takes memory like that of the one."""
MAX_CACHED_PLANS = 100
"""Plans kept, one per recipe structure."""


class Merger:
    """Parents opened once, what depends on parents alone prepared once; many recipes merged.

    Args:
        models_roots: Where relative model references are looked up.
        seed: Of the random masks, where a merge does not give its own.
        compat: Follow mergekit step by step: its dtypes, its random stream, its quirks.
        device: Where the arithmetic runs.
        allow_crimes: Let architectures and vocabularies differ.
        allow_nan: Merge parents that hold NaN or infinity, and accept such results.
        allow_pickle: Read ``.bin`` checkpoints too.
        lora_dtype: What models with an adapter are rounded to, before and after folding; by default they keep theirs.
        keep_bytes: Memory for parents, folded adapters and random fields, which are mapped or made again beyond it;
            half of what is free by default.
        shelf: Folder that the processes of a host share, so that it holds parents once: on the CPU they are mapped, not
            copied, with folded adapters from files there. It may be deleted afterwards.
    """

    def __init__(
        self,
        models_roots: Sequence[Path] = (),
        *,
        seed: int = 0,
        compat: bool = False,
        device: str = "cpu",
        allow_crimes: bool = False,
        allow_nan: bool = False,
        allow_pickle: bool = False,
        lora_dtype: str | None = None,
        keep_bytes: int | None = None,
        shelf: Path | None = None,
    ) -> None:
        self.models_roots = tuple(Path(root) for root in models_roots)
        self.seed = seed
        self.compat = compat
        self.device = torch.device(device)
        self.allow_crimes = allow_crimes
        self.allow_nan = allow_nan
        self.allow_pickle = allow_pickle
        self._lora_dtype = None if lora_dtype is None else torch_dtype(lora_dtype)
        self._cache = ParentCache(psutil.virtual_memory().available // 2 if keep_bytes is None else keep_bytes)
        self._checkpoints: dict[str, Checkpoint] = {}
        self._vocabularies: dict[object, Vocabulary | None] = {}
        self._live: WeakKeyDictionary[nn.Module, LiveState] = WeakKeyDictionary()
        self._parents = OperandReader(
            self.checkpoint,
            self._cache,
            self.device,
            shared_files=None if shelf is None else SharedFiles(shelf),
            compat=compat,
            allow_nan=allow_nan,
        )
        self._planners: dict[Hashable, Planner] = {}

    def checkpoint(self, reference: str) -> Checkpoint:
        """Open a model, or return it if it is open.

        Raises:
            CheckpointError: It cannot be used.
        """
        if reference not in self._checkpoints:
            self._checkpoints[reference] = open_checkpoint(
                reference, self.models_roots, lora_dtype=self._lora_dtype, allow_pickle=self.allow_pickle
            )
        return self._checkpoints[reference]

    def plan(self, recipe: Recipe) -> Plan:
        """Return what each output tensor is made of; reads headers only.

        Raises:
            MergeError: As `check`; what is wrong with a parent names the recipe too.
        """
        return self.planned(recipe)[1]

    def planned(self, recipe: Recipe) -> tuple[Planner, Plan]:
        """Return the plan, as `plan` does, and what made it, which knows where each parameter comes from."""
        try:
            return self._planned(recipe)
        except CheckpointError as error:
            lines = str(error).split("\n")
            raise CheckpointError("\n".join(_placed(recipe.place, line) for line in lines)) from None

    def _planned(self, recipe: Recipe) -> tuple[Planner, Plan]:
        vocabulary = self.vocabulary(recipe)
        size = None if vocabulary is None else vocabulary.size
        chat_template(recipe, self.checkpoint)
        key = (recipe.structure(), recipe.references(), size)
        if recipe.modules is None and key in self._planners:
            return self._planners[key], self._planners[key].replan(recipe)
        planner = Planner(recipe, self.checkpoint, self.compat, self.allow_crimes, vocabulary=size)
        plan = planner.plan()
        if len(self._planners) >= MAX_CACHED_PLANS:
            self._planners.clear()
        self._planners[key] = planner
        return planner, plan

    def vocabulary(self, recipe: Recipe) -> Vocabulary | None:
        """Return the tokens of a recipe's result, None where it has no tokenizer block."""
        key = (recipe.tokenizer_source, repr(recipe.tokenizer), recipe.base_model, recipe.references())
        if key not in self._vocabularies:
            self._vocabularies[key] = build_vocabulary(recipe, self.checkpoint)
        return self._vocabularies[key]

    def check(self, recipe: Recipe) -> None:
        """Find out whether a recipe can be merged; reads headers only.

        Raises:
            CheckpointError: A parent cannot be used.
            CompatibilityError: The parents do not fit each other.
            RecipeError: Layers or parameters do not fit the parents.
        """
        self.plan(recipe)

    def register_planned(self, reference: str, plan: Plan) -> None:
        """Treat a model that is not written yet as available, so that recipes that use it can be checked."""
        self._checkpoints[reference] = PlannedCheckpoint(reference, self.checkpoint(plan.donor).folder, plan)

    def is_open(self, reference: str) -> bool:
        """Return whether a model is open, or registered as planned."""
        return reference in self._checkpoints

    def fingerprints(self) -> dict[str, str]:
        """Return the SHA-256 of the weights of every model opened so far, by reference."""
        return {reference: checkpoint.fingerprint() for reference, checkpoint in self._checkpoints.items()}

    def merge_live(self, recipe: Recipe, model: nn.Module, *, seed: int | None = None) -> MergeStats:
        """Write a recipe's weights into a model, in place.

        Each value is rounded to the dtype that the recipe's result would be stored in, then to the model's own, so
        what is scored is what would be exported. A tensor whose recipe did not change since this merger last wrote
        it is left alone, unless somebody else changed it since (noticed by a sample of its entries).

        Raises:
            NumericalError: A result is not finite; the model then holds parts of two recipes until the next merge.
            CompatibilityError: The model has other tensors than the result.
        """
        start = time.perf_counter()
        plan, run = self.plan(recipe), self._run(recipe, seed, self._cache)
        state = self._live.setdefault(model, LiveState())
        targets = state.destinations(model, plan)
        steps, skipped = LiveSteps(state), 0
        with torch.no_grad(), _one_thread():
            for tensor in plan.tensors:
                target = targets.get(tensor.name)
                signature = (tensor, run.draws.version() if tensor.method.random else None)
                if not self.compat and (target is None or state.holds(tensor.name, signature, target)):
                    skipped += 1
                    continue
                state.forget(tensor.name)
                out = torch.empty(tensor.shape, dtype=tensor.dtype) if target is None else target
                steps.add(self._step(tensor, run, out), signature, target)
            steps.run()
        seconds = time.perf_counter() - start
        return MergeStats(seconds, steps.written, skipped, steps.bytes_read, steps.bytes_written)

    def merge_to_folder(
        self,
        recipe: Recipe,
        out: Path,
        *,
        seed: int | None = None,
        out_shard_size: int = 5_000_000_000,
        copy_tokenizer: bool = True,
        force: bool = False,
        write_model_card: bool = True,
        finish: Callable[[Path], None] | None = None,
    ) -> Path:
        """Write a recipe's result as a model folder, streaming; nothing appears under `out` before it is complete.

        `finish` is given the folder while it still has another name, to add files of its own.

        Raises:
            OutputError: The folder is not empty, holds a model of the recipe, or the disk is full.
            NumericalError: A result is not finite.
        """
        plan, run = self.plan(recipe), self._run(recipe, seed, ParentCache(0, count=64))
        check_apart(out, {reference: checkpoint.folder for reference, checkpoint in self._checkpoints.items()})
        options = FolderOptions(out_shard_size, copy_tokenizer, force, write_model_card)
        vocabulary, template = self.vocabulary(recipe), chat_template(recipe, self.checkpoint)
        tokenizer = None if vocabulary is None else vocabulary.tokenizer
        donor = Donor(self.checkpoint(plan.donor).folder, tokenizer, template)
        with closing(self._results(plan, run)) as tensors:
            return write_folder(out, plan, recipe, tensors, donor, options, finish)

    def _results(self, plan: Plan, run: MergeContext) -> Generator[Tensor]:
        """Return the merged tensors, each in memory that is used again soon after the next one is asked for.

        Thresholds, norms and random fields of the next tensors are made while this one is merged and written; not in
        compat mode, where random numbers are drawn in the order of the tensors.
        """

        def prepare(planned: tuple[TensorPlan, ReusedBuffer]) -> tuple[Step, Tensor]:
            tensor, room = planned
            result = room.take(tensor.shape, tensor.dtype)
            with torch.no_grad(), _one_thread():
                return self._step(tensor, run, result), result

        planned = zip(plan.tensors, cycle(ReusedBuffer() for _ in range(AHEAD + 1)), strict=False)
        with closing(prepared_ahead(planned, prepare, 0 if self.compat else AHEAD)) as steps:
            for step, result in steps:
                with torch.no_grad(), _one_thread():
                    step.run()
                yield result

    def tensor_inputs(self, recipe: Recipe, *, seed: int | None = None) -> Callable[[TensorPlan], TensorInputs]:
        """Return what gives the parents of a plan's tensor, with the random numbers of a merge with this seed."""
        context = self._run(recipe, seed, self._cache)
        return lambda tensor: self._parents.inputs(tensor, context)

    def _run(self, recipe: Recipe, seed: int | None, cache: ParentCache) -> MergeContext:
        number = self.seed if seed is None else seed
        vocabulary = self.vocabulary(recipe)
        if not self.compat:
            return MergeContext(recipe, cache, Arithmetic(), CounterDraws(number, cache), vocabulary)
        dtype, draws = None if recipe.dtype is None else torch_dtype(recipe.dtype), StreamDraws(number)
        for adapter in (self.checkpoint(reference).adapter for reference in recipe.references()):
            draws.skip(0 if adapter is None else adapter.draws)
        return MergeContext(recipe, cache, Arithmetic(dtype, stepwise=True), draws, vocabulary)

    def _step(self, tensor: TensorPlan, run: MergeContext, out: Tensor) -> Step:
        """Return what merges one tensor into `out`."""
        inputs = self._parents.inputs(tensor, run)
        donor = inputs.optional_base or inputs.parents[0]
        if not (donor.raw.dtype.is_floating_point or (run.arithmetic.stepwise and run.arithmetic.dtype is not None)):
            return Step(tensor.name, lambda: out.copy_(donor.raw) is out, inputs.nbytes, inputs, waits=True)
        kernel, one_pass = tensor.method.kernel(inputs), None
        if isinstance(kernel, AbstractFused) and not self.allow_nan and readable([out]):
            one_pass = kernel.one_pass(out, tensor.dtype)
        if one_pass is not None:
            return Step(tensor.name, one_pass, inputs.nbytes, (kernel, out), waits=True)
        write = partial(self._fill_by_spans, kernel, inputs, tensor, out)
        return Step(tensor.name, write, inputs.nbytes, kernel, waits=False)

    def _fill_by_spans(self, kernel: Kernel, inputs: TensorInputs, tensor: TensorPlan, out: Tensor) -> bool:
        flat, finite = out.view(-1), True
        for span in inputs.spans():
            flat[span].copy_(kernel(span).to(tensor.dtype))
            finite = finite and (self.allow_nan or is_finite(flat[span]))
        return finite


def _placed(place: str, line: str) -> str:
    """Return a message with the recipe's place before it, where it does not begin so."""
    return line if line.startswith(place) else f"{place}: {line}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch on one thread: merging is bound by memory, and barriers between threads cost 10 times the work.

    It also makes results the same for any number of threads.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
