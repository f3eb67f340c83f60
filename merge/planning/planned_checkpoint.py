"""A model that an earlier stage of a recipe will write, so that later stages can be checked first."""

from pathlib import Path

from merge.checkpoint.reader import Checkpoint
from merge.checkpoint.safetensors_file import Header
from merge.planning.plan import Plan


class PlannedCheckpoint(Checkpoint):
    """A model that a merge will write: it has names, shapes, dtypes and a config, and no weights to read.

    Args:
        reference: What the model will be called.
        folder: The model that gives it its config and tokenizer.
        plan: What it will be made of.
    """

    def __init__(self, reference: str, folder: Path, plan: Plan) -> None:
        self.reference, self.folder, self.config, self.adapter = reference, folder, plan.config, None
        self._lora_dtype = self._pickled = None
        self._headers = {tensor.name: Header(folder, tensor.dtype, tensor.shape) for tensor in plan.tensors}
