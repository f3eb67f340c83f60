"""Model Breadcrumbs with a vote on signs: drop the largest and smallest entries, then elect as TIES does.

    kept are the entries ranked between gamma and gamma + density of the way down, by magnitude

Source: M. Davari, E. Belilovsky, "Model Breadcrumbs", ECCV 2024.
"""

from dataclasses import dataclass
from typing import ClassVar

from merge.method import flag
from merge.methods.breadcrumbs import Breadcrumbs


@dataclass(frozen=True)
class BreadcrumbsTies(Breadcrumbs, name="breadcrumbs_ties", base_model="required", parents=(0, None), cut="base"):
    """Drops outliers and noise of each task vector, and of the rest what disagrees on a sign.

    Args as those of ``Breadcrumbs``, but for
        normalize: Divide by the weights that take part.
    """

    normalize: bool = flag("divide by the weights that take part", default=False)
    vote: ClassVar[bool] = True
