from __future__ import annotations

import errno
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, CopyItemsd, SpatialCropd
from torch import nn

import handlers.predictions_file
from cohorts import ReadableScans, scan_items
from handlers import PrepareTargets, ScanWriter
from handlers.scan_report import ScanResult, ScanTable
from transforms import LoadScand

SHAPE = (8, 6, 4)
MEAN = (100 - 3 * 1000) / 4  # of the crop of 4 x 4 x 4 voxels


class Mean(nn.Module):
    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mean": image.mean(dim=(1, 2, 3, 4))}


class MeanReport:
    """Writes the mean of the network's input, and keeps what it was given."""

    def __init__(self) -> None:
        self.table: ScanTable | None = ScanTable("means.csv", ["name", "mean"])
        self.began: list[dict] = []
        self.shapes: list[tuple] = []

    def start(self, about):
        self.began.append(dict(about))
        return {"unit": "HU"}

    def __call__(self, prediction, *, image, scan, name, folder):
        self.shapes.append((tuple(image.shape), tuple(scan.shape)))
        (folder / f"{name}.txt").write_text(str(prediction["mean"].item()))
        mean = prediction["mean"].item()
        return ScanResult({"mean": mean, "file": f"{name}.txt"}, [f"{name}.txt"], [[name, mean]])


READ = Compose(
    [
        LoadScand(keys="image"),
        CopyItemsd(keys="image", names=["scan"]),
        SpatialCropd(keys="image", roi_start=(0, 0, 0), roi_end=(4, 4, 4)),
    ]
)


def _write_scan(path: Path) -> None:
    array = np.full(SHAPE, -1000, np.int16)
    array[:, :1] = 100
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1, 2, 1])), path)


def _run(
    scans,
    output_dir: Path,
    *,
    network=None,
    transform=READ,
    report=None,
    checkpoint=None,
    fingerprint=None,
    shard="0/1",
):
    dataset = ReadableScans(scan_items(scans), transform, shard=shard)
    writer = ScanWriter(
        output_dir,
        dataset,
        bundle="a_bundle",
        checkpoint=checkpoint,
        report=report or MeanReport(),
        fingerprint=fingerprint,
    )
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, num_workers=0),
        network=network or Mean(),
        prepare_batch=PrepareTargets([], with_attention=False),
        iteration_update=writer.predict,
        val_handlers=[writer],
        decollate=False,
    )
    evaluator.run()
    return writer


def _predictions(output_dir: Path) -> dict:
    return json.loads((output_dir / "predictions.json").read_text())


def test_what_is_written_of_a_scan(tmp_path):
    scan, report = tmp_path / "scan.nii.gz", MeanReport()
    _write_scan(scan)
    _run(str(scan), tmp_path / "out", report=report).finish()
    predictions = _predictions(tmp_path / "out")
    (entry,) = predictions["scans"]
    assert list(entry) == ["scan", "mean", "file", "seconds"]
    assert (entry["scan"], entry["mean"], entry["file"]) == (str(scan), MEAN, "scan.txt")
    assert 0 <= entry["seconds"] < 60
    assert (tmp_path / "out" / "scan.txt").read_text() == str(MEAN)
    assert list(predictions) == ["bundle", "checkpoint", "intended_use", "unit", "scans", "failed"]
    about = {key: predictions[key] for key in ("bundle", "checkpoint", "intended_use")}
    assert report.began == [about]
    assert predictions["unit"] == "HU"
    # The input is the crop, the scan is whole.
    assert report.shapes == [((1, 4, 4, 4), (1, *SHAPE))]


def test_one_bad_scan_among_good_ones(tmp_path):
    good = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    for path in good:
        _write_scan(path)
    cut_off = tmp_path / "cut.nii.gz"
    cut_off.write_bytes(good[0].read_bytes()[:60])
    missing = tmp_path / "missing.nii.gz"
    writer = _run([good[0], missing, cut_off, good[1]], tmp_path / "out")
    with pytest.raises(SystemExit, match=r"^2 of 4 scans failed, the first: .*missing.nii.gz: the"):
        writer.finish()
    predictions = _predictions(tmp_path / "out")
    assert [entry["scan"] for entry in predictions["scans"]] == [str(path) for path in good]
    assert [entry["scan"] for entry in predictions["failed"]] == [str(missing), str(cut_off)]
    assert predictions["intended_use"] == "Research use only; not for clinical decisions."
    assert predictions["bundle"] == "a_bundle"


def test_when_all_fail_the_run_ends_cleanly_with_their_list(tmp_path):
    writer = _run([tmp_path / "a.nii", tmp_path / "b.nii"], tmp_path / "out")
    with pytest.raises(SystemExit) as stop:
        writer.finish()
    assert "\n" not in str(stop.value)
    predictions = _predictions(tmp_path / "out")
    assert predictions["scans"] == []
    assert len(predictions["failed"]) == 2


def test_a_scan_on_which_the_network_fails_does_not_stop_the_others(tmp_path):
    class RunsOutOfMemoryOnce(Mean):
        calls = 0

        def forward(self, image):
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("can't allocate memory:\n you tried to allocate 9 bytes")
            return super().forward(image)

    for name in ("a", "b"):
        _write_scan(tmp_path / "in" / f"{name}.nii.gz")
    _run(tmp_path / "in", tmp_path / "out", network=RunsOutOfMemoryOnce())
    predictions = _predictions(tmp_path / "out")
    assert [Path(entry["scan"]).name for entry in predictions["scans"]] == ["b.nii.gz"]
    assert predictions["failed"][0]["error"].startswith("RuntimeError: can't allocate memory: you")


def test_a_full_disk_fails_its_scan_only(tmp_path):
    class FullDiskOnce(MeanReport):
        def __call__(self, prediction, *, name, **settings):
            if name == "a":
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().__call__(prediction, name=name, **settings)

    for name in ("a", "b"):
        _write_scan(tmp_path / "in" / f"{name}.nii.gz")
    writer = _run(tmp_path / "in", tmp_path / "out", report=FullDiskOnce())
    with pytest.raises(SystemExit, match="1 of 2 scans failed"):
        writer.finish()
    assert "No space left on device" in _predictions(tmp_path / "out")["failed"][0]["error"]


def test_scans_of_one_name_keep_their_files_apart(tmp_path):
    scans = [tmp_path / "a" / "ct.nii.gz", tmp_path / "b" / "CT.nii", tmp_path / "c" / "ct-2.nii"]
    for scan in scans:
        _write_scan(scan)
    _run(scans, tmp_path / "out").finish()
    names = [entry["file"] for entry in _predictions(tmp_path / "out")["scans"]]
    assert names == ["ct.txt", "CT-2.txt", "ct-2-2.txt"]
    assert all((tmp_path / "out" / name).exists() for name in names)


def test_results_are_written_after_each_scan(tmp_path):
    """Ctrl-C at the second scan keeps the first."""
    for name in ("a", "b"):
        _write_scan(tmp_path / "in" / f"{name}.nii.gz")

    def interrupted(item):
        if item["source"].endswith("b.nii.gz"):
            raise KeyboardInterrupt
        return READ(item)

    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "in", tmp_path / "out", transform=interrupted)
    assert len(_predictions(tmp_path / "out")["scans"]) == 1


def test_an_unusable_output_folder_is_refused_before_any_scan_is_read(tmp_path):
    (tmp_path / "out").write_text("a file")
    read: list[str] = []
    with pytest.raises(ValueError, match=r"output_dir must be a writable folder, got .*out"):
        _run(tmp_path / "a.nii.gz", tmp_path / "out", transform=read.append)
    assert read == []


def test_a_report_that_refuses_to_begin_stops_the_run_before_any_scan_is_read(tmp_path):
    class Refuses(MeanReport):
        def start(self, about):
            raise ValueError(f"the weights must be others, got {about['checkpoint']}")

    read: list[str] = []
    with pytest.raises(ValueError, match="the weights must be others, got None"):
        _run(tmp_path / "a.nii.gz", tmp_path / "out", transform=read.append, report=Refuses())
    assert read == []


def test_the_weights_are_named_by_their_hash(tmp_path):
    checkpoint = tmp_path / "model.pt"
    checkpoint.write_bytes(b"abc")
    _write_scan(tmp_path / "a.nii.gz")
    _run(tmp_path / "a.nii.gz", tmp_path / "out", checkpoint=checkpoint).finish()
    assert _predictions(tmp_path / "out")["checkpoint"] == {
        "file": str(checkpoint),
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }


def test_a_table_that_cannot_be_written_is_tried_once_more(tmp_path, monkeypatch):
    _write_scan(tmp_path / "a.nii.gz")
    writer = _run(tmp_path / "a.nii.gz", tmp_path / "out")

    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(handlers.predictions_file, "write_table", full_disk)
    with pytest.raises(SystemExit, match="must be writable, got No space left on device"):
        writer.finish()
    monkeypatch.undo()
    writer.finish()
    assert (tmp_path / "out" / "means.csv").read_text().split() == ["name,mean", f"a,{MEAN}"]


def test_scans_done_under_the_same_fingerprint_are_kept(tmp_path):
    for name in ("a", "b"):
        _write_scan(tmp_path / "in" / f"{name}.nii.gz")
    done = []
    for fingerprint in ("x", "x", "y", None):
        report = MeanReport()
        _run(tmp_path / "in", tmp_path / "out", report=report, fingerprint=fingerprint).finish()
        done.append(len(report.shapes))
        assert [entry["file"] for entry in _predictions(tmp_path / "out")["scans"]] == [
            "a.txt",
            "b.txt",
        ]
        assert (tmp_path / "out" / "means.csv").read_text().count("\n") == 3
    assert done == [2, 0, 2, 2]


def test_a_scan_that_failed_is_tried_again_and_the_others_are_kept(tmp_path):
    _write_scan(tmp_path / "a.nii.gz")
    scans = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    with pytest.raises(SystemExit, match="1 of 2 scans failed"):
        _run(scans, tmp_path / "out", fingerprint="x").finish()
    _write_scan(tmp_path / "b.nii.gz")
    report = MeanReport()
    _run(scans, tmp_path / "out", fingerprint="x", report=report).finish()
    assert len(report.shapes) == 1
    predictions = _predictions(tmp_path / "out")
    assert [entry["file"] for entry in predictions["scans"]] == ["a.txt", "b.txt"]
    assert predictions["failed"] == []


def test_a_shard_needs_a_fingerprint_and_leaves_the_whole_to_the_merge(tmp_path):
    for name in ("a", "b", "c"):
        _write_scan(tmp_path / "in" / f"{name}.nii.gz")
    with pytest.raises(ValueError, match="a shard must have a fingerprint, got 1/2 without"):
        _run(tmp_path / "in", tmp_path / "out", shard="1/2")
    _run(tmp_path / "in", tmp_path / "out", shard="1/2", fingerprint="x").finish()
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert written == {"b.txt", "records/b.json", "shards/1-of-2.json", "shards/.1-of-2.lock"}
