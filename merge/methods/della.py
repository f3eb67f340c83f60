"""DELLA: drop entries at random, small ones more often, then elect signs as TIES does.

    P(kept) = density - epsilon + 2 epsilon r,   r = rank of the entry's magnitude in its row, from 0 to 1

Source: P. T. Deep, R. Bhardwaj, S. Poria, "DELLA-Merging", 2024.
"""

from dataclasses import dataclass
from typing import ClassVar

from merge.method import flag
from merge.methods.della_linear import DellaLinear


@dataclass(frozen=True)
class Della(DellaLinear, name="della", base_model="required", parents=(0, None), random=True, cut="base"):
    """Drops entries at random by rank, rescales the rest, and keeps those that agree on a sign.

    A density nearer to 0 or 1 than epsilon narrows epsilon, with a warning; the reference stops there.

    Args as those of ``DellaLinear``, but for
        normalize: Divide by the weights that take part.
    """

    normalize: bool = flag("divide by the weights that take part", default=True)
    vote: ClassVar[bool] = True
