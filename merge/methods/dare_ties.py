"""DARE with a vote on signs: drop entries of each task vector at random, then elect as TIES does.

    d_m' = d_m b_m |d_m|_1 / |d_m b_m|_1,   b_m ~ Bernoulli(density)

Source: L. Yu et al., "Language Models are Super Mario", ICML 2024. As in the reference, rescaling matches the L1
norm of each tensor, which is 1 / density only on average.
"""

from dataclasses import dataclass
from typing import ClassVar

from merge.method import flag
from merge.methods.dare_linear import DareLinear


@dataclass(frozen=True)
class DareTies(DareLinear, name="dare_ties", base_model="required", parents=(0, None), random=True, cut="base"):
    """Drops entries at random, rescales the rest, and keeps those that agree on a sign.

    Args as those of ``DareLinear``, but for
        normalize: Divide by the weights of the models that agree.
    """

    normalize: bool = flag("divide by the weights that agree", default=False)
    vote: ClassVar[bool] = True
