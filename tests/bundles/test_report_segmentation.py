from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure

from bundles.report_segmentation import segmentation_section
from cohorts import load_datalist
from metrics import SIZE_CLASSES

BUNDLE = "lung_ct_nodule_segmentation"
METRICS = {
    "dice": 0.7654,
    "dice_low": 0.6,
    "dice_high": 0.9,
    "volume_error_percent": 12.345,
    "false_components_per_scan": 1.25,
}


@pytest.fixture
def run(datalist: Path, tmp_path: Path) -> Path:
    """A run's folder as an evaluation and an inference leave it, the masks shifted by a voxel."""
    folder = tmp_path / "run"
    for name in ("evaluation", "predictions"):
        (folder / name).mkdir(parents=True)
    by_size: dict[str, Any] = {size: {"nodules": 0, "found": 0} for size in SIZE_CLASSES}
    by_size["10_to_15_mm"] = {"nodules": 2, "found": 2, **METRICS, "surface_distance_mm": None}
    evaluation = {"scans": 2, "nodules": 2, "metrics": METRICS, "by_size": by_size}
    (folder / "evaluation" / "evaluation.json").write_text(json.dumps(evaluation))
    for place in ("evaluation/nodules.png", "curves.png"):
        Figure(figsize=(1, 1)).savefig(folder / place)
    scans = []
    for item in load_datalist(datalist, "testing"):
        if not item["boxes"]:
            continue
        name = item["patient_id"]
        mask: Any = nib.load(item["mask"])
        shifted = np.roll(np.asarray(mask.dataobj), 1, axis=0)
        nib.save(nib.Nifti1Image(shifted, mask.affine), folder / "predictions" / f"{name}.nii.gz")
        scans.append({"scan": item["image"], "mask_file": f"{name}.nii.gz", "nodules_in_mask": 3})
    assert scans
    (folder / "predictions" / "predictions.json").write_text(json.dumps({"scans": scans}))
    return folder


def test_the_segmenters_section_has_its_numbers_and_pictures(
    run: Path, datalist: Path, tmp_path: Path
) -> None:
    text = segmentation_section(tmp_path, datalist, run, bundle=BUNDLE)
    assert text.count("data:image/png;base64,") == 3 and "$" not in text
    assert "held-out phantoms" in text and "2 nodules in them" in text
    assert "<td>0.765 [0.600, 0.900]</td>" in text and "<td>12.3</td>" in text
    assert "<td>10 to 15 mm</td><td>2</td>" in text and "under 6 mm" not in text
    assert f"python -m bundles compare {BUNDLE} --overlay demo --datalist" in text


def test_the_slices_have_the_true_and_the_found_outline(
    run: Path, datalist: Path, tmp_path: Path
) -> None:
    segmentation_section(tmp_path, datalist, run, bundle=BUNDLE)
    picture = matplotlib.image.imread(tmp_path / "segmentations.png")
    red, green, blue = np.moveaxis(picture[..., :3], -1, 0)
    true, found = green - np.maximum(red, blue) > 0.3, np.minimum(red, blue) - green > 0.3
    assert true.sum() > 20 and found.sum() > 20
    assert not picture[-20:, -100:, :3].any()  # two scans leave a panel empty
