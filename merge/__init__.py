"""Merging: a recipe and the models it names become weights, in a live model or in a folder.

What happens, in order, and where:

1. ``recipe/`` reads mergekit's YAML and says all that is wrong with it; ``documents.py`` reads what strangers wrote.
2. ``checkpoint/`` opens the parents: headers first, tensors when they are needed, adapters folded in.
   ``architecture/`` knows where their layers and modules lie.
3. ``planning/`` puts both together: for each output tensor its sources, its method and its parameters. No weight is
   read, so that a wrong recipe is refused at once.
4. ``methods/`` holds one merge method per file, formula and source on top; ``method.py`` is what they have in common.
   Each prepares a kernel from the parts in ``kernels/`` (masks, task vectors, combinations), which run as one pass
   over memory where ``native/``, the compiled loops, can read the tensors.
5. ``execution/`` reads the parents of each tensor and runs its kernel; ``memory/`` keeps what depends on parents alone
   for the next candidate. ``merger.py`` leads through steps 3 to 5, into a live model (``live_model.py`` makes it) or
   into a folder (``output/`` writes it). ``multi_stage.py`` merges several documents, each with the results before it.

``value_gradients.py`` leads back: from the gradient of an objective by the merged tensors to its gradient by the
numbers of the recipe.

``door.py`` has the doors for notebooks, `merge` and `load_tokenizer`; ``errors.py`` the errors of all of this;
``user_cache.py`` the folder of what can be made again.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from merge.door import load_tokenizer
    from merge.door import merge_recipe as merge

__all__ = ["load_tokenizer", "merge"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'merge' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module("merge.door"), "merge_recipe" if name == "merge" else name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
