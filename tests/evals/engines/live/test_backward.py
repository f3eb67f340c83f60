"""The scorer's differentiable passes against a plain padded pass of the model itself, by autograd in float64."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from evals.engines.live import packed_attention
from evals.engines.live.backward import BackwardPass, Differentiated
from evals.engines.live.fused_attention import plain_attention, plain_attention_backward
from evals.engines.live.token_likelihood import Readings, token_likelihood
from evals.engines.live.weight_products import LowRank
from evals.errors import ScoringError
from evals.prompts.token_cache import TokenPair

VOCABULARY = 90
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
KINDS = ["llama", "qwen2", "gemma", "granite"]


def built(kind: str) -> Any:
    import transformers as t

    configs: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "llama": (t.LlamaConfig, t.LlamaForCausalLM, {}),
        "qwen2": (t.Qwen2Config, t.Qwen2ForCausalLM, {"tie_word_embeddings": True}),
        "gemma": (t.GemmaConfig, t.GemmaForCausalLM, {"tie_word_embeddings": True, "head_dim": 6}),
        "granite": (t.GraniteConfig, t.GraniteForCausalLM, {"logits_scaling": 3.0, "attention_multiplier": 0.2}),
    }
    config, model, more = configs[kind]
    torch.manual_seed(3)
    made = model(config(**SIZES, **more)).eval()
    for name, module in list(made.named_modules()):
        if name.endswith("norm"):  # transformers' own compute in float32, whatever they are given
            made.set_submodule(name, torch.nn.RMSNorm(module.weight.shape[0], eps=1e-6))
    return made.double().requires_grad_(False)


@cache
def requests() -> tuple[TokenPair, ...]:
    """Return questions with a long common beginning, one with a long context of its own, and short ones."""
    drawn = torch.randint(3, VOCABULARY, (900,), generator=torch.Generator().manual_seed(1)).tolist()
    take = iter(drawn)

    def some(count: int) -> tuple[int, ...]:
        return tuple(next(take) for _ in range(count))

    found = []
    shots = some(60)
    for length in (9, 40, 45, 0):
        context = shots + some(length)
        found += [TokenPair(context, some(count)) for count in (1, 3, 2)]
    alone = some(270)
    found += [TokenPair(alone, some(count)) for count in (2, 4)]
    for length in (5, 33, 1):
        context = some(length)
        found += [TokenPair(context, (7, *some(count))) for count in (1, 2)]
    return tuple(found)


def objective(likelihoods: Tensor) -> Tensor:
    """Return gold probabilities of some questions and bits of others: not a sum over requests."""
    return likelihoods[:12].view(4, 3).softmax(1)[:, 1].sum() + (likelihoods[12:] / 9).exp().sum() ** 2


def plain(model: Any, asked: Sequence[TokenPair]) -> Tensor:
    """Return log-likelihoods by the model's own padded pass."""
    whole = [(*one.context, *one.continuation) for one in asked]
    ids = torch.zeros(len(whole), max(map(len, whole)), dtype=torch.long)
    for row, tokens in zip(ids, whole, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    steps = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[:, :, 0]
    return torch.stack(
        [step[len(one.context) - 1 :][: len(one.continuation)].sum() for step, one in zip(steps, asked, strict=True)]
    )


@cache
def expected(kind: str) -> tuple[Any, Tensor, dict[str, Tensor]]:
    model = built(kind).requires_grad_(True)
    likelihoods = plain(model, requests())
    torch.autograd.backward(objective(likelihoods))
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = None
    return model, likelihoods.detach(), gradients


def into(found: dict[str, Tensor], name: str) -> Callable[[Tensor], None]:
    """Return what adds all that it is handed under a name."""

    def add(gradient: Tensor) -> None:
        found[name] = found.get(name, 0) + gradient.clone()

    return add


def differentiated(passes: BackwardPass, model: Any) -> tuple[Differentiated, dict[str, Tensor]]:
    """Return what a run gives, and the gradients by all weights."""
    gradients: dict[str, Tensor] = {}
    sinks = [(parameter, into(gradients, name)) for name, parameter in model.named_parameters()]
    return passes.run(requests(), objective, sinks), gradients


def assert_same(gradients: dict[str, Tensor], truth: dict[str, Tensor]) -> None:
    assert gradients.keys() == truth.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, truth[name], rtol=1e-9, atol=1e-9 * float(truth[name].abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_all_weights_are_those_of_a_plain_padded_pass(kind: str) -> None:
    model, likelihoods, truth = expected(kind)
    passes = BackwardPass(model, max_length=400)
    result, gradients = differentiated(passes, model)
    assert (result.rows, result.checkpointed) == (1, False)
    torch.testing.assert_close(result.loglikelihoods, likelihoods, rtol=1e-10, atol=1e-10)
    assert result.value == pytest.approx(float(objective(likelihoods)), rel=1e-10)
    assert_same(gradients, truth)
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("tokens", [None, 120, 1])
@pytest.mark.parametrize("checkpoint", [True, False])
def test_checkpoints_and_several_rows_change_nothing(tokens: int | None, checkpoint: bool) -> None:  # noqa: FBT001
    model, likelihoods, truth = expected("llama")
    passes = BackwardPass(model, max_length=400, checkpoint=checkpoint, tokens=tokens)
    result, gradients = differentiated(passes, model)
    assert (result.rows > 1, result.checkpointed) == (tokens is not None, checkpoint)
    torch.testing.assert_close(result.loglikelihoods, likelihoods, rtol=1e-10, atol=1e-10)
    assert_same(gradients, truth)


def test_the_head_in_pieces_of_rows_with_probabilities_computed_again_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*n, generator=generator).double() for n in ((11, 6), (VOCABULARY, 6), (VOCABULARY,))
    )
    inputs = [x.requires_grad_() for x in (hidden, weight, bias)]
    read = Readings(torch.tensor([3, 0, 10, 3, 7, 3]), torch.tensor([1, 5, 2, 88, 0, 1]))
    factors = torch.randn(6, generator=generator).double()
    truth = torch.nn.functional.linear(*inputs).log_softmax(-1)[read.row, read.token]
    for keep, rows in ((True, 256), (True, 4), (False, 4)):
        found = token_likelihood(inputs[0], inputs[1], inputs[2], read, keep=keep, rows=rows)
        torch.testing.assert_close(found, truth)
        gradients = (torch.autograd.grad((one * factors).sum(), inputs, retain_graph=True) for one in (found, truth))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_the_formula_gives_what_the_kernel_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_attention, "attention", plain_attention)
    monkeypatch.setattr(packed_attention, "attention_backward", plain_attention_backward)
    monkeypatch.setattr("evals.engines.live.backward.MIN_SEGMENT", 400)
    model, _, truth = expected("qwen2")
    passes = BackwardPass(model, max_length=400)
    assert_same(differentiated(passes, model)[1], truth)


def test_only_the_gradients_that_are_wanted_are_computed_one_at_a_time() -> None:
    model, _, truth = expected("llama")
    wanted = ["model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.down_proj.weight", "model.norm.weight"]
    order: list[str] = []

    def noting(name: str) -> Callable[[Tensor], None]:
        def note(gradient: Tensor) -> None:
            torch.testing.assert_close(gradient, truth[name])
            assert all(parameter.grad is None for parameter in model.parameters())
            order.append(name)

        return note

    sinks = [(model.get_parameter(name), noting(name)) for name in wanted]
    BackwardPass(model, max_length=400).run(requests(), objective, sinks)
    assert order == list(reversed(wanted))


@pytest.mark.parametrize("checkpoint", [True, False])
def test_products_with_low_rank_matrices_need_no_gradient_of_a_weight(checkpoint: bool) -> None:  # noqa: FBT001
    model, _, truth = expected("gemma")
    sums: dict[str, Tensor] = {}
    wanted, products = [], {}
    for name in ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj"):
        gradient = truth[f"{name}.weight"]
        factors = tuple(
            (torch.randn(rank, gradient.shape[1]).double(), torch.randn(gradient.shape[0], rank).double())
            for rank in (2, 3)
        )
        products[name] = torch.stack([(gradient * (up @ down)).sum() for down, up in factors])
        wanted.append(LowRank(name, factors, into(sums, name)))
    passes = BackwardPass(model, max_length=400, checkpoint=checkpoint)
    whole: dict[str, Tensor] = {}
    sinks = [(model.model.norm.weight, into(whole, "model.norm.weight"))]
    passes.run(requests(), objective, sinks, wanted)
    assert_same(sums, products)
    assert_same(whole, {"model.norm.weight": truth["model.norm.weight"]})
    sums.clear()
    passes.run(requests(), objective, (), wanted)
    assert_same(sums, products)


def test_log_likelihoods_have_a_graph() -> None:
    model, likelihoods, truth = expected("qwen2")
    weight = model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    values = BackwardPass(model, max_length=400).loglikelihoods(requests())
    torch.testing.assert_close(values, likelihoods, rtol=1e-10, atol=1e-10)
    (gradient,) = torch.autograd.grad(objective(values), weight)
    weight.requires_grad_(False)
    torch.testing.assert_close(gradient, truth["model.layers.0.mlp.up_proj.weight"])


def test_weights_written_to_before_the_backward_pass_are_an_error() -> None:
    model = built("llama")
    weight = model.model.layers[0].mlp.up_proj.weight
    sinks = [(parameter, lambda _gradient: None) for parameter in (weight, model.model.embed_tokens.weight)]

    def meddling(likelihoods: Tensor) -> Tensor:
        with torch.no_grad():
            weight.mul_(1.5)
        return objective(likelihoods)

    with pytest.raises(ScoringError, match="weights must stay as they are"):
        BackwardPass(model, max_length=400).run(requests(), meddling, sinks)


def test_memory_decides_about_checkpoints_and_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, truth = expected("llama")
    ways = set()
    for free in (1 << 30, 5 << 20, 1 << 20):
        monkeypatch.setattr("evals.engines.live.backward.free_bytes", lambda _device, free=free: free)
        passes = BackwardPass(model, max_length=400)
        result, gradients = differentiated(passes, model)
        ways.add((result.rows > 1, result.checkpointed))
        assert_same(gradients, truth)
    assert ways == {(False, False), (False, True), (True, True)}
