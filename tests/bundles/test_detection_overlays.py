"""The rungs of the detector on every grid that an overlay sets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from bundles.bundle_config import config_files, merged_config

BUNDLE = "lung_ct_nodule_detection"
GRIDS: list[list[str]] = [[], ["demo"], ["two_cores"], ["mammogram_2d"]]


def _training(overlays: list[str]) -> ConfigParser:
    config = ConfigParser(merged_config(config_files(BUNDLE, "train", overlays)))
    config["device"] = "$torch.device('cpu')"
    return config


def _content(config: ConfigParser, name: str) -> Any:
    return config.get_parsed_content(name)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_single_scale_is_the_pyramids_middle_one(grid: list[str]) -> None:
    pyramid = _content(_training(grid), "level_strides")
    (stride,) = _content(_training([*grid, "single_scale"]), "level_strides")
    assert tuple(stride) == tuple(pyramid[1])


@pytest.mark.parametrize("grid", GRIDS)
def test_the_global_box_sees_one_tile_of_the_grids_axes(grid: list[str]) -> None:
    config = _training([*grid, "global_box"])
    tile = list(_content(config, "tile_shape"))
    for name in ("patch_shape", "smallest_shape"):
        assert list(_content(config, name)) == tile, name
    assert list(_content(config, "detector").margin) == [0] * len(tile)
    assert [list(stride) for stride in _content(config, "level_strides")] == [tile]
    small = torch.zeros(1, 1, *(16 for _ in tile))
    outputs = _content(config, "network").eval()(small)
    assert outputs["offsets"][0].shape == (1, len(tile), *(1 for _ in tile))
