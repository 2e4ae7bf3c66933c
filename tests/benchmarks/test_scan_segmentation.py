from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from benchmarks import report, scan_segmentation, segmentation_tasks
from benchmarks.logit_field import LogitField, spheres_in_lungs
from benchmarks.scan_segmentation import Cost, Setting, noise, phantom, random_weights, read_mask
from benchmarks.segmentation_tasks import (
    Job,
    Task,
    inference_config,
    mask_path,
    our_network,
    ours_in_all,
    ours_without_network,
    spleen_in_all,
    spleen_on_our_grid,
    spleen_without_network,
    step_seconds,
    windows_on_full_grid,
)
from transforms import load_scan

TINY = {
    "spacing_mm": [2.0, 2.0, 3.0],
    "network_def": {
        "_target_": "networks.UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "channels": [2, 2],
        "strides": [1, 2],
    },
    "tile_shape": [16, 16, 16],
    "tile_stride": [2, 2, 2],
    "tile_margin": [4, 4, 4],
}
ALL_TASKS = (
    ours_without_network,
    spleen_without_network,
    spleen_on_our_grid,
    our_network,
    windows_on_full_grid,
    ours_in_all,
    spleen_in_all,
)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """A scan without lungs, which is not cropped, and a tiny network."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "trained.yaml").write_text(yaml.safe_dump(TINY))
    random_weights(run_dir)
    scan = noise(tmp_path / "noise.nii.gz")
    field = LogitField(((30.3, 34.1, 22.7),), (9.0,))
    return Setting(scan, scan, run_dir, tmp_path / "masks", field)


@pytest.mark.parametrize("task", ALL_TASKS)
def test_every_task_writes_a_mask_on_the_scans_grid(setting: Setting, task) -> None:
    assert (task(setting.job(task)) > 0).all()
    assert setting.mask(task).shape == load_scan(setting.scan).shape[1:]


def test_masks_of_one_field_are_its_own(setting: Setting) -> None:
    hu = load_scan(setting.scan)
    field = setting.field.on_grid(hu.shape[1:], hu.affine.numpy()).numpy() > 0
    for task in (ours_without_network, spleen_without_network, spleen_on_our_grid):
        task(setting.job(task))
    assert field.sum() > 200
    # On the scan's own grid nothing is interpolated.
    assert np.array_equal(setting.mask(ours_without_network), field)
    assert np.array_equal(setting.mask(spleen_on_our_grid), field)
    overlap = setting.mask(spleen_without_network) & field
    assert overlap.sum() > 0.9 * field.sum()


def test_windows_and_tiles_agree_where_both_see_enough(setting: Setting) -> None:
    """With no crop and one tile the size of the scan, both are the network on the whole scan."""
    whole = {**TINY, "tile_shape": [32, 32, 16], "tile_margin": [0, 0, 0]}
    (setting.run_dir / "trained.yaml").write_text(yaml.safe_dump(whole))
    network = inference_config(setting.job(our_network)).get_parsed_content("network")
    # In the middle of what it gives, so that the mask is neither empty nor full.
    weights = network.state_dict()
    bias = next(name for name in weights if name.startswith("head") and name.endswith("bias"))
    weights[bias] = torch.zeros_like(weights[bias])
    torch.save(weights, setting.run_dir / "model.pt")
    for task in (our_network, windows_on_full_grid):
        task(setting.job(task))
    tiles, windows = setting.mask(our_network), setting.mask(windows_on_full_grid)
    assert 0.01 < tiles.mean() < 0.99
    # A window of 96 voxels is padded with 0, which is air, a tile not at all: they differ at the
    # border alone.
    inner = (slice(6, -6), slice(6, -6), slice(5, -5))
    assert np.array_equal(tiles[inner], windows[inner])


def test_steps_are_those_of_the_inference(setting: Setting) -> None:
    steps = step_seconds(setting.job(ours_without_network))
    assert list(steps)[:3] == ["LoadScand", "ShareItemd", "CropToLungsd"]
    assert list(steps)[-1] == "report"
    assert all((seconds >= 0).all() for seconds in steps.values())
    assert setting.mask(ours_without_network).any()


def test_a_phantom_has_lungs_with_spheres_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_segmentation, "SHAPE", (45, 45, 38))
    monkeypatch.setattr(scan_segmentation, "SPACING_MM", (8.0, 8.0, 8.0))
    image, mask = phantom(tmp_path)
    hu = load_scan(image)
    assert read_mask(mask).shape == hu.shape[1:] == (45, 45, 38)
    field = spheres_in_lungs(hu, (4.0, 20.0))
    assert field.radii_mm == (2, 10)
    lungs = np.asanyarray(nib.nifti1.load(tmp_path / "lungs" / image.name).dataobj)
    to_voxel = np.linalg.inv(hu.affine.numpy())
    for centre_mm in field.centres_mm:
        voxel = np.round(to_voxel @ [*centre_mm, 1.0]).astype(int)[:3]
        assert lungs[tuple(voxel)] != 0


def test_spheres_need_lungs(setting: Setting) -> None:
    with pytest.raises(ValueError, match="must show lungs"):
        spheres_in_lungs(load_scan(setting.scan), (4.0,))


def test_the_report_has_all_rows(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: list[Task] = []

    def fresh(call, *arguments):
        if call is not scan_segmentation.cost:
            return call(*arguments)
        task, given = arguments
        if task not in (*costs, ours_in_all, spleen_in_all):
            task(given.job(task))
        costs.append(task)
        ours = task in (ours_without_network, our_network, ours_in_all)
        return Cost(1, 1, 2, 3) if ours else Cost(16, 8, 4, 6)

    monkeypatch.setattr(scan_segmentation, "in_fresh_process", fresh)
    monkeypatch.setattr(scan_segmentation, "spheres_in_lungs", lambda *_: setting.field)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    options = ["--scan", str(setting.scan), "--run", str(setting.run_dir), "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["scan_segmentation", *options])
    scan_segmentation.main()
    assert costs == [
        *2 * [ours_without_network, spleen_without_network],
        *2 * [our_network, windows_on_full_grid],
        *2 * [ours_in_all, spleen_in_all],
    ]
    written = json.loads((tmp_path / "results" / "scan_segmentation_trained.json").read_text())
    rows = {row["what"]: row for row in written["rows"]}
    for what in ("all but the network", "network alone", "file to mask"):
        assert rows[what]["ratio"] == 16
        assert rows[f"{what}: CPU time"]["ratio"] == 8
        assert rows[f"{what}: peak memory beyond imports"]["ratio"] == 2
    assert rows["same logits: voxels that differ"]["ours"] < 1
    assert rows["same logits on our grid: voxels that differ"]["ours"] == 0
    assert rows["network alone: 1 - Dice of both"]["ours"] <= 1
    assert {"machine", "versions"} <= written.keys()


def test_where_masks_lie() -> None:
    job = Job(Path("a/scan.v2.nii.gz"), Path(), Path("out"), LogitField((), ()))
    assert mask_path(ours_in_all, job) == Path("out/scan.v2_nodules.nii.gz")
    assert mask_path(spleen_in_all, job) == Path("out/scan.v2/scan.v2_trans.nii.gz")
    assert mask_path(our_network, job).name == segmentation_tasks._ARRAY


def test_rounds_must_be_one_or_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["scan_segmentation", "--rounds", "0"])
    with pytest.raises(SystemExit):
        scan_segmentation.main()
