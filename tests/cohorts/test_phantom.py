from __future__ import annotations

import filecmp
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nibabel import Nifti1Image, aff2axcodes
from scipy.stats import spearmanr, weibull_min

from cohorts import CohortSettings, ScannerSettings, load_datalist, make_cohort, render_scan
from cohorts.lidc_nodules import LidcNodule, read_lidc_nodules
from cohorts.patient_split import patient_split
from cohorts.phantom import main
from cohorts.phantom_follow_up import follow_up
from cohorts.phantom_plan import plan_cohort

TINY = ScannerSettings(spacing_mm=(6.0, 6.0, 6.0), field_of_view_mm=(384.0, 384.0, 288.0))
SETTINGS = CohortSettings(
    training=6,
    validation=2,
    testing=2,
    seed=3,
    clean_fraction=0.3,
    min_diameter_mm=14,
    scanner=TINY,
)


@pytest.fixture(scope="module")
def nodules() -> list[LidcNodule]:
    return read_lidc_nodules()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(SETTINGS, tmp_path_factory.mktemp("phantom"), quiet=True)


def scans(cohort: Path) -> list[dict[str, Any]]:
    return [
        item
        for split in ("training", "validation", "testing")
        for item in load_datalist(cohort, split)
    ]


def same_files(first: Path, second: Path) -> bool:
    names = sorted(str(p.relative_to(first)) for p in first.rglob("*") if p.is_file())
    others = sorted(str(p.relative_to(second)) for p in second.rglob("*") if p.is_file())
    return names == others and not any(filecmp.cmpfiles(first, second, names, shallow=False)[1:])


def test_two_workers_make_the_same_bytes(cohort: Path, tmp_path: Path) -> None:
    make_cohort(SETTINGS, tmp_path, workers=2, quiet=True)
    assert same_files(cohort.parent, tmp_path)


def test_another_seed_makes_other_scans(nodules: list[LidcNodule]) -> None:
    first, again, other = (
        render_scan([], TINY, np.random.default_rng(seed)).image_hu for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_complete_cohort_is_left_and_a_broken_one_completed(tmp_path: Path) -> None:
    settings = replace(SETTINGS, training=3, validation=0, testing=0)
    path = make_cohort(settings, tmp_path, quiet=True)
    listed = path.read_bytes()
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.gz")}
    assert make_cohort(settings, tmp_path, quiet=True) == path
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.gz")}
    lost = tmp_path / "masks" / "phantom-000001.nii.gz"
    content = lost.read_bytes()
    lost.unlink()
    path.unlink()
    make_cohort(settings, tmp_path, quiet=True)
    changed = {p.name for p in times if times[p] != p.stat().st_mtime_ns}
    assert changed == {lost.name}
    assert lost.read_bytes() == content
    assert path.read_bytes() == listed


def test_changed_settings_make_all_scans_anew(tmp_path: Path) -> None:
    small = replace(SETTINGS, training=1, validation=0, testing=0, clean_fraction=0.0)
    path = make_cohort(small, tmp_path, quiet=True)
    before = (tmp_path / "images" / "phantom-000000.nii.gz").read_bytes()
    make_cohort(replace(small, seed=9), tmp_path, quiet=True)
    assert (tmp_path / "images" / "phantom-000000.nii.gz").read_bytes() != before
    assert json.loads(path.read_text())["generator"]["seed"] == 9


def test_a_cohort_of_an_older_generator_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(SETTINGS, training=1, validation=0, testing=0, clean_fraction=0.0)
    with monkeypatch.context() as older:
        older.setattr("cohorts.phantom_plan.GENERATOR_VERSION", 1)
        path = make_cohort(small, tmp_path, quiet=True)
    image = tmp_path / "images" / "phantom-000000.nii.gz"
    image.write_bytes(b"as version 1 drew it")
    make_cohort(small, tmp_path, quiet=True)
    assert image.read_bytes() != b"as version 1 drew it"
    assert json.loads(path.read_text())["generator"]["version"] == 3


def test_sides_are_the_patients(cohort: Path) -> None:
    seen = set()
    for item in scans(cohort):
        lungs = Nifti1Image.from_filename(item["lungs"])
        x_mm = lungs.affine[0, 3] + lungs.affine[0, 0] * np.arange(lungs.shape[0])
        labels = np.asarray(lungs.dataobj)
        # In RAS the patient's left has negative x.
        assert np.average(x_mm, weights=(labels == 1).sum(axis=(1, 2))) < -40
        assert np.average(x_mm, weights=(labels == 2).sum(axis=(1, 2))) > 40
        # The right lung is the larger one, the heart lies to the left.
        assert (labels == 2).sum() > (labels == 1).sum() > 0
        cancers = set()
        for box, nodule in zip(item["boxes"], item["nodules"], strict=True):
            assert (box[0] < 0) == (nodule["side"] == "left")
            seen.add(nodule["side"])
            if nodule["malignant"]:
                cancers.add(nodule["side"])
        both = {"left", "right"}
        assert item["side"] == ("both" if cancers == both else next(iter(cancers), "none"))
    assert seen == {"left", "right"}


def test_liver_lies_right() -> None:
    scan = render_scan([], replace(TINY, dose=4.0), np.random.default_rng(5))
    x_mm, z_mm = scan.grid.x_mm, scan.grid.z_mm
    middle = scan.image_hu[z_mm < -125][:, 26:38]
    liver = middle[..., (x_mm > 40) & (x_mm < 90)].mean()
    other = middle[..., (x_mm < -40) & (x_mm > -90)].mean()
    assert liver > other + 30


def test_boxes_are_the_masks_extents(cohort: Path) -> None:
    count = 0
    for item in scans(cohort):
        image = Nifti1Image.from_filename(item["mask"])
        mask = np.asarray(image.dataobj)
        assert mask.max() == len(item["boxes"])
        for number, box in enumerate(item["boxes"], start=1):
            edges = []
            for index in np.argwhere(mask == number):
                for corner in (-0.5, 0.5):
                    edges.append((image.affine @ [*(index + corner), 1])[:3])
            low, high = np.min(edges, axis=0), np.max(edges, axis=0)
            np.testing.assert_allclose(box[:3], (low + high) / 2, atol=1e-3)
            np.testing.assert_allclose(box[3:], high - low, atol=1e-3)
            count += 1
    assert count > 8


def test_nodules_lie_in_the_lung_and_are_brighter(cohort: Path) -> None:
    for item in scans(cohort):
        hu, mask, lungs = (
            np.asarray(Nifti1Image.from_filename(item[key]).dataobj)
            for key in ("image", "mask", "lungs")
        )
        for nodule in item["nodules"]:
            inside = mask == nodule["instance"]
            assert (lungs[inside] == (1 if nodule["side"] == "left" else 2)).mean() > 0.8
            plain = hu[(lungs > 0) & (mask == 0)].mean()
            assert hu[inside].mean() > plain + 100


def test_risk_follows_malignancy_and_clean_scans_have_no_box(cohort: Path) -> None:
    items = scans(cohort)
    for item in items:
        malignant = [nodule["malignancy"] > 3 for nodule in item["nodules"]]
        assert item["box_labels"] == [int(value) for value in malignant]
        assert item["risk"] == int(any(malignant))
        assert (item["years_to_diagnosis"] is None) == (item["risk"] == 0)
        assert item["censoring_years"] >= (item["years_to_diagnosis"] or 0.1)
    assert sum(item["risk"] for item in items) == 5
    clean = [item for item in items if not item["boxes"]]
    assert len(clean) == 4
    assert all(
        not np.asarray(Nifti1Image.from_filename(item["mask"]).dataobj).any() for item in clean
    )


def cancer(diameter_mm: float, malignancy: float = 4.0) -> dict[str, Any]:
    return {"malignant": True, "diameter_mm": diameter_mm, "malignancy": malignancy}


def test_larger_and_more_suspicious_cancers_are_found_sooner() -> None:
    rng = np.random.default_rng(0)
    diameters_mm, malignancies = rng.uniform(4, 30, 400), rng.uniform(3.1, 5, 400)
    times = np.array(
        [follow_up([cancer(*pair)], rng) for pair in zip(diameters_mm, malignancies, strict=True)]
    )
    assert (times[:, 0] > 0).all()
    assert (times[:, 0] <= times[:, 1]).all()
    assert spearmanr(diameters_mm, times[:, 0]).statistic < -0.5
    assert spearmanr(malignancies, times[:, 0]).statistic < -0.1
    # The end of the follow-up tells nothing of the cancer.
    assert abs(spearmanr(diameters_mm, times[:, 1]).statistic) < 0.1


def test_follow_up_times_have_the_stated_distribution() -> None:
    rng = np.random.default_rng(1)
    smaller = cancer(4, 5.0)
    benign = {"malignant": False, "diameter_mm": 30.0, "malignancy": 2.0}
    times = np.array([follow_up([smaller, benign, cancer(20, 4.5)], rng) for _ in range(2000)])
    scale = 3 * (10 / 20) * np.exp(0.3 * (4 - 4.5))
    # Given its end, each time's share of what is left of the distribution is uniform.
    shares = weibull_min.cdf(times[:, 0], 3, scale=scale) / weibull_min.cdf(
        times[:, 1], 3, scale=scale
    )
    np.testing.assert_allclose(np.quantile(shares, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)
    np.testing.assert_allclose(np.quantile(times[:, 1], [0, 0.5, 1]), [1, 4, 7], atol=0.2)


def test_without_a_cancer_there_is_only_a_censoring_time() -> None:
    benign = {"malignant": False, "diameter_mm": 30.0, "malignancy": 2.0}
    for nodules in ([], [benign]):
        years, censoring_years = follow_up(nodules, np.random.default_rng(2))
        assert years is None
        # The same numbers are drawn with a cancer, so that its presence changes no other time.
        assert censoring_years == follow_up([cancer(10)], np.random.default_rng(2))[1] >= 1


def test_images_are_those_of_version_2(cohort: Path) -> None:
    """Times have a generator of their own: how they are drawn changes no image."""
    item = scans(cohort)[0]
    plan = plan_cohort(SETTINGS, read_lidc_nodules())[0]
    scan_rng = np.random.default_rng(list(plan.seed)).spawn(2)[0]
    scan = render_scan(list(plan.nodules), plan.scanner, scan_rng)
    image = np.asarray(Nifti1Image.from_filename(item["image"]).dataobj)
    assert np.array_equal(image, scan.image_hu.transpose(2, 1, 0))


def test_files_are_what_the_datalist_says(cohort: Path) -> None:
    for item in scans(cohort):
        image, mask, lungs = (
            Nifti1Image.from_filename(item[key]) for key in ("image", "mask", "lungs")
        )
        assert image.get_data_dtype() == np.int16
        assert mask.get_data_dtype() == lungs.get_data_dtype() == np.uint8
        assert image.shape == mask.shape == lungs.shape == (64, 64, 48)
        assert np.array_equal(image.affine, mask.affine)
        assert aff2axcodes(image.affine) == ("L", "P", "S")
        assert np.asarray(image.dataobj).min() >= -1024
        for nodule, box in zip(item["nodules"], item["boxes"], strict=True):
            np.testing.assert_allclose(nodule["centre_mm"], box[:3], atol=12)


def test_lidc_patients_stay_in_their_split(nodules: list[LidcNodule]) -> None:
    plans = plan_cohort(replace(SETTINGS, training=40, validation=20, testing=20), nodules)
    patients = {
        split: {n.patient_id for plan in plans if plan.split == split for n in plan.nodules}
        for split in ("training", "validation", "testing")
    }
    assert all(patient_split(p) == split for split, group in patients.items() for p in group)
    assert all(len(group) > 5 for group in patients.values())
    assert len({plan.patient_id for plan in plans}) == 80


def noise_sd(settings: ScannerSettings) -> float:
    """From the difference of two scans of one patient, around the body's middle."""
    quiet = render_scan([], replace(settings, dose=1e9), np.random.default_rng(4)).image_hu
    noisy = render_scan([], settings, np.random.default_rng(4)).image_hu
    rows, columns = (slice(size // 2 - 10, size // 2 + 10) for size in quiet.shape[1:])
    return float((noisy.astype(float) - quiet)[:, rows, columns].std())


@pytest.mark.parametrize(
    "change", [{"dose": 0.25}, {"kernel": "lung"}, {"slice_thickness_mm": 12.0}, {}]
)
def test_noise_follows_dose_kernel_and_thickness(change: dict[str, Any]) -> None:
    settings = replace(TINY, **change)
    assert noise_sd(settings) == pytest.approx(settings.noise_sd_hu, rel=0.12)
    factor = settings.noise_sd_hu / TINY.noise_sd_hu
    expected = {"dose": 2, "kernel": 2.2, "slice_thickness_mm": 0.5**0.5}
    assert factor == pytest.approx(expected[next(iter(change))] if change else 1)


def test_thick_slices_blur_along_the_patient_only() -> None:
    thin = replace(TINY, dose=1e9)
    thick = replace(thin, slice_thickness_mm=18.0)
    sharp, soft = (
        render_scan([], settings, np.random.default_rng(4)).image_hu.astype(float)
        for settings in (thin, thick)
    )
    # Away from the ends a slice three steps thick is the mean of three.
    mean = (sharp[:-2] + sharp[1:-1] + sharp[2:]) / 3
    np.testing.assert_allclose(soft[1:-1], mean, atol=1.5)


def test_scan_without_room_for_a_nodule_is_refused(nodules: list[LidcNodule]) -> None:
    settings = ScannerSettings(spacing_mm=(6, 6, 6), field_of_view_mm=(60, 60, 60))
    large = max(nodules, key=lambda nodule: nodule.diameter_mm)
    with pytest.raises(ValueError, match="the field of view must show lung for a nodule of"):
        render_scan([large], settings, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--spacing-mm", "3", "0", "3"], r"spacing_mm must be above 0 on each axis, got \(3"),
        (["--train", "0", "--validation", "0", "--test", "0"], "numbers of scans must be 0 or"),
        (["--dose", "-1"], "dose must be above 0, got -1"),
        (["--positive-fraction", "0.9", "--clean-fraction", "0.3"], "add up to at most 1"),
        (["--min-diameter-mm", "30", "--max-diameter-mm", "10"], "below max_diameter_mm, got 30"),
        (["--min-diameter-mm", "400", "--max-diameter-mm", "500"], "at least one malignant nodule"),
        (["--workers", "0"], "workers must be 1 or more, got 0"),
    ],
)
def test_command_line_errors_are_one_sentence(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path / "out"), *options]) == 1
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert re.search(message, error)


def test_unwritable_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    output = os.fspath(file / "cohort")
    assert main(["--output", output]) == 1
    assert f"{output} must be a folder that can be written" in capsys.readouterr().err
