"""The rules that one score and one label per scan must keep."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metrics.bootstrap_interval import FloatArray

BoolArray = npt.NDArray[np.bool_]


def checked_labels(
    scores: npt.ArrayLike, labels: npt.ArrayLike, name: str = "labels"
) -> tuple[FloatArray, BoolArray]:
    """``scores`` as float64 and ``labels`` of 0 and 1 as bool, both ``(scans,)``.

    Raises:
        ValueError: other shapes or labels, or NaN among the scores.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(
            f"scores and {name} must be (scans,), got {scores.shape} and {labels.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"scores must not be NaN, got {int(np.isnan(scores).sum())} NaN in {len(scores)} scans"
        )
    wrong = labels[(labels != 0) & (labels != 1)]
    if len(wrong):
        raise ValueError(f"{name} must be 0 or 1, got {wrong[0]}")
    return scores, labels == 1


def checked_survival(
    scores: npt.ArrayLike, event_years: npt.ArrayLike, event: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """``scores`` and ``event_years`` as float64 and ``event`` as bool, all ``(scans,)``.

    Raises:
        ValueError: other shapes or events, NaN among the scores, or years that are not finite.
    """
    scores, is_event = checked_labels(scores, event, "event")
    years = np.asarray(event_years, dtype=np.float64)
    if years.shape != scores.shape:
        raise ValueError(f"event_years must be {scores.shape} as the scores, got {years.shape}")
    wrong = years[~np.isfinite(years)]
    if len(wrong):
        raise ValueError(f"event_years must be finite, got {wrong[0]}")
    return scores, years, is_event


def check_weights(weights: FloatArray, scans: int) -> None:
    """Raises a ValueError unless ``weights`` are ``(resamples, scans)``."""
    if weights.ndim != 2 or weights.shape[1] != scans:
        raise ValueError(f"weights must be (resamples, {scans}), got {weights.shape}")
