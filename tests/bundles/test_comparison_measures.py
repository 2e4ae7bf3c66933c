from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundles.bundle_config import bundle_names, config_files
from bundles.comparison_measures import measured
from bundles.comparison_plan import ComparisonPlan, Measure, comparison_plan
from metrics import bootstrap_interval, weighted_mean

SCANS = 24
Rows = dict[str, list[Any]]


def _measure(kind: str, *columns: str, **where: list[str]) -> Measure:
    return Measure(title=kind, kind=kind, columns=columns, decimals=3, where=where)


def _plan(**measures: Measure) -> ComparisonPlan:
    return ComparisonPlan(arms={"plain": [], "taught": []}, reference="plain", measures=measures)


def _cohort(seed: int, gain: float = 0.0) -> Rows:
    """Scans of which every second has a lesion, the sides taking turns."""
    rng = np.random.default_rng(seed)
    risk = [scan % 2 for scan in range(SCANS)]
    mass = rng.uniform(0.01, 0.1, SCANS) + gain / 10
    return {
        "patient_id": [f"p{scan:02d}" for scan in range(SCANS)],
        "risk": risk,
        "predicted_risk": [*(rng.uniform(size=SCANS) + gain * np.array(risk))],
        "attention_mass": [
            value if lesion else "" for value, lesion in zip(mass, risk, strict=True)
        ],
        "chance": [0.01 if lesion else "" for lesion in risk],
        "side": [
            ("left", "right", "both")[scan % 3] if scan % 2 else "none" for scan in range(SCANS)
        ],
        "side_hit": [scan % 3 if scan % 2 else "" for scan in range(SCANS)],
    }


def _write(folder: Path, name: str, rows: Rows) -> Path:
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(rows)
        table.writerows(zip(*rows.values(), strict=True))
    return path


def test_every_kind_of_measure_on_a_fake_cohort(tmp_path: Path) -> None:
    cohorts = {"plain": [_cohort(1), _cohort(2)], "taught": [_cohort(3, 0.5), _cohort(4, 0.5)]}
    files = {
        arm: [_write(tmp_path, f"{arm}{seed}", rows) for seed, rows in enumerate(each)]
        for arm, each in cohorts.items()
    }
    plan = _plan(
        auroc=_measure("auroc", "predicted_risk", "risk"),
        mass=_measure("mean", "attention_mass"),
        times=_measure("ratio_of_means", "attention_mass", "chance"),
        middle=_measure("median", "attention_mass"),
        side=_measure("mean", "side_hit", side=["left", "right"]),
    )
    content = measured(plan, files)

    def of_seeds(arm: str, number: Any) -> float:
        return float(np.mean([number(rows) for rows in cohorts[arm]]))

    def auroc(rows: Rows) -> float:
        risks = zip(rows["predicted_risk"], rows["risk"], strict=True)
        ill: list[float] = []
        well: list[float] = []
        for predicted, risk in risks:
            (ill if risk else well).append(predicted)
        return float(np.mean([a > b for a in ill for b in well]))

    def masses(rows: Rows) -> list[float]:
        return [mass for mass in rows["attention_mass"] if mass != ""]

    expected = {
        "auroc": auroc,
        "mass": lambda rows: np.mean(masses(rows)),
        "times": lambda rows: np.mean(masses(rows)) / 0.01,
        "middle": lambda rows: np.median(masses(rows)),
        # Of the scans 1, 3, 5, ... those with scan % 3 of 0 (left) and 1 (right).
        "side": lambda rows: 0.5,
    }
    for name, number in expected.items():
        for arm in cohorts:
            entry = content[name]["arms"][arm]
            assert entry["value"] == pytest.approx(of_seeds(arm, number)), (name, arm)
            assert entry["seed_values"] == pytest.approx([number(rows) for rows in cohorts[arm]])
        taught = content[name]["arms"]["taught"]
        gain = of_seeds("taught", number) - of_seeds("plain", number)
        assert taught["difference"] == pytest.approx(gain)
        assert "difference" not in content[name]["arms"]["plain"]
    assert [content[name]["scans"] for name in expected] == [24, 12, 12, 12, 8]
    # Too few of the scans have a side.
    assert content["side"]["arms"]["taught"]["low"] is None

    # One patient's gain in mass, averaged over the seeds, resampled by itself.
    gains = np.mean([masses(rows) for rows in cohorts["taught"]], axis=0)
    gains = gains - np.mean([masses(rows) for rows in cohorts["plain"]], axis=0)
    patients = [f"p{scan:02d}" for scan in range(1, SCANS, 2)]
    low, high, _ = bootstrap_interval(partial(weighted_mean, gains), patients)
    mass = content["mass"]["arms"]["taught"]
    assert (mass["difference_low"], mass["difference_high"]) == pytest.approx((low, high))


def test_a_scan_counts_for_all_arms_or_for_none(tmp_path: Path) -> None:
    plain, taught = _cohort(1), _cohort(2)
    taught["attention_mass"][1] = ""
    taught["attention_mass"][3] = "inf"
    files = {"plain": [_write(tmp_path, "a", plain)], "taught": [_write(tmp_path, "b", taught)]}
    content = measured(_plan(mass=_measure("mean", "attention_mass")), files)["mass"]
    assert content["scans"] == 10
    assert content["arms"]["plain"]["value"] == pytest.approx(
        np.mean(plain["attention_mass"][5::2])
    )


def test_a_cohort_without_lesions_has_no_localization(tmp_path: Path) -> None:
    rows = {**_cohort(1), "attention_mass": [""] * SCANS}
    path = _write(tmp_path, "a", rows)
    measures = {
        kind: _measure(kind, *["attention_mass"] * columns)
        for kind, columns in (("mean", 1), ("median", 1), ("auroc", 2), ("ratio_of_means", 2))
    }
    content = measured(_plan(**measures), {"plain": [path], "taught": [path]})
    for kind in measures:
        assert content[kind]["scans"] == 0
        assert content[kind]["arms"]["taught"]["difference"] is None


def test_other_scans_and_missing_columns_are_named(tmp_path: Path) -> None:
    rows = _cohort(1)
    one = _write(tmp_path, "one", rows)
    other = _write(tmp_path, "other", {**rows, "patient_id": rows["patient_id"][::-1]})
    with pytest.raises(ValueError, match=r"evaluated on the same scans, got others: .*other.csv"):
        measured(_plan(), {"plain": [one], "taught": [other]})
    plan = _plan(far=_measure("median", "peak_distance_mm"))
    with pytest.raises(ValueError, match="must have the column peak_distance_mm, got patient_id"):
        measured(plan, {"plain": [one]})
    with pytest.raises(ValueError, match=r"side of per_scan\.csv: could not convert"):
        measured(_plan(side=_measure("mean", "side")), {"plain": [one]})
    empty = _write(tmp_path, "empty", {"patient_id": []})
    with pytest.raises(ValueError, match="must have a patient_id for each of its scans, got 0"):
        measured(_plan(), {"plain": [empty]})


def test_a_measure_has_a_known_kind_and_its_columns() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of auroc, mean, .* got mode"):
        _measure("mode", "hit")
    with pytest.raises(ValueError, match="of kind auroc must have 2 columns, got risk"):
        _measure("auroc", "risk")


@pytest.mark.parametrize("bundle", bundle_names())
def test_the_plan_of_each_bundle_names_overlays_that_exist(bundle: str) -> None:
    plan = comparison_plan(bundle)
    assert plan.reference in plan.arms and len(plan.measures) > 1
    for overlays in plan.arms.values():
        config_files(bundle, "train", overlays)


def test_some_arms_of_a_plan() -> None:
    plan = comparison_plan("lung_ct_cancer_risk", ["box", "no_attention"])
    assert list(plan.arms) == ["box", "no_attention"] and plan.reference == "no_attention"
    assert comparison_plan("lung_ct_cancer_risk", ["box", "side_only"]).reference == "box"
    with pytest.raises(ValueError, match=r"an arm must be one of no_attention, .* got boxes"):
        comparison_plan("lung_ct_cancer_risk", ["boxes"])
