"""How far a patient's nodules moved from one scan's frame to the next's, as a whole."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metrics.bootstrap_interval import FloatArray
from metrics.match_nodules import MatchedNodules, match_nodules

# So many nodules that agree on a shift are hardly chance, as two of ten often are. The reach is
# short for the same reason: the farther it goes, the more wrong shifts find three by chance.
MIN_AGREEING = 3
AGREEING_MM = 15.0


class NoduleShift(NamedTuple):
    """Attributes:
    shift_mm: what brings positions before to those after, RAS.
    source: ``nodules`` where they agree on it, ``none`` where the two frames agree as they are.
    """

    shift_mm: tuple[float, float, float]
    source: str


def nodule_shift(before_mm: npt.ArrayLike, after_mm: npt.ArrayLike) -> NoduleShift:
    """The shift from one scan's frame to the next's that most nodules agree on.

    A scanner's frame begins where the table stood, so that a patient's two scans may lie metres
    apart. Each pair of nodules proposes its difference, the one that brings most nodules within
    15 mm is taken, and the median over these is the shift. It counts where at least 3 nodules
    and half of the shorter list agree; otherwise the frames are taken as they are, where that
    brings half of the shorter list together. What turns and breathing move remains.

    Args:
        before_mm: centres ``(N, 3)`` at the first time point, in RAS mm.
        after_mm: centres ``(M, 3)`` at the second.

    Raises:
        ValueError: neither brings half of the shorter list together, or a position is not finite.
    """
    still = match_nodules(before_mm, after_mm, max_distance_mm=AGREEING_MM)
    before = np.asarray(before_mm, dtype=np.float64).reshape(-1, 3)
    after = np.asarray(after_mm, dtype=np.float64).reshape(-1, 3)
    needed = min(len(before), len(after)) / 2
    shift, agreeing = _most_agreed(before, after)
    if agreeing >= max(MIN_AGREEING, needed, len(still.pairs)):
        return NoduleShift((float(shift[0]), float(shift[1]), float(shift[2])), "nodules")
    if len(still.pairs) >= needed:
        return NoduleShift((0.0, 0.0, 0.0), "none")
    raise ValueError(
        "the shift between the two scans must be given, as their nodules do not tell it: "
        f"{len(before)} before, {len(after)} after, and {len(still.pairs)} pairs within "
        f"{AGREEING_MM:g} mm"
    )


def _most_agreed(before: FloatArray, after: FloatArray) -> tuple[FloatArray, int]:
    """The shift with the most pairs, of these the closest, and the number of its pairs."""
    best, shift = (0, 0.0), np.zeros(3)
    for proposed in (after[None] - before[:, None]).reshape(-1, 3):
        found = match_nodules(before + proposed, after, max_distance_mm=AGREEING_MM)
        score = (len(found.pairs), -sum(found.distances_mm))
        if score > best:
            best, shift = score, _median_shift(before, after, found)
    return shift, len(match_nodules(before + shift, after, max_distance_mm=AGREEING_MM).pairs)


def _median_shift(before: FloatArray, after: FloatArray, found: MatchedNodules) -> FloatArray:
    rows, columns = np.transpose(found.pairs)
    middle: FloatArray = np.median(after[columns] - before[rows], axis=0)
    return middle
