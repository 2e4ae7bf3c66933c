"""A made-up follow-up: when a phantom's cancer is found, and until when it is looked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

TYPICAL_YEARS = 3.0  # of a cancer of 10 mm with a mean rating of 4, "moderately suspicious"
YEARS_PER_RATING = math.exp(-0.3)  # factor on the time for one more step of malignancy
SHAPE = 3.0  # of the Weibull distribution; 1 would be times without memory
FOLLOW_UP_YEARS = (1.0, 7.0)


def follow_up(
    nodules: Sequence[dict[str, Any]], rng: np.random.Generator
) -> tuple[float | None, float]:
    """Years to the diagnosis, None where no nodule is malignant, and years of follow-up.

    The follow-up lasts 1 to 7 years, whatever the scan holds. Within it the cancer is found at a
    Weibull time of shape 3 and scale ``3 * (10 / d) * exp(0.3 * (4 - m))`` years, cut off at
    the end of the follow-up; ``d`` is the diameter in mm of the largest malignant nodule and
    ``m`` its rating of malignancy. So the hazard is log-linear in ``m`` and ``log d``: larger and
    more suspicious cancers are found sooner. The formula is made up, so that times can be learned
    from images; it describes no patients.

    Args:
        nodules: of a datalist item, with ``malignant``, ``malignancy`` and ``diameter_mm``.
        rng: two numbers are taken, with or without a cancer.

    Returns:
        Both in hundredths of a year, above 0, the diagnosis never after the follow-up.
    """
    chance, place = rng.random(2).tolist()
    first, last = FOLLOW_UP_YEARS
    censoring = round(first + (last - first) * place, 2)
    cancers = [nodule for nodule in nodules if nodule["malignant"]]
    if not cancers:
        return None, censoring
    largest = max(cancers, key=lambda nodule: nodule["diameter_mm"])
    scale = (
        TYPICAL_YEARS
        * (10 / largest["diameter_mm"])
        * YEARS_PER_RATING ** (largest["malignancy"] - 4)
    )
    # The inverse of the distribution function, up to the end of the follow-up.
    found = -math.expm1(-((censoring / scale) ** SHAPE))
    years = scale * (-math.log1p(-chance * found)) ** (1 / SHAPE)
    return min(max(round(years, 2), 0.01), censoring), censoring
