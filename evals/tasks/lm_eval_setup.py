"""What must be right in the process before lm-eval is imported: offline switches, nltk's data, random state."""

import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np

from evals.errors import DataError

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_EVALUATE_OFFLINE")
HUB_SECONDS = 3.0
PLAIN_PUNKT = Path(__file__).parent.parent / "mini" / "nltk_data"
"""A sentence model that knows a dozen abbreviations: enough for the embedded questions, not for others."""

LM_EVAL_SEEDS = {"python": 0, "numpy": 1234, "torch": 1234, "fewshot": 1234}
"""The seeds that lm-eval's ``simple_evaluate`` sets by default."""


_SWITCHES = (("huggingface_hub.constants", "HF_HUB_OFFLINE"), ("datasets.config", "HF_HUB_OFFLINE"))


@contextmanager
def offline() -> Iterator[None]:
    """Switch every Hugging Face library to offline inside, whether it is imported before, inside or after."""
    before = {name: os.environ.get(name) for name in OFFLINE}
    usual = is_offline()
    os.environ.update(dict.fromkeys(OFFLINE, "1"))
    _switch(off=True)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        _switch(off=usual)


def _switch(*, off: bool) -> None:
    for module, attribute in _SWITCHES:
        if module in sys.modules:
            setattr(sys.modules[module], attribute, off)


def is_offline() -> bool:
    """Tell whether the user, or `offline`, has switched the hub off."""
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in OFFLINE[:2])


def ask_hub(seconds: float = HUB_SECONDS) -> Callable[[], bool]:
    """Ask the hub's front page in the background, proxies respected.

    Returns:
        Waits until an answer has come or `seconds` have passed since the question, and tells whether one has.
    """
    from huggingface_hub import constants, get_session

    session = get_session()
    answered: list[bool] = []
    until = time.monotonic() + seconds

    def ask() -> None:
        try:
            session.head(constants.ENDPOINT, timeout=seconds)
            answered.append(True)
        except Exception:  # noqa: BLE001 - any failure means the same: no hub
            return

    asking = Thread(target=ask, daemon=True)
    asking.start()

    def answers() -> bool:
        asking.join(max(0.0, until - time.monotonic()))
        return bool(answered)

    return answers


def find_punkt(folders: Sequence[Path], place: str, *, plain: bool = False) -> None:
    """Make nltk's sentence model findable for lm-eval's ifeval, which otherwise fails while scoring.

    Args:
        folders: Where to look before nltk's usual places.
        place: What the error names first.
        plain: Do with the plain model of the embedded questions when nltk's is nowhere.

    Raises:
        DataError: When it is nowhere.
    """
    given = [str(folder) for folder in folders if (folder / "tokenizers" / "punkt_tab").is_dir()]
    if given:
        known = [part for part in os.environ.get("NLTK_DATA", "").split(os.pathsep) if part]
        os.environ["NLTK_DATA"] = os.pathsep.join(dict.fromkeys([*given, *known]))
    import nltk

    nltk.data.path[:0] = [folder for folder in given if folder not in nltk.data.path]
    try:
        nltk.data.find("tokenizers/punkt_tab", [folder for folder in nltk.data.path if folder != str(PLAIN_PUNKT)])
    except LookupError:
        if plain:
            nltk.data.path[:] = dict.fromkeys([*nltk.data.path, str(PLAIN_PUNKT)])  # the last place to be looked at
            return
        looked = ", ".join(str(folder) for folder in folders) or "nltk's usual places"
        raise DataError(
            f"{place}: must find nltk's sentence model punkt_tab, got nothing in {looked}; put it at "
            "DATA/nltk_data/tokenizers/punkt_tab, set NLTK_DATA, run: python -m nltk.downloader punkt_tab, "
            "or leave the task out"
        ) from None


@contextmanager
def lm_eval_random_state() -> Iterator[None]:
    """Give the global generators lm-eval's seeds inside, and their own state back afterwards."""
    import torch

    python, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(LM_EVAL_SEEDS["python"])
    np.random.seed(LM_EVAL_SEEDS["numpy"])  # noqa: NPY002
    torch.default_generator.manual_seed(LM_EVAL_SEEDS["torch"])
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
