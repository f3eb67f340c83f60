"""Guesses of what a text says next: they save passes and change no text."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance

from evals.engines.live.engine import LiveScorer
from evals.engines.live.prompt_lookup import MAX_GUESSES, PromptLookup, guesses_worth


def told(prompt: Sequence[int], text: Sequence[int]) -> PromptLookup:
    lookup = PromptLookup(prompt)
    for token in text:
        lookup.add(token)
    return lookup


def test_what_followed_before_is_guessed_again_and_the_last_time_counts() -> None:
    assert told([1, 2, 3, 4, 5, 1, 2, 3, 6, 7], [1, 2, 3]).guess(2) == [6, 7]
    assert told([1, 2, 3, 4], [9, 1, 2]).guess(3) == []


def test_a_loop_is_guessed_to_go_on() -> None:
    lookup = told([], [5, 6, 7, 8] * 2)
    assert lookup.guess(10) == [5, 6, 7, 8, 5, 6, 7, 8, 5, 6]


def test_hope_follows_how_often_guesses_were_right() -> None:
    loop, wrong = told([], [5, 6, 7] * 20), told([1, 2, 3, 4] * 2, [])
    assert loop.acceptance > 0.9
    assert wrong.acceptance == 0.5
    for token in range(10, 30):
        for other in (1, 2, 3, token):
            wrong.add(other)
    assert told([], [1, 2, 3]).acceptance == 0.0
    assert wrong.acceptance == 0.0, "nothing like its end stood before"
    for other in (1, 2, 3):
        wrong.add(other)
    assert wrong.acceptance < 0.7


@pytest.mark.parametrize(
    ("acceptances", "count"), [([0.0], 0), ([0.01] * 16, 0), ([0.99], MAX_GUESSES), ([0.3] * 16, 0)]
)
def test_guesses_are_made_where_they_pay(acceptances: list[float], count: int) -> None:
    assert guesses_worth(acceptances, MAX_GUESSES) == count


@pytest.fixture
def chanting(make_model: Callable[..., Any]) -> Any:
    """Return a model that says the same seven tokens for ever, whatever it attends to."""
    model = make_model()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embedding = model.get_input_embeddings().weight
        model.lm_head.weight.zero_()
        model.lm_head.weight[101:107] = embedding[100:106]
        model.lm_head.weight[100] = embedding[106]
    return model


def test_a_text_that_repeats_itself_takes_few_passes(chanting: Any, tokenizer: Any) -> None:
    from lm_eval.models.huggingface import HFLM

    wanted = {"until": [], "max_gen_toks": 150, "do_sample": False}
    batch = [
        Instance(request_type="generate_until", doc={}, arguments=(prompt, dict(wanted)), idx=0, metadata=("t", 0, 1))
        for prompt in (tokenizer.decode([100, 101, 102]), tokenizer.decode([104]))
    ]
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    scorer = LiveScorer(chanting, tokenizer)
    hook = chanting.register_forward_pre_hook(count)
    try:
        texts = scorer.generate_until(batch)
    finally:
        hook.remove()
    plain = HFLM(pretrained=chanting, tokenizer=tokenizer, batch_size=1)
    assert texts == plain.generate_until(batch, disable_tqdm=True)
    assert scorer.cost.tokens_generated == 300
    assert passes < 40


def test_wrong_guesses_change_nothing_and_stay_within_the_longest_text(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.models.huggingface import HFLM
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "n_embd": 48, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
    model = GPT2LMHeadModel(GPT2Config(**sizes, n_positions=64, eos_token_id=1)).eval()  # it has 64 positions only
    monkeypatch.setattr("evals.engines.live.generation.guesses_worth", lambda _, most: most)
    monkeypatch.setattr(PromptLookup, "guess", lambda _, count: [7] * count)
    wanted = {"until": [], "max_gen_toks": 20, "do_sample": False}
    batch = [
        Instance(request_type="generate_until", doc={}, arguments=(prompt, dict(wanted)), idx=0, metadata=("t", 0, 1))
        for prompt in ("the cat runs " * 60, "why")
    ]
    scorer, plain = LiveScorer(model, tokenizer), HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    assert scorer.generate_until(batch) == plain.generate_until(batch, disable_tqdm=True)
    assert scorer.fallback_reason is None
    assert scorer.cost.tokens_generated == 40
