"""PrefixCache that are kept from block to block while the weights stay."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evals.engines.live.engine import LiveScorer
from evals.engines.live.forward_passes import PassRunner
from evals.engines.live.prefix_cache import PrefixCache
from evals.engines.live.prefix_tree import build_plan
from evals.engines.live.scoring_plan import PassBudget
from evals.prompts.token_cache import TokenPair
from tests.evals.engines.live.test_engine import STEM, asked, assert_same, contexts

ROOM = 1 << 30
pairs = st.tuples(contexts, st.sampled_from([" a cat", " the", " river runs blue"]))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blocks=st.lists(st.lists(pairs, min_size=1, max_size=4), min_size=2, max_size=4))
def test_blocks_that_begin_alike_score_as_hflm_scores_them(
    model: Any, tokenizer: Any, hflm: Any, blocks: list[list[tuple[str, str]]]
) -> None:
    scorer = LiveScorer(model, tokenizer)
    scorer.weights_changed()
    for block in blocks:
        batch = [asked("loglikelihood", *pair) for pair in block]
        assert_same(scorer.loglikelihood(batch), hflm.loglikelihood(batch, disable_tqdm=True))


def blocks_of(scorer: LiveScorer) -> tuple[list[float], list[int]]:
    """Return the scores and the tokens run of two blocks under one header."""
    scores: list[float] = []
    run = []
    for words in (("cat", "dog"), ("stone", "light")):
        before = scorer.cost.tokens_run
        batch = [asked("loglikelihood", f"{STEM} {word} so", " the river") for word in words]
        scores += [value for value, _ in scorer.loglikelihood(batch)]
        run.append(scorer.cost.tokens_run - before)
    return scores, run


def test_a_header_is_run_once_for_all_blocks_and_again_for_other_weights(
    make_model: Callable[..., Any], tokenizer: Any
) -> None:
    model = make_model(seed=3)
    scorer, forgetful = LiveScorer(model, tokenizer), LiveScorer(model, tokenizer)
    for seed in (3, 4):
        model.load_state_dict(make_model(seed=seed).state_dict())
        scorer.weights_changed()
        kept, (first, second) = blocks_of(scorer)
        alone, (whole, again) = blocks_of(forgetful)
        assert kept == pytest.approx(alone, abs=1e-4)
        assert first == whole > 90
        assert second < again / 4


@pytest.mark.parametrize("read", [False, True])
def test_a_stem_that_is_known_whole_runs_its_last_token_only_where_that_is_read(model: Any, *, read: bool) -> None:
    from evals.engines.live.shared_attention import shared_attention

    stem = tuple(range(5, 105))
    tails = ((), (7,)) if read else ((6,), (7,))
    requests = [TokenPair((*stem, *tail), (9, 8)) for tail in tails]
    plan = build_plan(requests, 500, PassBudget())
    stems = PrefixCache(ROOM)
    with torch.inference_mode(), shared_attention(model):
        passes = [PassRunner(model, torch.device("cpu"), stems) for _ in range(2)]
        first, second = (one.score(plan) for one in passes)
    assert [one.reused for one in passes] == [0, 99 if read else 100]
    assert np.allclose([value for value, _ in first], [value for value, _ in second], atol=1e-5)


def test_no_more_is_kept_than_there_is_room_for(model: Any) -> None:
    from evals.engines.live.shared_attention import shared_attention

    stems_of = [tuple((at * i) % 251 for i in range(300)) for at in (3, 50)]
    plans = [build_plan([TokenPair(stem, (9,))], 500, PassBudget()) for stem in stems_of]
    key = model.config.num_key_value_heads * model.config.hidden_size // model.config.num_attention_heads
    stems = PrefixCache(int(1.5 * 300 * key * 4 * 2 * model.config.num_hidden_layers))
    reused = []
    with torch.inference_mode(), shared_attention(model):
        for plan in (*plans, *plans):
            passes = PassRunner(model, torch.device("cpu"), stems)
            passes.score(plan)
            reused.append(passes.reused)
    assert reused == [0, 0, 299, 0]
