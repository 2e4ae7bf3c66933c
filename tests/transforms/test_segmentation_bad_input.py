"""Scans and masks that break a rule, through the transforms that a segmenter reads them with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, SpatialPadd

from transforms import (
    CheckBoxesd,
    CheckGeometryd,
    CheckMaskd,
    CropAroundBoxd,
    CropToLungsd,
    EmptyMaskd,
    KeepAffined,
    LoadMaskd,
    LoadScand,
    ResampleMaskd,
    ScanError,
)

SHAPE, SPACING_MM = (20, 16, 12), (4.0, 4.0, 5.0)
AFFINE = np.diag([*SPACING_MM, 1.0])
BOX = [24.0, 24.0, 25.0, 8.0, 8.0, 10.0]  # mm: voxels 5 and 6, 5 and 6, 4 and 5
PATCH = (24, 16, 8)  # one axis longer than the scan

read = Compose(
    [
        LoadScand("image"),
        LoadMaskd("mask", allow_missing_keys=True),
        EmptyMaskd(),
        CheckGeometryd("mask", "image"),
        CheckMaskd(),
        CheckBoxesd(),
    ]
)
prepare = Compose(
    [
        CropToLungsd("image", margin_mm=5),
        SpatialPadd("image", PATCH, method="end"),
        ResampleMaskd(),
        CropAroundBoxd(("image", "mask"), PATCH, 1.0),
        KeepAffined("mask"),
    ]
)


def _save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nib.save(nib.Nifti1Image(array, affine), path)
    return str(path)


def _hu() -> np.ndarray:
    hu = np.full(SHAPE, 40, np.int16)
    hu[3:9, 3:13, 2:10] = hu[11:17, 3:13, 2:10] = -850
    hu[5:7, 5:7, 4:6] = 30
    return hu


def _mask() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:7, 5:7, 4:6] = 1
    return mask


@pytest.fixture
def item(tmp_path: Path) -> dict[str, Any]:
    return {
        "image": _save(tmp_path / "scan.nii.gz", _hu()),
        "mask": _save(tmp_path / "mask.nii.gz", _mask()),
        "boxes": [BOX],
        "box_labels": [1],
        "nodules": [{"instance": 1, "malignant": True}],
    }


def _refused(item: dict[str, Any]) -> str:
    """The one sentence with which an item is refused."""
    with pytest.raises(Exception) as caught:
        prepare(read(item))
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, ScanError):  # Compose wraps it
        error = error.__cause__
    sentence = str(error)
    assert isinstance(error, ScanError) and "\n" not in sentence
    return sentence


def test_a_good_scan_passes_though_it_is_smaller_than_a_patch(item: dict[str, Any]) -> None:
    sample = prepare(read(item))
    assert sample["image"].shape == sample["mask"].shape == (1, *PATCH)
    assert int(sample["mask"].sum()) == 8
    assert sample["image"].as_tensor()[sample["mask"].as_tensor() == 1].unique().tolist() == [30]
    assert torch.equal(sample["mask_affine"], sample["image"].affine)


def test_a_patch_smaller_than_promised_is_refused(item: dict[str, Any]) -> None:
    with pytest.raises(ScanError, match=r"scan\.nii\.gz: .* a patch of \[24, 16, 8\] voxels, got"):
        CropAroundBoxd(("image", "mask"), PATCH, 1.0)(read(item))


@pytest.mark.parametrize("with_mask", [True, False])
def test_a_scan_without_a_nodule_passes(
    with_mask: bool, item: dict[str, Any], tmp_path: Path
) -> None:
    item |= {"boxes": [], "box_labels": [], "nodules": []}
    item["mask"] = _save(tmp_path / "mask.nii.gz", 0 * _mask())
    if not with_mask:
        del item["mask"]
    sample = prepare(read(item))
    assert sample["mask"].shape == (1, *PATCH) and not sample["mask"].any()
    assert sample["mask_affine"].shape == (4, 4)


def test_a_scan_without_lungs_is_kept_whole_with_a_warning(
    item: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hu = np.full(SHAPE, 40, np.int16)
    hu[:, 0] = -1000  # the air before the body
    hu[5:7, 5:7, 4:6] = 30
    item["image"] = _save(tmp_path / "scan.nii.gz", hu)
    with caplog.at_level(logging.WARNING):
        sample = prepare(read(item))
    assert int(sample["mask"].sum()) == 8
    (warning,) = caplog.messages
    assert warning == f"{item['image']}: no lungs found, the whole scan is kept"


@pytest.mark.parametrize(
    ("mask", "affine", "sentence"),
    [
        (_mask()[:, :, :11], AFFINE, "the shape must be that of {image}, got (20, 16, 11) and"),
        (
            _mask(),
            np.diag([4.0, 4, 4, 1]),
            "the affine must be that of {image}, got corners 11.000",
        ),
        (7 * _mask(), AFFINE, "0 and the instances 1 that the datalist lists, got 0, 7"),
        (0 * _mask(), AFFINE, "0 and the instances 1 that the datalist lists, got 0"),
        (-1.0 * _mask(), AFFINE, "labels must be whole numbers within 0 and 32767, got values fr"),
        (0.5 * _mask(), AFFINE, "whole numbers within 0 and 32767, got values from 0 to 0.5"),
        (_mask()[:, :, 0], AFFINE, "the image must have 3 dimensions, got shape (20, 16)"),
    ],
    ids=["shape", "affine", "label", "empty", "negative", "fraction", "flat"],
)
def test_a_bad_mask_is_refused_by_name_rule_and_value(
    mask: np.ndarray, affine: np.ndarray, sentence: str, item: dict[str, Any], tmp_path: Path
) -> None:
    item["mask"] = _save(tmp_path / "mask.nii.gz", mask, affine)
    refused = _refused(item)
    assert refused.startswith(f"{item['mask']}: ") and sentence.format(**item) in refused


def test_nodules_without_a_mask_are_refused(item: dict[str, Any]) -> None:
    del item["mask"]
    assert _refused(item) == (
        f"{item['image']}: a scan with nodules must have a mask in the datalist, "
        f"got 1 boxes and no mask"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda hu: np.interp(hu, (-850, 40), (0, 255)).astype(np.uint8), "from 0 to 255"),
        (lambda hu: (hu + 1024).astype(np.int16), "tissue above it, got values from 174 to 1064"),
        (lambda hu: np.where(hu == 30, np.nan, hu), "all values must be finite, got 8 NaN"),
        (lambda hu: hu * 100.0, "HU must lie within -32768 and 32767, got -85000 to 4000"),
    ],
    ids=["0 to 255", "above 0", "nan", "beyond"],
)
def test_values_that_are_not_hu_are_refused(
    change: Any, sentence: str, item: dict[str, Any], tmp_path: Path
) -> None:
    item["image"] = _save(tmp_path / "scan.nii.gz", change(_hu()))
    refused = _refused(item)
    assert refused.startswith(f"{item['image']}: ") and sentence in refused


@pytest.mark.parametrize("key", ["image", "mask"])
@pytest.mark.parametrize("spacing_mm", [0.0, np.nan])
def test_spacing_of_zero_or_nan_is_refused(
    spacing_mm: float, key: str, item: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "bad.nii"
    _save(path, _hu() if key == "image" else _mask())
    content = bytearray(path.read_bytes())
    # pixdim[3], and the z of the sform's third row, as in a header that lacks the slice distance.
    for place in (76 + 12, 280 + 32 + 8):
        content[place : place + 4] = np.float32(spacing_mm).tobytes()
    path.write_bytes(content)
    refused = _refused({**item, key: str(path)})
    shown = "nan" if np.isnan(spacing_mm) else "0"
    assert refused == f"{path}: spacing must be above zero and finite, got 4 x 4 x {shown} mm"
