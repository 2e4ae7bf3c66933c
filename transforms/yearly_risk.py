"""What is known of the risk within each of the coming years."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from transforms.scan_error import ScanError, scan_name


def yearly_risk(
    *, risk: int, years_to_diagnosis: float | None, censoring_years: float | None, years: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether cancer was found within 1, 2, ... years of the scan, and whether that is known.

    Of a person diagnosed at ``t`` all years are known: 0 before ``t``, 1 from it on. Of one never
    diagnosed those are known through which the follow-up lasted, and 0.

    Args:
        risk: 1 if the person was diagnosed, else 0.
        years_to_diagnosis: from the scan, above 0; None where never diagnosed.
        censoring_years: end of the follow-up, above 0, not before the diagnosis; may be None for
            a person diagnosed.
        years: how many.

    Returns:
        ``risk`` and ``known``, float32 ``(years,)`` of 0 and 1.

    Raises:
        ValueError: the times contradict the risk or each other, in one sentence.
    """
    event = event_years(
        risk=risk, years_to_diagnosis=years_to_diagnosis, censoring_years=censoring_years
    )
    within = torch.arange(1, years + 1, dtype=torch.float64)
    if risk:
        return (within >= event).float(), torch.ones(years)
    return torch.zeros(years), (within <= event).float()


def event_years(
    *, risk: int, years_to_diagnosis: float | None, censoring_years: float | None
) -> float:
    """Years to the diagnosis or else to the end of the follow-up, for C-index and the like.

    Arguments and errors as :func:`yearly_risk`.
    """
    diagnosis, end = years_to_diagnosis, censoring_years
    for name, value in (("years_to_diagnosis", diagnosis), ("censoring_years", end)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be above 0, got {value}")
    if risk:
        if diagnosis is None:
            raise ValueError("years_to_diagnosis must be given where risk is 1, got none")
        if end is not None and end < diagnosis:
            raise ValueError(
                f"censoring_years must not be below years_to_diagnosis, got {end} and {diagnosis}"
            )
        return diagnosis
    if diagnosis is not None:
        raise ValueError(f"years_to_diagnosis must be left out where risk is 0, got {diagnosis}")
    if end is None:
        raise ValueError("censoring_years must be given where risk is 0, got none")
    return end


class YearlyRiskd(MapTransform):
    """The targets of the risk: :func:`yearly_risk`, or one plain label.

    Reads ``years_to_diagnosis`` and ``censoring_years`` of the datalist where ``years`` is set, and
    writes float32 tensors. ``<key>`` becomes ``(Y,)`` and ``<key>_known`` ``(Y,)`` says which
    entries count. With ``years`` there are ``event_years`` ``(1,)`` too, the time of the diagnosis
    or else of the follow-up's end, and ``event`` ``(1,)``, 1 for a diagnosis.

    Args:
        keys: the one key of the label, 0 or 1.
        years: None for the label as it is, known whatever the follow-up; else Y.
        image_key: the scan that errors name.
    """

    def __init__(
        self, keys: KeysCollection = "risk", years: int | None = None, image_key: str = "image"
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must name one label, got {self.keys}")
        if years is not None and years < 1:
            raise ValueError(f"years must be at least 1 or none, got {years}")
        self.years = years
        self.image_key = image_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        key = self.keys[0]
        if self.years is None:
            sample[key], sample[f"{key}_known"] = torch.tensor([float(sample[key])]), torch.ones(1)
            return sample
        follow_up = {
            "risk": sample[key],
            "years_to_diagnosis": sample.get("years_to_diagnosis"),
            "censoring_years": sample.get("censoring_years"),
        }
        sample["event"] = torch.tensor([float(sample[key])])
        try:
            sample["event_years"] = torch.tensor([float(event_years(**follow_up))])
            sample[key], sample[f"{key}_known"] = yearly_risk(**follow_up, years=self.years)
        except ValueError as error:
            raise ScanError(f"{scan_name(sample[self.image_key])}: {error}") from error
        return sample
