"""The overlay ``patch_cache``: the same patches as without it, from a compressed cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from bundles.bundle_config import bundle_configs, config_files, merged_config
from bundles.run_bundle import run_bundle

DETECTOR, SEGMENTER = "lung_ct_nodule_detection", "lung_ct_nodule_segmentation"
SMALL: dict[str, Any] = {
    "spacing_mm": [6, 6, 6],
    "patch_shape": [32, 32, 32],
    "patches_per_scan": 3,
    "cache_workers": 0,
    "cache_rate": 0.0,
}
# Whole HU: at most half of one, of a window of 1400, and then some noise of the augmentation.
ROUNDING = 0.5 / 1400 * 1.1 + 1e-5


@pytest.fixture(scope="module")
def own_datalist(datalist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that no other test caches beside."""
    folder = tmp_path_factory.mktemp("own") / "phantom"
    shutil.copytree(datalist.parent, folder)
    return folder / datalist.name


def samples(
    bundle: str, datalist: Path, part: str, overlays: list[str], **settings: Any
) -> list[dict[str, Any]]:
    overrides = {**SMALL, "data_list": str(datalist), **settings}
    config = ConfigParser(merged_config(config_files(bundle, "train", overlays), overrides))
    set_determinism(3)
    try:
        dataset = config.get_parsed_content(f"{part}::dataset")
        return [dataset[index] for index in range(len(dataset))]
    finally:
        set_determinism(None)


def assert_same(bundle: str, uncached: dict[str, Any], cached: dict[str, Any]) -> None:
    assert cached.keys() == uncached.keys()
    for key, value in uncached.items():
        if key == "image":
            assert value.shape == cached[key].shape and value.dtype == cached[key].dtype
            assert torch.equal(value.affine, cached[key].affine)
            assert float((value - cached[key]).abs().max()) <= ROUNDING
            assert cached[key].meta["filename_or_obj"] == value.meta["filename_or_obj"]
        elif isinstance(value, torch.Tensor):
            assert value.dtype == cached[key].dtype and torch.equal(value, cached[key]), key
        else:
            assert value == cached[key], key


@pytest.mark.parametrize("part", ["train", "validate"])
@pytest.mark.parametrize("bundle", [DETECTOR, SEGMENTER])
@pytest.mark.parametrize("larger", [False, True])
def test_samples_are_those_without_the_cache(
    bundle: str, part: str, larger: bool, own_datalist: Path
) -> None:
    # A patch that is larger than some scans along an axis, so that these are padded.
    settings = {"patch_shape": [64, 48, 64]} if larger else {}
    uncached = samples(bundle, own_datalist, part, [], **settings)
    cached = samples(bundle, own_datalist, part, ["patch_cache"], **settings)
    assert len(cached) == len(uncached) == (12 if part == "train" else 2)
    for one, other in zip(uncached, cached, strict=True):
        assert_same(bundle, one, other)
    if part == "train" and bundle == SEGMENTER:
        assert any(bool(one["mask"].any()) for one in uncached)


@pytest.mark.parametrize("bundle", [DETECTOR, SEGMENTER])
def test_images_without_a_unit_stay_as_they_are(
    bundle: str, mammograms: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mammograms"
    shutil.copytree(mammograms.parent, folder)
    settings = {"spacing_mm": [1.6, 1.6], "patch_shape": [64, 160]}
    for part in ("train", "validate"):
        uncached, cached = (
            samples(bundle, folder / mammograms.name, part, overlays, **settings)
            for overlays in (["mammogram_2d"], ["mammogram_2d", "patch_cache"])
        )
        for one, other in zip(uncached, cached, strict=True):
            assert_same(bundle, one, other)


@pytest.mark.parametrize("bundle", [DETECTOR, SEGMENTER])
def test_a_training_with_the_cache_learns_what_one_without_it_learns(
    bundle: str, own_datalist: Path, tmp_path: Path
) -> None:
    settings = {
        **SMALL,
        "patches_per_scan": 1,
        "batch_size": 2,
        "max_epochs": 1,
        "val_interval": 1,
        "tile_shape": [32, 32, 32],
        "tile_margin": [8, 8, 8],
        "tile_stride": [8, 8, 8],
        "network_def::channels": [4, 4, 8, 8],
        "network_def::strides": [1, 2, 2, 2],
        "data_list": str(own_datalist),
    }
    histories = []
    for overlays in ([], ["patch_cache"]):
        run_dir = tmp_path / "-".join(["run", *overlays])
        overrides = {
            **settings,
            "bundle_root": str(bundle_configs(bundle).parent),
            "run_dir": str(run_dir),
        }
        run_bundle(bundle, "train", overlays=overlays, overrides=overrides)
        (epoch,) = json.loads((run_dir / "history.json").read_text())
        histories.append(epoch["training"])
    assert histories[1] == pytest.approx(histories[0], rel=5e-3)
