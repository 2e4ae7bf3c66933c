from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, CopyItemsd, Orientationd, SpatialCropd
from torch import nn
from torch.nn import functional

import handlers.risk_report
from cohorts import ReadableScans, scan_items
from handlers import PrepareTargets, RiskReport, ScanWriter
from networks import RiskCalibration
from transforms import LoadScand

SHAPE = (32, 28, 24)
LESION = (20, 9, 14)
LOGIT = 0.5


class LooksAtTheBrightest(nn.Module):
    """Scores of head 0 are the highest value of each 4-voxel cell, head 1 looks nowhere."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits or (LOGIT,)))

    def forward(self, image: torch.Tensor, with_attention: bool = False):
        assert with_attention
        pool = functional.max_pool3d if image.ndim == 5 else functional.max_pool2d
        brightest = pool(image, 4, ceil_mode=True) / 50
        logits = self.logits.expand(len(image), -1)
        return {"logits": logits, "scores": torch.cat([brightest, 0 * brightest], dim=1)}


def _affine(codes: str, oblique: bool = False) -> np.ndarray:
    affine = np.diag([1.5, 2.0, 2.5, 1.0])
    affine[:3, 3] = -20, 15, -300
    if oblique:
        angle = np.deg2rad(12)
        turn = np.eye(4)
        turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        affine = turn @ affine
    wanted = nib.orientations.axcodes2ornt(codes)
    change = nib.orientations.ornt_transform(nib.io_orientation(np.eye(4)), wanted)
    return affine @ nib.orientations.inv_ornt_aff(change, SHAPE)


def _write_scan(path: Path, affine: np.ndarray | None = None) -> np.ndarray:
    """A scan with one bright voxel; returns where that lies, RAS mm."""
    array = np.full(SHAPE, -1000, np.int16)
    array[:, :4] = 0
    array[LESION] = 1000
    affine = _affine("LAS") if affine is None else affine
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return (affine @ [*LESION, 1])[:3]


READ = Compose(
    [
        LoadScand(keys="image"),
        CopyItemsd(keys="image", names=["scan"]),
        Orientationd(keys="image", axcodes="RAS", labels=None),
    ]
)


def _run(scans, output_dir: Path, network=None, *, transform=READ, guarded=True, **settings):
    dataset = ReadableScans(scan_items(scans), transform)
    checkpoint = settings.get("checkpoint")
    writer = ScanWriter(
        output_dir,
        dataset,
        bundle="lung_ct_cancer_risk",
        checkpoint=checkpoint,
        report=RiskReport(**settings),
    )
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, num_workers=0),
        network=network or LooksAtTheBrightest(),
        prepare_batch=PrepareTargets([]),
        iteration_update=writer.predict if guarded else None,
        val_handlers=[writer],
        decollate=False,
    )
    evaluator.run()
    return writer


def _predictions(output_dir: Path) -> dict:
    return json.loads((output_dir / "predictions.json").read_text())


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize(
    ("codes", "oblique"),
    [("RAS", False), ("LAS", False), ("RPI", False), ("SAR", False), ("LPS", True)],
)
def test_the_peak_is_where_the_lesion_is_in_any_geometry(codes, oblique, guarded, tmp_path):
    scan = tmp_path / "scan.nii.gz"
    affine = _affine(codes, oblique)
    lesion_ras_mm = _write_scan(scan, affine)
    _run(str(scan), tmp_path / "out", guarded=guarded).finish()

    predictions = _predictions(tmp_path / "out")
    assert predictions["failed"] == []
    (entry,) = predictions["scans"]
    assert entry["scan"] == str(scan)
    assert entry["risk"] == pytest.approx(1 / (1 + np.exp(-LOGIT)))
    # A cell is 4 x 4 x 4 voxels of at most 2.5 mm; its centre is at most 1.5 voxels away.
    voxels_off = np.linalg.inv(affine) @ [*entry["peak_ras_mm"], 1] - [*LESION, 1]
    assert np.abs(voxels_off).max() <= 1.5 + 1e-6
    assert np.abs(np.subtract(entry["peak_voxel"], LESION)).max() <= 2
    assert np.linalg.norm(entry["peak_ras_mm"] - lesion_ras_mm) < 1.5 * 2.5 * np.sqrt(3)

    attention = nib.Nifti1Image.from_filename(tmp_path / "out" / entry["attention"])
    assert attention.shape == SHAPE
    np.testing.assert_allclose(attention.affine, affine, atol=1e-4)
    values = attention.get_fdata()
    assert entry["peak_attention"] == pytest.approx(7 * 7 * 8 * 6 / 7, rel=0.01)
    highest = np.argwhere(values > 0.99 * values.max()).mean(axis=0)
    assert np.abs(highest - LESION).max() <= 2
    assert (tmp_path / "out" / entry["overlay"]).read_bytes().startswith(b"\x89PNG")


def test_a_crop_leaves_the_rest_of_the_scan_without_attention(tmp_path):
    scan = tmp_path / "scan.nii.gz"
    _write_scan(scan, _affine("RAS"))
    crop = Compose([READ, SpatialCropd(keys="image", roi_start=(16, 4, 8), roi_end=(32, 20, 24))])
    _run(scan, tmp_path / "out", transform=crop).finish()
    (entry,) = _predictions(tmp_path / "out")["scans"]
    assert np.abs(np.subtract(entry["peak_voxel"], LESION)).max() <= 2
    values = nib.Nifti1Image.from_filename(tmp_path / "out" / entry["attention"]).get_fdata()
    inside = np.zeros(SHAPE, bool)
    inside[16:32, 4:20, 8:24] = True
    assert not values[~inside].any()
    assert values[inside].mean() == pytest.approx(1, rel=0.05)


def test_a_risk_that_is_not_finite_fails_its_scan_and_never_reaches_the_json(tmp_path):
    _write_scan(tmp_path / "a.nii.gz")
    writer = _run(tmp_path / "a.nii.gz", tmp_path / "out", LooksAtTheBrightest(float("nan")))
    with pytest.raises(SystemExit, match=r"a\.nii\.gz: the network's logit must be finite"):
        writer.finish()
    predictions = _predictions(tmp_path / "out")
    assert predictions["scans"] == []
    assert predictions["failed"][0]["error"] == "the network's logit must be finite, got nan"


def test_a_2d_image(tmp_path):
    array = np.zeros((40, 32), np.float32)
    array[30, 9] = 100
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1, 1, 1])), tmp_path / "m.nii.gz")
    read = Compose(
        [LoadScand(keys="image", spatial_dims=2), CopyItemsd(keys="image", names=["scan"])]
    )
    _run(tmp_path / "m.nii.gz", tmp_path / "out", transform=read, window=(0, 100)).finish()
    (entry,) = _predictions(tmp_path / "out")["scans"]
    assert np.abs(np.subtract(entry["peak_voxel"], (30, 9))).max() <= 2
    assert nib.Nifti1Image.from_filename(tmp_path / "out" / entry["attention"]).shape == (40, 32)


CALIBRATION = RiskCalibration(
    slope=2.0,
    intercept=-0.5,
    threshold=0.6,
    target_sensitivity=0.9,
    split="validation",
    datalist="phantoms",
    scans=12,
    positives=6,
    checkpoint_sha256=hashlib.sha256(b"weights").hexdigest(),
    patients_sha256=("ab",),
)


def _calibrated(folder: Path) -> dict[str, Path]:
    """Settings of a writer with a calibration and its weights."""
    checkpoint, calibration = folder / "model.pt", folder / "calibration.json"
    checkpoint.write_bytes(b"weights")
    calibration.write_text(json.dumps(asdict(CALIBRATION)))
    return {"checkpoint": checkpoint, "calibration": calibration}


def _sigmoid(logit: float) -> float:
    return 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize(("logit", "recall"), [(0.5, True), (0.4, False)])
def test_a_calibrated_risk(logit, recall, tmp_path):
    _write_scan(tmp_path / "a.nii.gz")
    network = LooksAtTheBrightest(logit)
    _run(tmp_path / "a.nii.gz", tmp_path / "out", network, **_calibrated(tmp_path)).finish()
    predictions = _predictions(tmp_path / "out")
    assert predictions["calibrated"] is True
    assert predictions["calibration"] == CALIBRATION.description()
    assert "not the probability of cancer of a person; calibrated to" in predictions["risk_meaning"]
    (entry,) = predictions["scans"]
    assert entry["risk"] == pytest.approx(_sigmoid(2 * logit - 0.5))
    assert entry["raw_risk"] == pytest.approx(_sigmoid(logit))
    assert entry["recall"] is recall
    assert "yearly_risk" not in entry


def test_without_a_calibration_the_risk_is_the_raw_one_and_no_one_is_recalled(
    tmp_path, monkeypatch
):
    titles = []
    three_planes = handlers.risk_report.three_planes

    def keep(*args, title, **settings):
        titles.append(title)
        three_planes(*args, title=title, **settings)

    monkeypatch.setattr(handlers.risk_report, "three_planes", keep)
    _write_scan(tmp_path / "a.nii.gz")
    _run(tmp_path / "a.nii.gz", tmp_path / "out", calibration=tmp_path / "none.json").finish()
    predictions = _predictions(tmp_path / "out")
    assert (predictions["calibrated"], predictions["calibration"]) == (False, None)
    assert predictions["risk_meaning"].endswith("not calibrated")
    (entry,) = predictions["scans"]
    assert entry["risk"] == entry["raw_risk"] == pytest.approx(_sigmoid(LOGIT))
    assert "recall" not in entry
    _run(tmp_path / "a.nii.gz", tmp_path / "out", **_calibrated(tmp_path)).finish()
    assert titles == ["a   uncalibrated risk 0.622", "a   risk 0.622"]


@pytest.mark.parametrize("calibrated", [True, False])
def test_yearly_risks_rise_and_the_last_one_counts(calibrated, tmp_path):
    _write_scan(tmp_path / "a.nii.gz")
    settings = _calibrated(tmp_path) if calibrated else {}
    network = LooksAtTheBrightest(-1.0, 0.0, 0.0, 0.8)
    _run(tmp_path / "a.nii.gz", tmp_path / "out", network, **settings).finish()
    (entry,) = _predictions(tmp_path / "out")["scans"]
    slope, intercept = (2, -0.5) if calibrated else (1, 0)
    expected = [_sigmoid(slope * logit + intercept) for logit in (-1.0, 0.0, 0.0, 0.8)]
    assert entry["yearly_risk"] == pytest.approx(expected)
    assert entry["yearly_risk"] == sorted(entry["yearly_risk"])
    assert entry["risk"] == entry["yearly_risk"][-1]
    assert entry.get("recall") is (True if calibrated else None)
    assert entry["raw_risk"] == pytest.approx(_sigmoid(0.8))


def test_a_year_that_is_not_finite_fails_its_scan(tmp_path):
    _write_scan(tmp_path / "a.nii.gz")
    network = LooksAtTheBrightest(float("-inf"), 0.5)
    writer = _run(tmp_path / "a.nii.gz", tmp_path / "out", network, **_calibrated(tmp_path))
    with pytest.raises(SystemExit, match=r"the network's logit must be finite, got -inf"):
        writer.finish()
    assert _predictions(tmp_path / "out")["scans"] == []


def test_a_calibration_of_other_weights_is_refused_before_any_scan_is_read(tmp_path):
    settings = _calibrated(tmp_path)
    settings["checkpoint"].write_bytes(b"other weights")
    read: list[str] = []
    with pytest.raises(ValueError, match=r"must be of the weights it is applied to, got .*model"):
        _run(tmp_path / "a.nii.gz", tmp_path / "out", transform=read.append, **settings)
    assert read == []


@pytest.mark.parametrize("calibrated", [True, False])
def test_the_keys_and_their_order(calibrated, tmp_path):
    _write_scan(tmp_path / "a.nii.gz")
    settings = _calibrated(tmp_path) if calibrated else {}
    _run(tmp_path / "a.nii.gz", tmp_path / "out", **settings).finish()
    predictions = _predictions(tmp_path / "out")
    assert " ".join(predictions) == (
        "bundle checkpoint intended_use calibrated calibration risk_meaning attention_unit "
        "attention_head scans failed"
    )
    (entry,) = predictions["scans"]
    assert " ".join(entry) == (
        f"scan risk raw_risk {'recall ' if calibrated else ''}attention overlay peak_ras_mm "
        "peak_voxel peak_attention seconds"
    )
