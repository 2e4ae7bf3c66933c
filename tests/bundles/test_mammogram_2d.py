"""The 2D overlay, from images to predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bundles.bundle_config import bundle_configs
from bundles.run_bundle import run_bundle
from cohorts import load_datalist

BUNDLE = "lung_ct_cancer_risk"
PIXEL_MM = 0.8
CELL_MM = 4 * 1.6  # a feature cell of the small network below


@pytest.fixture(scope="module")
def run_dir(mammograms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, evaluation and predictions; each workflow runs once."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    small = {
        "spacing_mm": [1.6, 1.6],
        "crop_shape": [96, 128],
        "network_def::channels": [4, 4, 8, 8],
        "max_epochs": 4,
        "batch_size": 2,
        "learning_rate": 0.01,
        "cache_workers": 0,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder.parent}/mlflow.db")
        overrides = {**_places(mammograms, folder), **small}
        run_bundle(BUNDLE, "train", overlays=["mammogram_2d"], overrides=overrides)
    run_bundle(
        BUNDLE,
        "evaluate",
        overlays=[folder / "trained.yaml"],
        overrides=_places(mammograms, folder),
    )
    _predict(mammograms, folder, [item["image"] for item in load_datalist(mammograms, "testing")])
    return folder


def test_boxes_teach_the_attention_and_the_side_teaches_nothing(run_dir: Path) -> None:
    history = json.loads((run_dir / "history.json").read_text())
    assert len(history) == 4
    box_loss = [row["training"]["box_loss"] for row in history]
    assert box_loss[-1] < 0.8 * box_loss[0]
    assert all(row["validation"]["side_loss"] == 0 for row in history)
    assert len(list((run_dir / "pictures").glob("*.png"))) == 2


def test_the_evaluation_judges_every_image(run_dir: Path) -> None:
    report = json.loads((run_dir / "evaluation" / "evaluation.json").read_text())
    assert (report["scans"], report["positives"], report["lost_boxes"]) == (6, 3, 0)
    assert (report["synthetic"], report["failed"]) == (True, [])
    metrics = report["metrics"]
    assert metrics["lesion_scans"] == 3
    assert 0 < metrics["attention_mass"] < 1
    assert 0 <= metrics["auroc"] <= 1
    # One breast has no other side to be told from.
    assert "side_accuracy" not in metrics


def test_predictions_lie_on_the_image_that_was_read(run_dir: Path, mammograms: Path) -> None:
    report = json.loads((run_dir / "predictions" / "predictions.json").read_text())
    assert (len(report["scans"]), report["failed"]) == (6, [])
    for scan in report["scans"]:
        assert 0 < scan["risk"] < 1
        source, attention = (
            _image(path) for path in (scan["scan"], run_dir / "predictions" / scan["attention"])
        )
        assert attention.shape == source.shape == (192, 256)
        np.testing.assert_allclose(attention.affine, source.affine)
        values = attention.get_fdata()
        highest = np.argwhere(values == values.max()).mean(axis=0)
        assert np.abs(highest - scan["peak_voxel"]).max() <= CELL_MM / PIXEL_MM
        np.testing.assert_allclose(
            source.affine[:2, :2] @ scan["peak_voxel"], scan["peak_ras_mm"], atol=PIXEL_MM
        )
        assert (run_dir / "predictions" / scan["overlay"]).stat().st_size > 10_000


def test_an_image_stored_turned_has_the_same_risk_and_peak(
    run_dir: Path, mammograms: Path, tmp_path: Path
) -> None:
    source = _image(load_datalist(mammograms, "testing")[0]["image"])
    pixels, affine = np.asarray(source.dataobj), source.affine
    mirrored = affine @ np.diag([-1.0, 1, 1, 1])
    mirrored[:2, 3] = affine[:2, :2] @ [pixels.shape[0] - 1, 0] + affine[:2, 3]
    swapped = affine[:, [1, 0, 2, 3]]
    turned = {"as_it_is": (pixels, affine), "mirrored": (pixels[::-1], mirrored)}
    turned["swapped"] = (pixels.T, swapped)
    for name, (array, place) in turned.items():
        nib.save(nib.Nifti1Image(array, place), tmp_path / f"{name}.nii.gz")
    _predict(mammograms, run_dir, [str(tmp_path)], output_dir=str(tmp_path / "results"))
    report = json.loads((tmp_path / "results" / "predictions.json").read_text())
    assert len(report["scans"]) == 3
    first, *others = report["scans"]
    for other in others:
        assert other["risk"] == pytest.approx(first["risk"], abs=1e-5)
        np.testing.assert_allclose(other["peak_ras_mm"], first["peak_ras_mm"], atol=1e-2)


def test_a_volume_is_refused_in_one_sentence(
    run_dir: Path, mammograms: Path, tmp_path: Path
) -> None:
    volume = tmp_path / "volume.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4)), volume)
    with pytest.raises(SystemExit, match="1 of 1 scan"):
        _predict(mammograms, run_dir, [str(volume)], output_dir=str(tmp_path / "results"))
    report = json.loads((tmp_path / "results" / "predictions.json").read_text())
    (failed,) = report["failed"]
    assert "the image must have 2 dimensions, got shape (8, 8, 8)" in failed["error"]


def _places(datalist: Path, run_dir: Path) -> dict[str, Any]:
    return {
        "bundle_root": str(bundle_configs(BUNDLE).parent),
        "run_dir": str(run_dir),
        "data_list": str(datalist),
    }


def _predict(datalist: Path, run_dir: Path, scans: list[str], **overrides: str) -> None:
    run_bundle(
        BUNDLE,
        "inference",
        overlays=[run_dir / "trained.yaml"],
        overrides={**_places(datalist, run_dir), "scans": scans, **overrides},
    )


def _image(path: str | Path) -> nib.Nifti1Image:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image
