from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nibabel import Nifti1Image

from cohorts import CohortSettings, ScannerSettings, load_datalist, make_cohort, render_scan
from cohorts.lidc_nodules import LidcNodule, read_lidc_nodules
from cohorts.lidc_shape import LidcShape, lidc_shape
from cohorts.phantom import main
from cohorts.phantom_masses import MASS_DIAMETERS_MM, SMALLEST_SHARE, draw_mass
from cohorts.phantom_plan import plan_cohort
from cohorts.phantom_scan import PhantomScan

TINY = ScannerSettings(spacing_mm=(6.0, 6.0, 6.0))
SETTINGS = CohortSettings(
    training=5, validation=0, testing=0, seed=3, positive_fraction=0.8, scanner=TINY
)


@pytest.fixture(scope="module")
def nodules() -> list[LidcNodule]:
    return read_lidc_nodules()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = replace(SETTINGS, mass_fraction=1.0, vary_scanner=True)
    return make_cohort(settings, tmp_path_factory.mktemp("masses"), quiet=True)


def test_an_enlarged_ball_is_a_larger_ball() -> None:
    axis = np.arange(-14, 15) * 0.5
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    ball = LidcShape((np.sqrt(x**2 + y**2 + z**2) - 3).astype(np.float32))
    assert ball.diameter_mm == pytest.approx(6, rel=0.01)
    large = ball.enlarged(7.3)
    assert large.diameter_mm == pytest.approx(6 * 7.3, rel=0.01)
    middle = tuple(size // 2 for size in large.distance_mm.shape)
    along = large.distance_mm[:, middle[1], middle[2]]
    offsets = (np.arange(len(along)) - middle[0]) * large.spacing_mm
    # The distances are those to the larger surface, away from the kink in the middle.
    far = np.abs(offsets) > 8
    np.testing.assert_allclose(along[far], np.abs(offsets[far]) - 3 * 7.3, atol=0.3)
    # A margin of 4 mm is left, not 7.3 times as much.
    # The ball's own grid reaches 4 mm, 8 steps, beyond it.
    assert 21.9 + 4 <= large.extent_mm[0] <= 21.9 + 4 + 0.5 * 7.3
    assert np.array_equal(ball.enlarged(1.0).distance_mm, ball.distance_mm)
    with pytest.raises(ValueError, match=r"factor must be 1 or more, got 0.5"):
        ball.enlarged(0.5)


def test_diameters_are_log_uniform_and_a_larger_fraction_adds_masses() -> None:
    drawn = [draw_mass(1.0, np.random.default_rng([1, seed])) for seed in range(2000)]
    few = [draw_mass(0.3, np.random.default_rng([1, seed])) for seed in range(2000)]
    assert all(one in (None, other) for one, other in zip(few, drawn, strict=True))
    assert np.mean([one is not None for one in few]) == pytest.approx(0.3, abs=0.03)
    low, high = MASS_DIAMETERS_MM
    assert (low, high) == (30, 75)
    # The median of a log-uniform distribution is the geometric mean of its ends, 47.4 mm.
    assert np.quantile(np.array(drawn, float), [0, 0.5, 1]) == pytest.approx(
        [30, 47.43, 75], rel=0.03
    )
    assert draw_mass(0.0, np.random.default_rng(0)) is None


def test_off_both_options_leave_plans_records_and_scans_as_they_were(
    nodules: list[LidcNodule], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, training=3)
    path = make_cohort(settings, tmp_path, quiet=True)
    record = json.loads(path.read_text())
    assert not {"mass_fraction", "vary_scanner"} & set(record["generator"])
    # Of the code before the options were there.
    items = load_datalist(path, "training")
    boxes = [box for item in items for box in item["boxes"]]
    before = [[76.8, 11.7, -54.2, 6, 6, 6], [-88.4, -2.9, 19.1, 12, 18, 18]]
    np.testing.assert_allclose(boxes, [*before, [-75.5, 11.3, 11.4, 6, 6, 6]], atol=1e-4)
    images = [np.asarray(Nifti1Image.from_filename(item["image"]).dataobj) for item in items]
    means_hu = [float(image.mean()) for image in images]
    np.testing.assert_allclose(means_hu, [-645.10585, -605.78484, -589.64134], atol=1e-3)
    plain = plan_cohort(settings, nodules)
    varied = plan_cohort(replace(settings, mass_fraction=1.0, vary_scanner=True), nodules)
    assert [plan.nodules for plan in plain] == [plan.nodules for plan in varied]
    assert {plan.scanner for plan in plain} == {settings.scanner}
    assert not any(size for plan in plain for size in plan.masses_mm)
    for plan in varied:
        for nodule, size in zip(plan.nodules, plan.masses_mm, strict=True):
            assert (size is not None) == nodule.malignant


def test_masses_are_solid_and_their_boxes_span_their_masks(cohort: Path) -> None:
    sizes = []
    for item in load_datalist(cohort, "training"):
        mask = Nifti1Image.from_filename(item["mask"])
        lungs = np.asarray(Nifti1Image.from_filename(item["lungs"]).dataobj)
        labels = np.asarray(mask.dataobj)
        sides = set()
        for nodule, box in zip(item["nodules"], item["boxes"], strict=True):
            inside = labels == nodule["instance"]
            cells = np.argwhere(inside)
            ends = np.stack([cells.min(axis=0) - 0.5, cells.max(axis=0) + 0.5])
            corners = np.sort(ends @ mask.affine[:3, :3].T + mask.affine[:3, 3], axis=0)
            np.testing.assert_allclose(corners.mean(axis=0), box[:3], atol=1e-3)
            np.testing.assert_allclose(corners[1] - corners[0], box[3:], atol=1e-3)
            assert nodule["malignant"] == ("enlarged" in nodule)
            if not nodule["malignant"]:
                continue
            sides.add(nodule["side"])
            sizes.append(nodule["diameter_mm"])
            assert nodule["enlarged"] > 1
            assert nodule["kind"] == "solid"
            assert nodule["volume_mm3"] == pytest.approx(inside.sum() * 6**3, rel=0.1)
            assert (lungs[inside] == (1 if nodule["side"] == "left" else 2)).mean() > 0.95
        assert item["risk"] == bool(sides)
        assert item["side"] == ("both" if len(sides) == 2 else next(iter(sides), "none"))
    assert len(sizes) >= 4
    assert min(sizes) > 30 * SMALLEST_SHARE ** (1 / 3) - 1
    assert 40 < max(sizes) < 76


def test_each_scan_has_a_scanner_of_its_own(cohort: Path, nodules: list[LidcNodule]) -> None:
    scanners = [item["scanner"] for item in load_datalist(cohort, "training")]
    assert len({scanner["dose"] for scanner in scanners}) == 5
    low = replace(TINY, dose=0.4)
    settings = CohortSettings(training=400, seed=1, scanner=low, vary_scanner=True)
    drawn = [plan.scanner for plan in plan_cohort(settings, nodules) if plan.split == "training"]
    assert {(one.spacing_mm, one.field_of_view_mm) for one in drawn} == {
        (low.spacing_mm, low.field_of_view_mm)
    }
    # 0.4 times 0.25, the geometric mean of 0.25 and 2, and 2.
    doses = np.quantile([one.dose for one in drawn], [0, 0.5, 1])
    np.testing.assert_allclose(doses, [0.1, 0.4 * 0.5**0.5, 0.8], rtol=0.12)
    thicknesses = np.quantile([one.thickness_mm for one in drawn], [0, 0.5, 1])
    np.testing.assert_allclose(thicknesses, [6, 9, 12], rtol=0.04)
    assert np.mean([one.kernel == "lung" for one in drawn]) == pytest.approx(0.5, abs=0.08)


def test_the_same_settings_make_the_same_masses(cohort: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, mass_fraction=1.0, vary_scanner=True)
    again = make_cohort(settings, tmp_path, workers=2, quiet=True)
    for folder in ("images", "masks", "items"):
        for path in (cohort.parent / folder).iterdir():
            assert path.read_bytes() == (tmp_path / folder / path.name).read_bytes()
    assert again.read_bytes() == cohort.read_bytes()


def test_a_mass_shrinks_to_the_room_there_is(nodules: list[LidcNodule]) -> None:
    small = next(nodule for nodule in nodules if nodule.malignant and nodule.diameter_mm < 8)
    own_mm = lidc_shape(small).diameter_mm

    def scan(field_of_view_mm: float, sizes: list[float | None]) -> PhantomScan:
        settings = ScannerSettings(
            spacing_mm=(4, 4, 4), field_of_view_mm=(360, 360, field_of_view_mm)
        )
        chosen = [small] * max(len(sizes), 1)
        return render_scan(chosen, settings, np.random.default_rng(2), masses_mm=sizes)

    full, low = scan(300, [75.0]), scan(48, [75.0])
    assert 68 < full.nodules[0]["diameter_mm"] < 76
    # Slices over 48 mm show all of a smaller mass: it does not reach the first and last.
    assert own_mm + 5 < low.nodules[0]["diameter_mm"] < 60
    assert low.mask.any() and not low.mask[[0, -1]].any()
    # Many masses in one chest get smaller in turn; none is refused.
    many = [nodule["diameter_mm"] for nodule in scan(300, [75.0] * 6).nodules]
    assert len(many) == 6 and max(many) > 65 > 55 > min(many) > 30
    # As large already: nothing to enlarge.
    assert scan(300, [own_mm / 2]).nodules == scan(300, []).nodules


def test_a_mass_of_a_ground_glass_nodule_is_solid(nodules: list[LidcNodule]) -> None:
    glass = next(one for one in nodules if one.malignant and one.ratings["texture"] < 2)
    for size, kind in ((None, "ground-glass"), (45.0, "solid")):
        scan = render_scan([glass], TINY, np.random.default_rng(4), masses_mm=[size])
        assert scan.nodules[0]["kind"] == kind
    # Ground glass lies below -480 HU.
    assert np.median(scan.image_hu[scan.mask == 1]) > -100


@pytest.mark.parametrize("fraction", ["-0.1", "1.5", "nan"])
def test_a_wrong_fraction_is_refused(
    fraction: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path), "--mass-fraction", fraction]) == 1
    assert f"mass_fraction must lie between 0 and 1, got {fraction}" in capsys.readouterr().err
