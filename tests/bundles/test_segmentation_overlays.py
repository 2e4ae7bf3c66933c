"""The rungs of the segmenter on every grid that an overlay sets, and every overlay for a step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from bundles.bundle_config import bundle_configs, config_files, merged_config
from bundles.run_bundle import run_bundle
from cohorts import load_datalist

BUNDLE = "lung_ct_nodule_segmentation"
GRIDS: list[list[str]] = [[], ["demo"], ["two_cores"], ["mammogram_2d"], ["nodule_cubes"]]
RUNGS: list[list[str]] = [[], ["pooled"], ["fully_convolutional"]]
SMALL: dict[str, Any] = {
    "spacing_mm": [6, 6, 6],
    "tile_shape": [32, 32, 32],
    "tile_stride": [8, 8, 4],
    "tile_margin": [8, 8, 8],
    "patch_shape": [24, 24, 24],
    "patches_per_scan": 1,
    "val_interval": 1,
}
TINY = {"network_def::channels": [4, 8], "network_def::strides": [1, 2]}
STEPS: dict[str, dict[str, Any]] = {
    "pooled": TINY,
    "fully_convolutional": {"network_def::channels": [4, 4]},
    "cross_entropy": TINY,
    "fine_stem": {"network_def::channels": [4, 8, 8, 8]},
    "given_lungs": TINY,
}


@pytest.mark.parametrize("rung", RUNGS, ids=["unet", "pooled", "fully_convolutional"])
@pytest.mark.parametrize("grid", GRIDS, ids=["common", *(names[0] for names in GRIDS[1:])])
def test_every_rung_fits_every_grid(grid: list[str], rung: list[str]) -> None:
    config = ConfigParser(merged_config(config_files(BUNDLE, "train", [*grid, *rung])))
    stride = list(config.get_parsed_content("tile_stride"))
    network = config.get_parsed_content("network_def").eval()
    config.get_parsed_content("segmenter")  # which refuses tiles that do not fit
    assert stride == list(getattr(network, "total_stride", stride))
    patch = list(config.get_parsed_content("patch_shape"))
    assert all(size % step == 0 for size, step in zip(patch, stride, strict=True))
    with torch.no_grad():
        logits = network(torch.rand(1, 1, *(2 * step for step in stride)))
    assert logits.shape == (1, 1, *(2 * step for step in stride))


def test_the_fine_stem_has_the_total_stride_of_the_grid_it_follows() -> None:
    config = ConfigParser(merged_config(config_files(BUNDLE, "train", ["two_cores", "fine_stem"])))
    network = config.get_parsed_content("network_def")
    assert list(network.total_stride) == list(config.get_parsed_content("tile_stride"))


@pytest.mark.parametrize(("overlay", "settings"), STEPS.items(), ids=list(STEPS))
def test_every_overlay_trains_and_leaves_what_an_inference_needs(
    overlay: str, settings: dict[str, Any], datalist: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    _train(run_dir, datalist, [overlay], {**SMALL, **settings})
    (row,) = _json(run_dir / "history.json")
    assert 0 < row["training"]["loss"] < 3
    assert 0 <= row["validation"]["dice"] <= 1
    scan = load_datalist(datalist, "testing")[0]["image"]  # alone, without its lungs' label map
    _apply("inference", run_dir, datalist, scans=scan, output_dir=str(tmp_path / "results"))
    report = _json(tmp_path / "results" / "predictions.json")
    assert report["failed"] == [] and len(report["scans"]) == 1


def test_the_trained_settings_are_the_overlays(datalist: Path, tmp_path: Path) -> None:
    overlays = ["pooled", "cross_entropy", "given_lungs"]
    _train(tmp_path, datalist, overlays, {**SMALL, **TINY})
    trained = yaml.safe_load((tmp_path / "trained.yaml").read_text())
    assert trained["network_def"]["_target_"] == "networks.PooledSegmenter"
    assert trained["voxel_loss"]["_target_"] == "torch.nn.BCEWithLogitsLoss"
    assert trained["lungs_key"] == "lungs"


def test_a_training_from_the_disk_cache_is_the_same(datalist: Path, tmp_path: Path) -> None:
    cached = datalist.with_name("segmentation_cached.json")
    cached.write_text(datalist.read_text())
    _train(tmp_path / "fresh", cached, ["disk_cache"], {**SMALL, **TINY})
    files = sorted(Path(f"{cached}.cache").glob("*.pt"))
    assert len(files) == 6  # four training and two validation scans
    files[0].unlink()
    _train(tmp_path / "cached", cached, ["disk_cache"], {**SMALL, **TINY})
    assert sorted(Path(f"{cached}.cache").glob("*.pt")) == files
    fresh, again = (_json(tmp_path / name / "history.json")[0] for name in ("fresh", "cached"))
    assert again["training"] == pytest.approx(fresh["training"], rel=1e-4)
    assert again["validation"] == pytest.approx(fresh["validation"], rel=1e-4, abs=1e-6)


def test_cubes_round_a_nodule_train_and_are_judged(tmp_path: Path) -> None:
    datalist = _write_cubes(tmp_path / "cubes", count=4)
    settings = {"network_def::channels": [4, 8, 8, 8], "patches_per_scan": 1, "val_interval": 1}
    _train(tmp_path / "run", datalist, ["nodule_cubes"], settings)
    (row,) = _json(tmp_path / "run" / "history.json")
    assert 0 < row["training"]["loss"] < 3
    _apply("evaluate", tmp_path / "run", datalist)
    report = _json(tmp_path / "run" / "evaluation" / "evaluation.json")
    assert (report["scans"], report["nodules"], report["failed"]) == (1, 1, [])


def _write_cubes(folder: Path, *, count: int) -> Path:
    """Balls of 10 mm somewhere in cubes of 51 voxels, as ``cohorts.nodule_cubes`` has nodules."""
    folder.mkdir()
    random = np.random.default_rng(0)
    affine = np.diag([-1.0, -1, 1, 1])
    items = []
    for index in range(count):
        middle = random.integers(20, 31, 3)
        far = sum((np.arange(51) - m).reshape(s) ** 2 for m, s in zip(middle, _SHAPES, strict=True))
        inside = far <= 25
        hu = (np.where(inside, 40, -867) + random.normal(0, 20, inside.shape)).astype(np.int16)
        for kind, array in (("image", hu), ("mask", inside.astype(np.uint8))):
            nib.save(nib.Nifti1Image(array, affine), folder / f"{kind}{index}.nii.gz")
        x, y, z = (middle * np.diag(affine)[:3]).tolist()
        items.append(
            {"patient_id": f"cubes-{index}", "risk": 0, "boxes": [[x, y, z, 11, 11, 11]],
             "box_labels": [0], "nodules": [{"instance": 1}], "image": f"image{index}.nii.gz",
             "mask": f"mask{index}.nii.gz"}
        )  # fmt: skip
    splits = {"training": items[:-2], "validation": items[-2:-1], "testing": items[-1:]}
    path = folder / "datalist.json"
    path.write_text(json.dumps({"world_frame": "RAS", "box_mode": "cccwhd", **splits}))
    return path


_SHAPES = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))


def _train(
    run_dir: Path, datalist: Path, overlays: Sequence[str], settings: Mapping[str, Any]
) -> None:
    # MLflow has tests of its own.
    quick = {"trackers": [], "cache_workers": 0, "max_epochs": 1, **settings}
    overrides = {**_places(run_dir, datalist), **quick}
    run_bundle(BUNDLE, "train", overlays=overlays, overrides=overrides)


def _apply(workflow: str, run_dir: Path, datalist: Path, **settings: Any) -> None:
    overrides = {**_places(run_dir, datalist), **settings}
    run_bundle(BUNDLE, workflow, overlays=[run_dir / "trained.yaml"], overrides=overrides)


def _places(run_dir: Path, datalist: Path) -> dict[str, Any]:
    return {
        "bundle_root": str(bundle_configs(BUNDLE).parent),
        "run_dir": str(run_dir),
        "data_list": str(datalist),
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text())
