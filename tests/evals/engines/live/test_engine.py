"""The live scorer against lm-eval's HFLM."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from scipy import stats

from evals.engines.live.engine import LiveScorer
from evals.engines.live.forward_passes import _read_logits
from evals.engines.live.pass_budget import budget_for
from evals.errors import ScoringError

WORDS = ("the", "a", "cat", "dog", "river", "stone", "light", "runs", "blue", "Question:", "why", "\n", "####", "xyz")
STEM = " ".join(WORDS[i * i % 13] for i in range(90))


def asked(kind: str, *arguments: Any) -> Any:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0, metadata=("t", 0, 1))


def texts(low: int, high: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(WORDS), min_size=low, max_size=high).map(" ".join)


contexts = st.one_of(
    st.just(""),
    texts(1, 12).map(lambda text: f"{text} so"),
    texts(0, 12).map(lambda tail: f"{STEM} {tail}"),
    texts(150, 400),
)
pairs = st.tuples(contexts, texts(1, 6).map(lambda text: f" {text}"))
budgets = st.sampled_from([None, 64, 200, 1000])


def assert_same(ours: Sequence[tuple[float, bool]], theirs: Sequence[tuple[float, bool]]) -> None:
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=1e-3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(pairs, min_size=1, max_size=12), budget=budgets, shots=st.integers(1, 3))
def test_any_requests_in_any_order_and_budget_score_as_hflm_scores_them(
    model: Any, tokenizer: Any, hflm: Any, requests: list[tuple[str, str]], budget: int | None, shots: int
) -> None:
    batch = [asked("loglikelihood", *pair) for pair in requests * shots]
    scorer = LiveScorer(model, tokenizer, batch_tokens=budget)
    assert_same(scorer.loglikelihood(batch), hflm.loglikelihood(batch, disable_tqdm=True))
    assert scorer.fallback_reason is None


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(st.one_of(texts(1, 10), texts(0, 9).map(lambda tail: f"{STEM} {tail}")), min_size=1, max_size=9),
    stops=st.lists(st.sampled_from(["a", "\n", "er", "q", "é"]), max_size=2),
    longest=st.integers(1, 24),
    rows=st.integers(1, 5),
)
def test_greedy_texts_are_those_of_hflm(
    model: Any, tokenizer: Any, hflm: Any, prompts: list[str], stops: list[str], longest: int, rows: int
) -> None:
    wanted = {"until": stops, "max_gen_toks": longest, "do_sample": False}
    batch = [asked("generate_until", prompt, dict(wanted)) for prompt in prompts]
    scorer = LiveScorer(model, tokenizer, rows=rows)
    assert scorer.generate_until(batch) == hflm.generate_until(batch, disable_tqdm=True)
    assert scorer.fallback_reason is None


def test_a_shared_beginning_of_all_prompts_is_held_once(model: Any, tokenizer: Any, hflm: Any) -> None:
    wanted = {"until": ["river"], "max_gen_toks": 12}
    batch = [asked("generate_until", f"{STEM} {word} {i}", wanted) for i, word in enumerate(WORDS)]
    scorer = LiveScorer(model, tokenizer, rows=4)
    assert scorer.generate_until(batch) == hflm.generate_until(batch, disable_tqdm=True)
    assert scorer.cost.tokens_run < 0.5 * scorer.cost.tokens_full
    assert scorer.cost.tokens_generated > 0


def test_whole_texts_longer_than_the_model_score_as_in_hflm(model: Any, tokenizer: Any, hflm: Any) -> None:
    batch = [asked("loglikelihood_rolling", STEM * times) for times in (1, 4)]
    ours = LiveScorer(model, tokenizer).loglikelihood_rolling(batch)
    assert ours == pytest.approx(hflm.loglikelihood_rolling(batch, disable_tqdm=True), rel=1e-5)


def test_new_weights_are_seen_at_the_next_call(make_model: Callable[..., Any], tokenizer: Any) -> None:
    live, other = make_model(seed=1), make_model(seed=2)
    batch = [asked("loglikelihood", f"{STEM} {word}", " runs blue") for word in WORDS]
    text = [asked("generate_until", f"{STEM} {word}", {"until": [], "max_gen_toks": 8}) for word in WORDS]
    scorer = LiveScorer(live, tokenizer)
    before = scorer.loglikelihood(batch)
    live.load_state_dict(other.state_dict())
    fresh = LiveScorer(other, tokenizer)
    assert scorer.loglikelihood(batch) == fresh.loglikelihood(batch) != before
    assert scorer.generate_until(text) == fresh.generate_until(text)


def test_shared_tokens_are_run_once(model: Any, tokenizer: Any) -> None:
    batch = [asked("loglikelihood", f"{STEM} {word}", f" {choice}") for word in WORDS for choice in "abcd"]
    scorer = LiveScorer(model, tokenizer)
    scorer.loglikelihood(batch)
    assert scorer.cost.tokens_run < 0.1 * scorer.cost.tokens_full


def test_on_a_cpu_no_padding_is_run(model: Any, tokenizer: Any, hflm: Any) -> None:
    ends = [" ".join(WORDS[: 2 + i * 7 % 11]) for i in range(40)]
    batch = [asked("loglikelihood", f"{STEM} {i} {end}", f" {rest}") for i, end in enumerate(ends) for rest in "ab"]
    scorer = LiveScorer(model, tokenizer, batch_tokens=300)
    assert_same(scorer.loglikelihood(batch), hflm.loglikelihood(batch, disable_tqdm=True))
    (plan,) = scorer.plans
    assert plan.tokens_run == plan.tokens_unique
    assert len(plan.groups[0].passes) > 1


def test_the_model_is_left_as_it_was(model: Any, tokenizer: Any) -> None:
    before = model.config._attn_implementation
    LiveScorer(model, tokenizer).loglikelihood([asked("loglikelihood", "a cat", " runs")])
    assert model.config._attn_implementation == before
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_nan_weights_are_a_scoring_error(make_model: Callable[..., Any], tokenizer: Any) -> None:
    broken = make_model()
    scorer = LiveScorer(broken, tokenizer)
    batch = [asked("loglikelihood", "a cat", " runs")]
    scorer.loglikelihood(batch)
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(ScoringError, match="finite"):
        scorer.loglikelihood(batch)
    with pytest.raises(ScoringError, match="finite"):
        scorer.generate_until([asked("generate_until", "a cat", {"until": [], "max_gen_toks": 4})])
    with pytest.raises(ScoringError, match="finite"):
        LiveScorer(broken, tokenizer).loglikelihood(batch)


def limited(model: Any, tokens: int) -> Any:
    def refuse(_module: torch.nn.Module, _args: Any, options: dict[str, Any]) -> None:
        if options["input_ids"].numel() > tokens:
            raise torch.OutOfMemoryError("out of memory")

    return model.register_forward_pre_hook(refuse, with_kwargs=True)


def test_passes_are_halved_until_they_fit_into_memory(model: Any, tokenizer: Any, hflm: Any) -> None:
    batch = [asked("loglikelihood", f"{word} {i}", " the stone") for i in range(20) for word in WORDS]
    text = [asked("generate_until", f"{word} {STEM}", {"until": [], "max_gen_toks": 4}) for word in WORDS]
    expected = hflm.loglikelihood(batch, disable_tqdm=True), hflm.generate_until(text, disable_tqdm=True)
    scorer, writer = LiveScorer(model, tokenizer), LiveScorer(model, tokenizer)
    hook = limited(model, 300)
    try:
        assert_same(scorer.loglikelihood(batch), expected[0])
        assert writer.generate_until(text) == expected[1]
    finally:
        hook.remove()
    assert max(scorer.batch_size, writer.batch_size) <= 300
    assert (scorer.fallback_reason, writer.fallback_reason) == (None, None)


def test_no_memory_at_all_is_a_scoring_error(model: Any, tokenizer: Any) -> None:
    scorer = LiveScorer(model, tokenizer)
    scorer.loglikelihood([asked("loglikelihood", "a", " b")])
    hook = limited(model, 3)
    try:
        with pytest.raises(ScoringError, match="memory"):
            scorer.loglikelihood([asked("loglikelihood", STEM, " the stone")])
    finally:
        hook.remove()


def relatives(tokenizer: Any) -> dict[str, Any]:
    from transformers import (
        Gemma2Config,
        Gemma2ForCausalLM,
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        GPT2Config,
        GPT2LMHeadModel,
        GPTNeoXConfig,
        GPTNeoXForCausalLM,
        MambaConfig,
        MambaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        MixtralConfig,
        MixtralForCausalLM,
        Phi3Config,
        Phi3ForCausalLM,
        PhiConfig,
        PhiForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
        "max_position_embeddings": 512,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    torch.manual_seed(0)
    return {
        "phi": PhiForCausalLM(PhiConfig(**common | {"num_key_value_heads": 4})),
        "phi3": Phi3ForCausalLM(Phi3Config(**common)),
        "qwen2": Qwen2ForCausalLM(Qwen2Config(**common)),
        "qwen3": Qwen3ForCausalLM(Qwen3Config(**common, head_dim=16)),
        "mixtral": MixtralForCausalLM(MixtralConfig(**common, num_local_experts=4, num_experts_per_tok=2)),
        "gpt_neox": GPTNeoXForCausalLM(GPTNeoXConfig(**common)),
        "gemma3, wide window": Gemma3ForCausalLM(Gemma3TextConfig(**common, head_dim=16, sliding_window=512)),
        "gemma3, narrow window": Gemma3ForCausalLM(Gemma3TextConfig(**common, head_dim=16, sliding_window=24)),
        "mistral, wide window": MistralForCausalLM(MistralConfig(**common, sliding_window=512)),
        "mistral, narrow window": MistralForCausalLM(MistralConfig(**common, sliding_window=24)),
        "gemma2": Gemma2ForCausalLM(Gemma2Config(**common, head_dim=16, sliding_window=512)),
        "gpt2": GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer), n_embd=48, n_layer=2, n_head=4, n_positions=512, initializer_range=0.3
            )
        ),
        "mamba": MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2)),
    }


FALLS_BACK = {
    "mistral, narrow window": "sliding window",
    "gemma3, narrow window": "sliding window",
    "gemma2": "caps",
    "mamba": "",
}
NAMES = (
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
    "mixtral",
    "gpt_neox",
    "mistral, wide window",
    "mistral, narrow window",
    "gemma2",
    "gemma3, wide window",
    "gemma3, narrow window",
    "gpt2",
    "mamba",
)


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_scores_as_in_hflm_shared_or_not(name: str, tokenizer: Any) -> None:
    from lm_eval.models.huggingface import HFLM

    model = relatives(tokenizer)[name].eval()
    batch = [asked("loglikelihood", f"{STEM} {word}", f" {choice} cat") for word in WORDS[:4] for choice in "ab"]
    text = [asked("generate_until", f"{STEM} {word}", {"until": [], "max_gen_toks": 4}) for word in WORDS[:3]]
    scorer = LiveScorer(model, tokenizer)
    plain = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    assert_same(scorer.loglikelihood(batch), plain.loglikelihood(batch, disable_tqdm=True))
    assert scorer.generate_until(text) == plain.generate_until(text, disable_tqdm=True)
    assert (scorer.fallback_reason is not None) == (name in FALLS_BACK), scorer.fallback_reason
    assert FALLS_BACK.get(name, "") in (scorer.fallback_reason or "")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_scores_as_in_hflm_up_to_its_rounding(
    make_model: Callable[..., Any], tokenizer: Any, dtype: torch.dtype
) -> None:
    from lm_eval.models.huggingface import HFLM

    model = make_model().to(dtype)
    batch = [asked("loglikelihood", f"{STEM} {word}", f" {choice} cat") for word in WORDS[:6] for choice in "ab"]
    text = [asked("generate_until", f"{STEM} {word}", {"until": [], "max_gen_toks": 4}) for word in WORDS[:3]]
    scorer = LiveScorer(model, tokenizer)
    plain = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1).loglikelihood(batch, disable_tqdm=True)
    ours = scorer.loglikelihood(batch)
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in plain], rel=0.03)
    assert len(scorer.generate_until(text)) == len(text)
    assert scorer.fallback_reason is None


SEEDS = (5, 6, 7)


@pytest.fixture(scope="module")
def errors(make_model: Callable[..., Any], tokenizer: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, per kind of request, the scorer's and HFLM's absolute errors against HFLM in float64."""
    from lm_eval.models.huggingface import HFLM

    ends, whole = [f"{STEM} {word} {other}" for word in WORDS for other in WORDS[:4]], " ".join(WORDS)
    batches = {
        "loglikelihood": [asked("loglikelihood", text, f" {end} blue cat") for text in ends for end in ("why", "a")],
        "loglikelihood_rolling": [asked("loglikelihood_rolling", f"{word} {whole} " * 30) for word in WORDS],
    }
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in batches}
    for seed in SEEDS:
        small, exact = make_model(seed=seed), make_model(seed=seed).double()
        scorers = [LiveScorer(small, tokenizer), *(HFLM(pretrained=m, tokenizer=tokenizer) for m in (small, exact))]
        for kind, batch in batches.items():
            told = [getattr(scorer, kind)(batch, disable_tqdm=True) for scorer in scorers]
            values = np.array([[one[0] if isinstance(one, tuple) else one for one in listed] for listed in told])
            found[kind].append(np.abs(values[:2] - values[2]))
    return {kind: (all_[0], all_[1]) for kind, all_ in ((k, np.concatenate(v, 1)) for k, v in found.items())}


def test_the_error_against_float64_is_no_larger_than_that_of_hflm(errors: dict[str, tuple[Any, Any]]) -> None:
    """Both round every layer in float32, so errors are alike: a paired test may not find ours the larger ones."""
    ours, theirs = errors["loglikelihood"]
    assert stats.wilcoxon(ours, theirs, alternative="greater").pvalue > 1e-3
    worse = stats.wilcoxon(1.3 * ours, theirs, alternative="greater").pvalue
    assert worse < 1e-3, "so many requests show an error that is larger by a third"


def test_whole_texts_are_added_up_more_exactly_than_by_hflm(errors: dict[str, tuple[Any, Any]]) -> None:
    """HFLM adds up hundreds of log-likelihoods in float32, we in float64."""
    ours, theirs = errors["loglikelihood_rolling"]
    assert np.sqrt(np.mean(ours**2)) <= np.sqrt(np.mean(theirs**2))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(pairs, min_size=2, max_size=10), order=st.randoms(use_true_random=False), budget=budgets)
def test_order_and_batch_size_change_nothing(
    model: Any, tokenizer: Any, requests: list[tuple[str, str]], order: Any, budget: int | None
) -> None:
    batch = [asked("loglikelihood", *pair) for pair in requests]
    text = [asked("generate_until", f"{context}x", {"until": [], "max_gen_toks": 5}) for context, _ in requests]
    places = list(range(len(batch)))
    order.shuffle(places)
    one, other = LiveScorer(model, tokenizer), LiveScorer(model, tokenizer, batch_tokens=budget, rows=3)
    scored, texts = one.loglikelihood(batch), one.generate_until(text)
    assert_same(other.loglikelihood([batch[i] for i in places]), [scored[i] for i in places])
    assert other.generate_until([text[i] for i in places]) == [texts[i] for i in places]


def test_nothing_is_tokenised_or_planned_twice(model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [asked("loglikelihood", f"{STEM} {word}", " runs") for word in WORDS]
    text = [asked("generate_until", f"{STEM} {word}", {"until": ["river"], "max_gen_toks": 4}) for word in WORDS]
    whole = [asked("loglikelihood_rolling", STEM)]
    scorer = LiveScorer(model, tokenizer)
    first = scorer.loglikelihood(batch), scorer.generate_until(text), scorer.loglikelihood_rolling(whole)
    plans = scorer.plans

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a text was tokenised again")

    monkeypatch.setattr(type(tokenizer), "encode", refuse)
    assert (scorer.loglikelihood(batch), scorer.generate_until(text), scorer.loglikelihood_rolling(whole)) == first
    assert scorer.plans == plans


def test_of_two_highest_tokens_only_the_first_is_greedy() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0], [3.0, 1.0, 0.0]])
    wanted = logits.log_softmax(-1)
    rows, tokens = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 2, 0, 1])
    likelihood, alike = _read_logits(logits.clone(), rows, tokens)
    torch.testing.assert_close(likelihood, wanted[rows, tokens])
    assert alike.tolist() == [True, False, True, False]


def test_a_generation_that_finishes_nothing_is_given_up(model: Any, tokenizer: Any) -> None:
    scorer = LiveScorer(model, tokenizer, stall_seconds=0.0)
    with pytest.raises(ScoringError, match="finish a text within"):
        scorer.generate_until([asked("generate_until", "a cat", {"until": [], "max_gen_toks": 64})])


def test_a_text_never_has_more_tokens_than_were_asked_for(model: Any, tokenizer: Any) -> None:
    scorer = LiveScorer(model, tokenizer)
    scorer.generate_until([asked("generate_until", "a cat", {"until": [], "max_gen_toks": 6})])
    assert 1 <= scorer.cost.tokens_generated <= 6


def test_the_size_of_a_pass_follows_the_free_memory(model: Any) -> None:
    device = torch.device("cpu")
    plenty, little = (budget_for(model, device, free) for free in (1 << 34, 1 << 20))
    assert (plenty.tokens, little.tokens) == (2048, 256)
    assert little.logits < plenty.logits
    assert budget_for(model, torch.device("cuda"), 1 << 36).tokens == 16_384


def test_sampling_is_left_to_hflm(model: Any, tokenizer: Any) -> None:
    wanted = {"until": [], "max_gen_toks": 3, "do_sample": True, "temperature": 1.0}
    scorer = LiveScorer(model, tokenizer)
    assert len(scorer.generate_until([asked("generate_until", "the cat", wanted)])) == 1
    assert scorer.fallback_reason is None


def test_chat_prompts_are_rendered_as_by_hflm(model: Any, tokenizer: Any, hflm: Any) -> None:
    messages = [{"role": "system", "content": "be short"}, {"role": "user", "content": "why?"}]
    scorer = LiveScorer(model, tokenizer)
    assert scorer.apply_chat_template(messages) == hflm.apply_chat_template(messages)
    assert scorer.tokenizer_name == hflm.tokenizer_name
    assert scorer.max_length == hflm.max_length
