from __future__ import annotations

import filecmp
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from cohorts import MammogramSettings, load_datalist, make_mammograms, read_datalist
from cohorts.mammogram_image import PIXEL_MM, MassShape, render_mammogram
from cohorts.mammogram_phantom import main
from transforms import boxes_to_mask, load_mask, load_scan

SETTINGS = MammogramSettings(training=16, validation=4, testing=8, seed=1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mammograms(SETTINGS, tmp_path_factory.mktemp("mammograms"))


def images(cohort: Path) -> list[dict[str, Any]]:
    return [
        item
        for split in ("training", "validation", "testing")
        for item in load_datalist(cohort, split)
    ]


def test_the_datalist_says_what_it_holds(cohort: Path) -> None:
    datalist = read_datalist(cohort)
    assert datalist["synthetic"] is True
    assert (datalist["box_mode"], datalist["box_unit"]) == ("ccwh", "mm")
    assert [len(datalist[split]) for split in ("training", "validation", "testing")] == [16, 4, 8]
    items = images(cohort)
    assert len({item["patient_id"] for item in items}) == 28
    assert sum(item["risk"] for item in items) == 14
    for item in items:
        assert item["risk"] == int(1 in item["box_labels"])
        assert item["side"] == (item["laterality"] if item["risk"] else "none")
    # A mass alone is no sign, and both breasts and images without any mass are there.
    benign = [item["risk"] for item in items if 0 in item["box_labels"]]
    assert set(benign) == {0, 1}
    assert any(not item["boxes"] for item in items)
    assert {item["side"] for item in items} == {"left", "right", "none"}


def test_boxes_are_the_extent_of_the_masks(cohort: Path) -> None:
    for item in images(cohort):
        mask = load_mask(item["mask"], spatial_dims=2)
        assert int(mask.max()) == len(item["boxes"])
        for instance, box in enumerate(item["boxes"], start=1):
            voxels = np.nonzero(mask[0].numpy() == instance)
            extent = np.zeros(mask.shape[1:], bool)
            extent[tuple(slice(axis.min(), axis.max() + 1) for axis in voxels)] = True
            assert np.array_equal(boxes_to_mask([box], mask)[0].numpy() > 0, extent)


def test_the_chest_wall_tells_the_side_and_air_is_dark(cohort: Path) -> None:
    for item in images(cohort):
        image = load_scan(item["image"], spatial_dims=2)[0].numpy()
        assert image.shape == (192, 256)
        assert image.min() >= 0 and image.max() <= 4095
        columns = image.mean(axis=1)
        assert (columns[:10].mean() > columns[-10:].mean()) == (item["laterality"] == "left")
        assert np.median(image[image < 400]) == pytest.approx(80, abs=10)


@pytest.mark.parametrize("laterality", ["left", "right"])
def test_masses_are_brighter_and_only_malignant_ones_have_spicules(laterality: str) -> None:
    spicules = {}
    for malignant in (False, True):
        shape = MassShape(radius_mm=7.0, malignant=malignant)
        phantom = render_mammogram([shape], laterality, np.random.default_rng(3))
        inside = phantom.mask == 1
        rim = ndimage.binary_dilation(inside, iterations=8) & ~ndimage.binary_dilation(inside)
        assert phantom.image_counts[inside].mean() > phantom.image_counts[rim].mean() + 200
        # Edge pixels over the circumference of a disc of this area: the more, the more ragged.
        edge = (inside & ~ndimage.binary_erosion(inside)).sum()
        spicules[malignant] = edge / np.sqrt(4 * np.pi * inside.sum())
        across_mm = PIXEL_MM * (np.nonzero(inside)[0].max() - np.nonzero(inside)[0].min() + 1)
        assert 12 < across_mm < (34 if malignant else 19)
    assert spicules[False] < 1.1
    assert spicules[True] > 1.5


def test_no_mass_gives_an_empty_mask() -> None:
    phantom = render_mammogram([], "right", np.random.default_rng(0))
    assert not phantom.mask.any()
    assert phantom.boxes_mm == []
    assert phantom.masses == []


def test_equal_settings_make_equal_bytes_and_another_seed_others(
    cohort: Path, tmp_path: Path
) -> None:
    again = make_mammograms(SETTINGS, tmp_path).parent
    names = [str(path.relative_to(again)) for path in again.rglob("*") if path.is_file()]
    assert len(names) == 57
    assert filecmp.cmpfiles(again, cohort.parent, names, shallow=False)[0] == names
    other = make_mammograms(MammogramSettings(1, 0, 0, seed=2), tmp_path / "other").parent
    name = "images/mammogram-000000.nii.gz"
    assert not filecmp.cmp(again / name, other / name, shallow=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train", "-1"], "numbers of images must be 0 or more and not all 0, got [-1, 20, 40]"),
        (["--seed", "-1"], "seed must be 0 or more, got -1"),
    ],
)
def test_command_line_errors_are_one_sentence(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path), *options]) == 1
    assert capsys.readouterr().err.strip().endswith(message)


def test_the_command_prints_the_datalist_and_names_a_folder_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = ["--train", "1", "--validation", "0", "--test", "0"]
    assert main(["--output", str(tmp_path / "cohort"), *counts]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    (tmp_path / "file").write_text("in the way")
    output = os.fspath(tmp_path / "file" / "cohort")
    assert main(["--output", output, *counts]) == 1
    assert f"{output} must be a folder that can be written" in capsys.readouterr().err


def test_a_breast_is_left_or_right() -> None:
    with pytest.raises(ValueError, match="laterality must be left or right, got 'both'"):
        render_mammogram([], "both", np.random.default_rng(0))


def test_a_mass_must_have_room() -> None:
    with pytest.raises(ValueError, match="radius_mm must leave room in the breast, got 90"):
        render_mammogram([MassShape(90.0, malignant=True)], "left", np.random.default_rng(0))
