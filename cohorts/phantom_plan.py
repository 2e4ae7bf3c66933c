"""What a phantom cohort holds: its settings, and each scan's class and nodules."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cohorts.datalist import SPLITS
from cohorts.lidc_nodules import LidcNodule
from cohorts.patient_split import patient_split
from cohorts.phantom_emphysema import MOST, draw_extent
from cohorts.phantom_masses import draw_mass
from cohorts.phantom_scanner import ScannerSettings, draw_scanner

# Rises whenever the same settings make other scans, so that old cohorts are made anew.
GENERATOR_VERSION = 3
MIN_READERS = 2


@dataclass(frozen=True)
class CohortSettings:
    """What a phantom cohort is made of; two equal settings give byte-equal cohorts."""

    training: int = 96
    validation: int = 24
    testing: int = 48
    seed: int = 0
    positive_fraction: float = 0.5
    clean_fraction: float = 0.15
    min_diameter_mm: float = 4.0
    max_diameter_mm: float = 30.0
    mean_emphysema: float = 0.0  # share of the lungs, in scans without a malignant nodule
    mean_emphysema_with_cancer: float = 0.0
    mass_fraction: float = 0.0  # of the malignant nodules
    scanner: ScannerSettings = field(default_factory=ScannerSettings)
    vary_scanner: bool = False  # each scan has a dose, kernel and slice thickness of its own

    def __post_init__(self) -> None:
        counts = self.counts
        if min(counts.values()) < 0 or sum(counts.values()) == 0:
            raise ValueError(
                "the numbers of scans must be 0 or more and not all 0, "
                f"got {', '.join(f'{count} {split}' for split, count in counts.items())}"
            )
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        for name in ("positive_fraction", "clean_fraction", "mass_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if self.positive_fraction + self.clean_fraction > 1 + 1e-9:
            raise ValueError(
                "positive_fraction and clean_fraction must add up to at most 1, "
                f"got {self.positive_fraction} and {self.clean_fraction}"
            )
        for name in ("mean_emphysema", "mean_emphysema_with_cancer"):
            if not 0 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name} must lie between 0 and {MOST}, got {getattr(self, name)}")
        if not 0 < self.min_diameter_mm < self.max_diameter_mm:
            raise ValueError(
                "min_diameter_mm must be above 0 and below max_diameter_mm, "
                f"got {self.min_diameter_mm} and {self.max_diameter_mm}"
            )

    @property
    def counts(self) -> dict[str, int]:
        """Scans in each split."""
        return {split: getattr(self, split) for split in SPLITS}

    def as_record(self) -> dict[str, Any]:
        """The settings for a datalist, with the generator's version."""
        record = asdict(self)
        # Off, these change nothing: a cohort from before they came stays complete.
        for name in ("mass_fraction", "vary_scanner"):
            if not record[name]:
                del record[name]
        record["scanner"] = self.scanner.as_record()
        return {"program": "cohorts.phantom", "version": GENERATOR_VERSION, **record}


@dataclass(frozen=True)
class ScanPlan:
    """One scan to make: everything a worker needs."""

    patient_id: str
    split: str
    seed: tuple[int, int, int]
    nodules: tuple[LidcNodule, ...]
    scanner: ScannerSettings
    emphysema: float = 0.0
    masses_mm: tuple[float | None, ...] = ()

    @property
    def positive(self) -> bool:
        """Whether a nodule is malignant."""
        return any(nodule.malignant for nodule in self.nodules)


def plan_cohort(settings: CohortSettings, nodules: list[LidcNodule]) -> list[ScanPlan]:
    """Decide every scan's class and nodules; LIDC patients stay within one split.

    Each split goes through its shuffled nodules in turn, so none comes again before all have
    come. Raises ``ValueError`` if no nodule of the wanted size is there.
    """
    plans: list[ScanPlan] = []
    for code, (split, count) in enumerate(settings.counts.items()):
        if count == 0:
            continue
        rng = np.random.default_rng([settings.seed, code])
        emphysema_rng, mass_rng, scanner_rng = rng.spawn(3)
        positive = round(count * settings.positive_fraction)
        clean = min(round(count * settings.clean_fraction), count - positive)
        classes = ["positive"] * positive + ["clean"] * clean
        classes += ["benign"] * (count - len(classes))
        pool = [
            nodule
            for nodule in nodules
            if patient_split(nodule.patient_id) == split
            and len(nodule.readings) >= MIN_READERS
            and settings.min_diameter_mm <= nodule.diameter_mm <= settings.max_diameter_mm
        ]
        malignant = _Deck([nodule for nodule in pool if nodule.malignant], "malignant", split, rng)
        benign = _Deck([nodule for nodule in pool if not nodule.malignant], "benign", split, rng)
        for index, place in enumerate(rng.permutation(count)):
            kind = classes[place]
            chosen: list[LidcNodule] = []
            if kind == "positive":
                chosen += malignant.draw(1 + int(rng.random() < 0.2))
                chosen += benign.draw(int(rng.integers(0, 3)))
            elif kind == "benign":
                chosen += benign.draw(int(rng.integers(1, 4)))
            mean = (
                settings.mean_emphysema_with_cancer
                if kind == "positive"
                else settings.mean_emphysema
            )
            plans.append(
                ScanPlan(
                    patient_id=f"phantom-{len(plans):06d}",
                    split=split,
                    seed=(settings.seed, code, index),
                    nodules=tuple(chosen),
                    scanner=(
                        draw_scanner(settings.scanner, scanner_rng)
                        if settings.vary_scanner
                        else settings.scanner
                    ),
                    emphysema=draw_extent(mean, emphysema_rng),
                    masses_mm=tuple(
                        draw_mass(settings.mass_fraction, mass_rng) if nodule.malignant else None
                        for nodule in chosen
                    ),
                )
            )
    return plans


class _Deck:
    """Nodules in shuffled order, over and over."""

    def __init__(
        self, nodules: list[LidcNodule], name: str, split: str, rng: np.random.Generator
    ) -> None:
        self._nodules = [nodules[place] for place in rng.permutation(len(nodules))]
        self._name = f"{name} nodule of LIDC's {split} patients"
        self._next = 0

    def draw(self, count: int) -> list[LidcNodule]:
        if count and not self._nodules:
            raise ValueError(
                f"the diameters must leave at least one {self._name}, got none in that range"
            )
        drawn = [self._nodules[(self._next + i) % len(self._nodules)] for i in range(count)]
        self._next += count
        return drawn
