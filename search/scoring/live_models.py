"""Live models: one per architecture that candidates come in, all on the same tensors.

Layer stacking changes the number of layers from candidate to candidate. Models of different depth share every
tensor that has the same name and shape, so that together they take the memory of the deepest.
"""

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from evals.engines.registry import make_engine
from merge.live_model import new_live_model
from merge.merger import Merger
from merge.recipe.schema import Recipe

KEPT = 8
"""So many models stand ready; they share their weights, but each scorer has its plans."""


@dataclass(frozen=True)
class LiveModel:
    """A resident model and what asks it questions."""

    model: nn.Module
    scorer: Any


@dataclass
class LiveModels:
    """Makes and keeps live models.

    Attributes:
        merger: Holds the parents.
        tokenizer: The study's tokenizer.
        device: Where the models run.
        kept: Number of models that stand ready.
        engine: What answers; one that holds weights of its own stands alone.
    """

    merger: Merger
    tokenizer: Any
    device: str
    kept: int = KEPT
    engine: str = "live"
    _models: OrderedDict[str, LiveModel] = field(default_factory=OrderedDict)
    _tensors: dict[tuple[str, torch.Size, torch.dtype], nn.Parameter] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._models)

    def of(self, recipe: Recipe) -> LiveModel:
        """Return a model that the recipe fits into, the one of the last such recipe if it is still there.

        Raises:
            merge.errors.MergeError: The recipe cannot be merged.
        """
        key = json.dumps(self.merger.plan(recipe).config, sort_keys=True, default=str)
        if key not in self._models:
            if self.engine != "live":
                self._models.clear()
            model = self._shared(new_live_model(self.merger, recipe))
            self._models[key] = LiveModel(model, make_engine(self.engine, model, self.tokenizer))
            while len(self._models) > self.kept:
                self._models.popitem(last=False)
        self._models.move_to_end(key)
        return self._models[key]

    def _shared(self, model: Any) -> nn.Module:
        """Put the tensors that other models have in place of the model's own; move the rest to the device."""
        for path, module in model.named_modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                key = (f"{path}.{name}", parameter.shape, parameter.dtype)
                if key in self._tensors:
                    module.register_parameter(name, self._tensors[key])
        model.tie_weights()
        model.to(self.device)
        for path, parameter in model.named_parameters():
            self._tensors.setdefault((path, parameter.shape, parameter.dtype), parameter)
        assert isinstance(model, nn.Module)
        return model
