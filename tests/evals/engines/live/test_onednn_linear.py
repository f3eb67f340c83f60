"""Products through oneDNN: the same numbers as torch's own, weights read at every call, the model left as it was."""

from typing import Any

import pytest
import torch

from evals.engines.live import onednn_linear as linear
from evals.engines.live.onednn_linear import LEAST_ROWS, OneDnnLinear, fast_products


@pytest.fixture(autouse=True)
def other_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    if not linear.has_onednn():
        pytest.skip("this torch was built without oneDNN")
    monkeypatch.setattr(linear, "prefers_onednn", lambda: True)


@pytest.mark.parametrize("shape", [(LEAST_ROWS - 1, 24), (LEAST_ROWS, 24), (3, 40, 24)])
@pytest.mark.parametrize("kind", ["bias", "no bias"])
def test_a_product_is_torchs_own_and_follows_the_weights(shape: tuple[int, ...], kind: str) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(24, 33, bias=kind == "bias")
    inputs = torch.randn(shape)
    model = torch.nn.Sequential(layer)
    with torch.inference_mode(), fast_products(model):
        assert isinstance(model[0], OneDnnLinear)
        for _ in range(2):
            expected = torch.nn.functional.linear(inputs, layer.weight, layer.bias)
            torch.testing.assert_close(model(inputs), expected)
            layer.weight.mul_(-2)


def test_what_is_not_a_plain_float32_layer_is_left_alone(model: Any) -> None:
    class Own(torch.nn.Linear):
        pass

    hooked = torch.nn.Linear(4, 4)
    vars(hooked)["forward"] = lambda x: x
    both = torch.nn.ModuleList([Own(4, 4), torch.nn.Linear(4, 4).bfloat16(), hooked])
    with fast_products(both):
        assert not [module for module in both if isinstance(module, OneDnnLinear)]
    assert hooked(torch.ones(1)) == 1
    with fast_products(model):
        assert isinstance(model.get_output_embeddings(), OneDnnLinear)
    assert not [module for module in model.modules() if isinstance(module, OneDnnLinear)]
