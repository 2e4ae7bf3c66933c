"""The detector's training samples, ours from the patch cache and as the model zoo makes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.apps.detection.transforms.dictionary import (
    AffineBoxToImageCoordinated,
    ConvertBoxToStandardModed,
    RandCropBoxByPosNegLabeld,
)
from monai.bundle import ConfigParser
from monai.data.utils import list_data_collate
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    ScaleIntensityRanged,
)

from bundles.bundle_config import config_files, merged_config
from transforms import RandNoised, RandSmoothd

BUNDLE = "lung_ct_nodule_detection"
PATCH_SHAPE = (192, 192, 80)
PATCHES = 4
# Of the model zoo's lung_nodule_ct_detection.
_LOW_HU, _HIGH_HU = -1024, 300


Chain = Callable[[], Any]
MakeChains = Callable[[Path, Path], tuple[Chain, Chain]]


class ChainCost(NamedTuple):
    """Mean CPU seconds of a scan's patches, with the augmentations and without."""

    augmented_s: float
    plain_s: float


def chain_cost(make_chains: MakeChains, datalist: Path, cache: Path, rounds: int) -> ChainCost:
    """To be called once in a process.

    Args:
        make_chains: gives a call that makes the patches with augmentations, and one without.
        datalist: whose first scan of the testing part is taken.
        cache: folder of our cache.
        rounds: calls of each, whose means are taken, since chance decides what is augmented.
    """
    torch.set_num_threads(1)
    means = []
    for chain in make_chains(datalist, cache):
        chain()
        start = time.process_time()
        for _ in range(rounds):
            chain()
        means.append((time.process_time() - start) / rounds)
    return ChainCost(*means)


def our_chains(datalist: Path, cache: Path) -> tuple[Chain, Chain]:
    """The bundle's training with the overlay patch_cache; patches on the network's grid."""
    config = _training(datalist, cache)
    dataset = config.get_parsed_content("train::dataset")
    augmentations = {type(step) for step in config.get_parsed_content("train::augment")[1:]}
    steps = [step for step in dataset.transform.transforms if type(step) not in augmentations]
    plain = Compose(steps)
    return (
        lambda: list_data_collate([dataset[index] for index in range(PATCHES)]),
        lambda: list_data_collate([plain(dataset.data[0]) for _ in range(PATCHES)]),
    )


def zoo_chains(datalist: Path, cache: Path) -> tuple[Chain, Chain]:
    """As the model zoo's lung_nodule_ct_detection, with our augmentations in place of its own.

    Smoothing and noise, for which the project has transforms of its own, are MONAI's here. It reads
    the scan anew for its patches, which it expects to be resampled already.
    """
    config = _training(datalist, cache)
    item = config.get_parsed_content("train::scans")[0]
    boxes = np.array(item["boxes"], np.float32)
    sample = {"image": item["image"], "box": boxes, "label": np.zeros(len(boxes), np.int64)}
    steps = [
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        Orientationd("image", axcodes="RAS", labels=None),
        ScaleIntensityRanged(
            "image", a_min=_LOW_HU, a_max=_HIGH_HU, b_min=0.0, b_max=1.0, clip=True
        ),
        ConvertBoxToStandardModed(box_keys=["box"], mode="cccwhd"),
        AffineBoxToImageCoordinated(
            box_keys=["box"], box_ref_image_keys="image", affine_lps_to_ras=False
        ),
        RandCropBoxByPosNegLabeld(
            image_keys=["image"],
            box_keys="box",
            label_keys="label",
            spatial_size=PATCH_SHAPE,
            whole_box=True,
            num_samples=PATCHES,
            pos=1,
            neg=1,
        ),
    ]
    plain = Compose(steps)
    ours = config.get_parsed_content("train::augment")[1:]
    augmented = Compose([*steps, *(monai_form(step) for step in ours)])

    def images(chain: Compose) -> Any:
        return list_data_collate([{"image": patch["image"]} for patch in chain(sample)])

    return lambda: images(augmented), lambda: images(plain)


def monai_form(step: Any) -> Any:
    """MONAI's transform with the distribution of one of ours; any other stays as it is."""
    if isinstance(step, RandSmoothd):
        sigma = step.sigma_voxel
        return RandGaussianSmoothd(
            step.keys, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma, prob=step.prob
        )
    if isinstance(step, RandNoised):
        return RandGaussianNoised(step.keys, std=step.max_std, prob=step.prob)
    return step


def _training(datalist: Path, cache: Path) -> ConfigParser:
    overrides = {
        "data_list": str(datalist),
        "train::scans::split": "testing",
        "train::dataset::cache::folder": str(cache),
        "patch_shape": list(PATCH_SHAPE),
        "patches_per_scan": PATCHES,
        "cache_workers": 0,
    }
    files = config_files(BUNDLE, "train", ["patch_cache"])
    return ConfigParser(merged_config(files, overrides))
