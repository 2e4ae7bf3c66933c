from __future__ import annotations

import csv
import errno
import itertools
import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers.inferer import Inferer
from monai.transforms import Compose, CopyItemsd, Orientationd
from torch import nn

import handlers.measured_nodules
import handlers.segmentation_report
from cohorts import ReadableScans, scan_items
from handlers import PrepareTargets, ScanWriter, SegmentationReport
from transforms import LoadScand

SHAPE = (40, 36, 24)
SPACING_MM = np.array([1.0, 1.25, 2.0])
# To RAS mm; the image, whose axes run to right, front and head, is the scan flipped along H.
AFFINE = np.diag([-1.0, 1.25, 2.0, 1.0])
AFFINE[:3, 3] = 20, -30, -40
IMAGE_AFFINE = np.diag([1.0, 1.25, 2.0, 1.0])
IMAGE_AFFINE[:3, 3] = -19, -30, -40
LARGE, SMALL = ((0.0, -8.0, -16.0), 7.0), ((-11.0, 8.0, -6.0), 4.5)  # centre RAS, radius, mm
MEASURED = ("weighted_mm3", "nodule_hu", "lung_hu", "longest_mm", "perpendicular_mm", "mass_mg")


class Finds(Inferer):
    """Gives logits whatever the scan, on the grid of the network's input."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def __call__(self, inputs, network, *args, **kwargs):
        affine = inputs.affine.reshape(-1, *inputs.affine.shape[-2:])[0]
        return {"logits": self.logits[None], "affine": affine.double()}


def _depth_mm(shape, affine, *spheres) -> np.ndarray:
    """How deep each voxel's centre lies in the spheres, in mm."""
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    depth = [radius - np.linalg.norm(world - centre, axis=-1) for centre, radius in spheres]
    return np.max([np.full(shape, -5.0), *depth], axis=0)


def _logits(*spheres) -> torch.Tensor:
    return torch.tensor(_depth_mm(SHAPE, IMAGE_AFFINE, *spheres), dtype=torch.float32)[None]


def _scan(*spheres) -> nib.Nifti1Image:
    """Lung of -850 HU with spheres of 20 HU, blurred by a voxel or so."""
    filled = np.clip(_depth_mm(SHAPE, AFFINE, *spheres) + 0.5, 0, 1)
    noise = np.random.default_rng(0).normal(0, 10, SHAPE)
    return nib.Nifti1Image((-850 + 870 * filled + noise).astype(np.int16), AFFINE)


def _write_scan(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(_scan(LARGE, SMALL), path)


def _read(rank: int) -> Compose:
    return Compose(
        [
            LoadScand(keys="image", spatial_dims=rank),
            CopyItemsd(keys="image", names=["scan"]),
            *([Orientationd(keys="image", axcodes="RAS", labels=None)] if rank == 3 else []),
        ]
    )


def _run(scans, output_dir: Path, logits: torch.Tensor, **settings) -> ScanWriter:
    dataset = ReadableScans(scan_items(scans), _read(logits.ndim - 1))
    report = SegmentationReport(**settings)
    writer = ScanWriter(output_dir, dataset, bundle="lung_ct_nodule_segmentation", report=report)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, num_workers=0),
        network=nn.Identity(),
        inferer=Finds(logits),
        prepare_batch=PrepareTargets([], with_attention=False),
        iteration_update=writer.predict,
        val_handlers=[writer],
        decollate=False,
    )
    evaluator.run()
    return writer


def _json(path: Path) -> dict:
    return json.loads(path.read_text())


def _nifti(path: Path) -> Any:
    return nib.load(path)


def _entry(out: Path) -> dict:
    (entry,) = _json(out / "predictions.json")["scans"]
    return entry


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "nodules.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty pictures, which take no time."""
    monkeypatch.setattr(
        handlers.segmentation_report, "three_planes", lambda scan, point, path, **_: path.touch()
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    _write_scan(folder / "ct.nii.gz")
    _run(folder / "ct.nii.gz", folder / "out", _logits(LARGE, SMALL)).finish()
    return folder / "out"


def test_what_is_written_of_a_scan(written):
    assert _files(written) == [
        "ct_nodule_01.png",
        "ct_nodule_02.png",
        "ct_nodules.json",
        "ct_nodules.nii.gz",
        "nodules.csv",
        "predictions.json",
    ]
    predictions, entry = _json(written / "predictions.json"), _entry(written)
    assert entry["summary"] == "2 nodules"
    assert entry["spacing_mm"] == SPACING_MM.tolist()
    assert entry["nodules_in_mask"] == 2
    for nodule in entry["nodules"]:
        assert list(nodule) == list(predictions["nodule_keys"])
    assert [nodule["picture"] for nodule in entry["nodules"]] == _files(written)[:2]


def test_the_spheres_are_measured(written):
    nodules = _entry(written)["nodules"]
    for nodule, (centre_mm, radius_mm) in zip(nodules, (LARGE, SMALL), strict=True):
        volume_mm3 = 4 / 3 * math.pi * radius_mm**3
        assert nodule["centre_ras_mm"] == pytest.approx(centre_mm, abs=0.3)
        x, y, z = nodule["centre_ras_mm"]
        assert nodule["centre_lps_mm"] == [-x, -y, z]
        assert nodule["voxel_count_mm3"] == pytest.approx(volume_mm3, rel=0.06)
        assert nodule["weighted_mm3"] == pytest.approx(volume_mm3, rel=0.05)
        assert nodule["diameter_mm"] == pytest.approx(2 * radius_mm, rel=0.02)
        assert nodule["longest_mm"] == pytest.approx(2 * radius_mm, abs=1.5)
        assert nodule["lung_hu"] == pytest.approx(-850, abs=5)
        assert nodule["nodule_hu"] == pytest.approx(20, abs=40)
    assert [nodule["size_class"] for nodule in nodules] == ["10_to_15_mm", "8_to_10_mm"]


def test_the_mask_is_on_the_scans_own_grid(written):
    scan = _nifti(written.parent / "ct.nii.gz")
    mask = _nifti(written / "ct_nodules.nii.gz")
    labels = np.asarray(mask.dataobj)
    expected = np.select(
        [_depth_mm(SHAPE, AFFINE, sphere) > 0 for sphere in (LARGE, SMALL)], [1, 2]
    )
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(mask.affine, scan.affine)
    for frame in (mask.header.get_sform(coded=True), mask.header.get_qform(coded=True)):
        np.testing.assert_allclose(frame[0], scan.affine, atol=1e-6)
        assert frame[1] == 1
    for nodule in _entry(written)["nodules"]:
        low, high = np.reshape(nodule["box_voxel"], (2, 3))
        voxels = np.argwhere(labels == nodule["number"])
        assert (low == voxels.min(axis=0)).all() and (high == voxels.max(axis=0) + 1).all()


def test_the_measurements_of_a_scan_can_be_read_by_themselves(written):
    predictions, alone = _json(written / "predictions.json"), _json(written / "ct_nodules.json")
    for key in ("bundle", "checkpoint", "intended_use", "frame", "nodule_keys"):
        assert alone[key] == predictions[key]
    for key, value in _entry(written).items():
        if key != "seconds":
            assert alone[key] == value


def test_the_table_has_a_row_for_each_nodule(written):
    rows = _rows(written)
    for row, nodule in zip(rows, _entry(written)["nodules"], strict=True):
        assert (row["name"], int(row["number"])) == ("ct", nodule["number"])
        assert [float(row[f"coord{axis}"]) for axis in "XYZ"] == nodule["centre_lps_mm"]
        assert row["size_class"] == nodule["size_class"]
        for key in MEASURED:
            assert float(row[key]) == nodule[key]


def test_the_picture_has_the_outline_and_the_diameters(tmp_path, monkeypatch):
    shown, three_planes = [], handlers.segmentation_report.three_planes

    def keep(scan, point, path, *, title, **settings):
        shown.append((tuple(point), title))
        three_planes(scan, point, path, title=title, **settings)

    monkeypatch.setattr(handlers.segmentation_report, "three_planes", keep)
    _write_scan(tmp_path / "ct.nii.gz")
    _run(tmp_path / "ct.nii.gz", tmp_path / "out", _logits(LARGE)).finish()
    (nodule,) = _entry(tmp_path / "out")["nodules"]
    # Of LARGE: x = 20 - h, y = -30 + 1.25 w, z = -40 + 2 d.
    ((point, title),) = shown
    assert np.abs(np.array(point) - [20, 17.6, 12]).max() <= 1
    assert title == (
        f"ct   nodule 1 of 1   longest {nodule['longest_mm']:.1f} mm, perpendicular "
        f"{nodule['perpendicular_mm']:.1f} mm   volume {nodule['weighted_mm3']:.0f} mm\u00b3"
    )
    picture = imread(tmp_path / "out" / "ct_nodule_01.png")
    magenta = np.minimum(picture[..., 0], picture[..., 2]) - picture[..., 1] > 0.3
    assert magenta.sum() > 500


def test_a_scan_without_a_nodule_has_an_empty_mask(tmp_path):
    out = tmp_path / "out"
    _write_scan(tmp_path / "ct.nii.gz")
    speck = ((0.0, -7.5, -16.0), 1.2)
    _run(tmp_path / "ct.nii.gz", out, _logits(speck)).finish()
    assert _files(out) == [
        "ct_nodules.json",
        "ct_nodules.nii.gz",
        "nodules.csv",
        "predictions.json",
    ]
    assert (_entry(out)["nodules"], _entry(out)["summary"]) == ([], "no nodules")
    assert _json(out / "ct_nodules.json")["nodules"] == []
    mask = _nifti(out / "ct_nodules.nii.gz")
    assert mask.shape == SHAPE and mask.get_data_dtype() == np.uint8
    assert not np.asarray(mask.dataobj).any()
    assert _rows(out) == []


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_every_orientation_of_the_scan_gives_the_same(order, written, tmp_path):
    """All 48 by six orders and eight flips; the network's input is turned to RAS either way."""
    expected = np.asarray(_nifti(written / "ct_nodules.nii.gz").dataobj)
    known = _entry(written)["nodules"]
    scan = _nifti(written.parent / "ct.nii.gz")
    logits = _logits(LARGE, SMALL)
    for flips in itertools.product((1, -1), repeat=3):
        turn = np.column_stack([order, flips])
        turned = scan.as_reoriented(turn)
        report = SegmentationReport(max_pictures=0)
        report.start({})
        array = torch.from_numpy(np.asarray(turned.dataobj, np.float32).copy())[None]
        entry, *_ = report(
            {"logits": logits[None], "affine": torch.as_tensor(IMAGE_AFFINE)},
            image=MetaTensor(logits),
            scan=MetaTensor(array, torch.as_tensor(turned.affine)),
            name="x",
            folder=tmp_path,
        )
        mask = _nifti(tmp_path / "x_nodules.nii.gz")
        assert mask.shape == turned.shape
        np.testing.assert_array_equal(mask.affine, turned.affine)
        back = nib.orientations.ornt_transform(
            nib.io_orientation(mask.affine), nib.io_orientation(scan.affine)
        )
        np.testing.assert_array_equal(np.asarray(mask.as_reoriented(back).dataobj), expected)
        for nodule, other in zip(entry["nodules"], known, strict=True):
            assert nodule["size_class"] == other["size_class"]
            for key in ("centre_ras_mm", "voxel_count_mm3", "diameter_mm", *MEASURED):
                assert nodule[key] == pytest.approx(other[key], rel=1e-3, abs=2e-3)


def test_only_the_largest_have_pictures(tmp_path, quick):
    _write_scan(tmp_path / "ct.nii.gz")
    _run(tmp_path / "ct.nii.gz", tmp_path / "out", _logits(LARGE, SMALL), max_pictures=1).finish()
    entry = _entry(tmp_path / "out")
    assert [nodule["picture"] for nodule in entry["nodules"]] == ["ct_nodule_01.png", None]
    assert entry["summary"] == "2 nodules, 1 of them with a picture"


def test_files_of_an_earlier_run_do_not_stay(tmp_path, quick):
    out = tmp_path / "out"
    for name in ("ct", "ct_b"):
        _write_scan(tmp_path / f"{name}.nii.gz")
    _run([tmp_path / "ct.nii.gz", tmp_path / "ct_b.nii.gz"], out, _logits(LARGE, SMALL))
    kept = ["ct_nodule_one.png", "xct_nodules.nii.gz", "ct_nodule_01_nodule_01.png"]
    for name in kept:
        (out / name).touch()
    _run(tmp_path / "ct.nii.gz", out, _logits(LARGE))
    names = ["nodule_01.png", "nodules.json", "nodules.nii.gz"]
    of_the_other = [f"ct_b_{name}" for name in (*names, "nodule_02.png")]
    now = [*(f"ct_{name}" for name in names), "nodules.csv", "predictions.json"]
    assert _files(out) == sorted([*kept, *of_the_other, *now])
    assert [row["name"] for row in _rows(out)] == ["ct"]


@pytest.mark.parametrize("broken", ["three_planes", "write_nifti", "write_json"])
def test_a_scan_that_fails_leaves_no_file_and_no_row(broken, tmp_path, monkeypatch, quick):
    works, calls = getattr(handlers.segmentation_report, broken), []

    def full_disk_at_last(*args, **settings):
        calls.append(args)
        # Each scan has one picture.
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        works(*args, **settings)

    for name in ("a", "b", "c"):
        _write_scan(tmp_path / "in" / f"{name}.nii.gz")
    out = tmp_path / "out"
    monkeypatch.setattr(handlers.segmentation_report, broken, full_disk_at_last)
    writer = _run(tmp_path / "in", out, _logits(LARGE))
    with pytest.raises(SystemExit, match="1 of 3 scans failed"):
        writer.finish()
    assert [entry["name"] for entry in _json(out / "predictions.json")["scans"]] == ["a", "c"]
    assert not [name for name in _files(out) if name.startswith(("b_", ".partial"))]
    assert [row["name"] for row in _rows(out)] == ["a", "c"]


def test_logits_that_are_not_finite_fail_their_scan(tmp_path):
    _write_scan(tmp_path / "a.nii.gz")
    writer = _run(tmp_path / "a.nii.gz", tmp_path / "out", torch.full((1, *SHAPE), torch.nan))
    with pytest.raises(SystemExit, match=r"a\.nii\.gz: logits must be finite, got"):
        writer.finish()
    assert _files(tmp_path / "out") == ["nodules.csv", "predictions.json"]


def test_a_network_that_marks_everything_is_not_measured_at_length(tmp_path, monkeypatch, quick):
    """A large component is in the mask without numbers; so are those past the largest few."""
    monkeypatch.setattr(handlers.measured_nodules, "LARGEST_MM3", 13**3)
    monkeypatch.setattr(handlers.measured_nodules, "MOST_MEASURED", 1)
    _write_scan(tmp_path / "ct.nii.gz")
    third = ((12.0, 8.0, -6.0), 3.0)
    logits = _logits(LARGE, SMALL, third)
    _run(tmp_path / "ct.nii.gz", tmp_path / "out", logits, max_pictures=3).finish()
    entry = _entry(tmp_path / "out")
    assert entry["nodules_in_mask"] == 3
    assert entry["summary"] == "3 nodules, 1 of them measured"
    (nodule,) = entry["nodules"]
    assert (nodule["number"], nodule["picture"]) == (2, "ct_nodule_02.png")
    labels = np.asarray(_nifti(tmp_path / "out" / "ct_nodules.nii.gz").dataobj)
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    assert nodule["voxel_count_mm3"] == (labels == 2).sum() * SPACING_MM.prod()
    assert (tmp_path / "out" / nodule["picture"]).exists()


def test_more_nodules_than_uint8_has_labels(tmp_path):
    scan = torch.full((1, 60, 60, 60), -850.0)
    scan[0, 1::6, 1::6, 1::6] = 0
    logits = torch.full_like(scan, -1.0)
    for h, w, d in itertools.product(range(3), repeat=3):
        logits[0, h::6, w::6, d::6] = 1
    report = SegmentationReport(max_pictures=0)
    report.start({})
    entry, *_ = report(
        {"logits": logits[None], "affine": torch.eye(4)},
        image=MetaTensor(logits),
        scan=MetaTensor(scan),
        name="x",
        folder=tmp_path,
    )
    assert entry["summary"] == "1000 nodules, 100 of them measured, 0 of them with a picture"
    mask = _nifti(tmp_path / "x_nodules.nii.gz")
    assert mask.get_data_dtype() == np.uint16
    assert np.unique(np.asarray(mask.dataobj)).tolist() == list(range(1001))
    assert [nodule["number"] for nodule in entry["nodules"]] == list(range(1, 101))


def test_a_nodule_of_any_class_counts(tmp_path):
    _write_scan(tmp_path / "ct.nii.gz")
    logits = torch.cat([_logits(LARGE), _logits(SMALL)])
    _run(tmp_path / "ct.nii.gz", tmp_path / "out", logits, max_pictures=0).finish()
    assert _entry(tmp_path / "out")["nodules_in_mask"] == 2


def test_a_2d_image_has_areas_without_volumes(tmp_path):
    array = np.random.default_rng(0).random((50, 40), np.float32)
    affine = np.diag([-0.5, -0.5, 1, 1])
    affine[:3, 3] = 3, 4, 5
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "m.nii.gz")
    logits = torch.full((1, 50, 40), -1.0)
    logits[0, 10:30, 20:28] = 1  # 10 x 4 mm
    logits[0, 2:4, 2:4] = 1  # 1 mm2
    _run(tmp_path / "m.nii.gz", tmp_path / "out", logits, window=(0, 1)).finish()
    (nodule,) = _entry(tmp_path / "out")["nodules"]
    assert nodule["box_voxel"] == [10, 20, 30, 28]
    assert nodule["centre_ras_mm"] == [-6.75, -7.75]
    assert nodule["centre_lps_mm"] == [6.75, 7.75]
    assert nodule["diameter_mm"] == pytest.approx(2 * math.sqrt(40 / math.pi), abs=1e-3)
    assert nodule["longest_mm"] == pytest.approx(math.hypot(10, 4), abs=0.5)
    for key in ("voxel_count_mm3", "weighted_mm3", "nodule_hu", "lung_hu", "mass_mg"):
        assert nodule[key] is None
    mask = _nifti(tmp_path / "out" / "m_nodules.nii.gz")
    assert mask.shape == (50, 40)
    np.testing.assert_array_equal(mask.affine, _nifti(tmp_path / "m.nii.gz").affine)
    np.testing.assert_array_equal(np.argwhere(np.asarray(mask.dataobj)).min(axis=0), [10, 20])
    assert (tmp_path / "out" / "m_nodule_01.png").exists()
    (row,) = _rows(tmp_path / "out")
    assert (row["coordZ"], row["mass_mg"]) == ("0.0", "")


def test_fewer_than_no_pictures_are_refused():
    with pytest.raises(ValueError, match="max_pictures must be 0 or more, got -1"):
        SegmentationReport(max_pictures=-1)
