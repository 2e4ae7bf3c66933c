"""The model zoo's spleen segmentation of a whole CT, a peer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.inferers import SlidingWindowInferer
from monai.inferers.inferer import Inferer
from monai.networks.nets import UNet
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    Orientationd,
    SaveImaged,
    ScaleIntensityRanged,
    Spacingd,
)

# Of the model zoo's spleen_ct_segmentation.
_SPACING_MM = (1.5, 1.5, 2.0)
_LOW_HU, _HIGH_HU = -57, 164
_SUFFIX = "trans"


def spleen_network() -> UNet:
    """Its network, with random weights."""
    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm="batch",
    )


def spleen_preprocessing() -> Compose:
    """File to the network's input ``image`` on the bundle's own grid."""
    return Compose(
        [
            LoadImaged(keys="image"),
            EnsureChannelFirstd(keys="image"),
            # MONAI's next default, which otherwise warns of the change.
            Orientationd(keys="image", axcodes="RAS", labels=None),
            Spacingd(keys="image", pixdim=_SPACING_MM, mode="bilinear"),
            ScaleIntensityRanged(
                keys="image", a_min=_LOW_HU, a_max=_HIGH_HU, b_min=0, b_max=1, clip=True
            ),
            EnsureTyped(keys="image"),
        ]
    )


def sliding_windows() -> SlidingWindowInferer:
    """Its windows of 96 x 96 x 96 voxels, four at a time, half of each in the next."""
    return SlidingWindowInferer(roi_size=(96, 96, 96), sw_batch_size=4, overlap=0.5)


def spleen_evaluator(
    scan: Path,
    output_dir: Path,
    *,
    preprocessing: Compose,
    network: torch.nn.Module,
    inferer: Inferer,
) -> SupervisedEvaluator:
    """The bundle's inference of one scan on the CPU; ``run()`` writes :func:`spleen_mask_path`.

    As in the bundle the probabilities of both classes go back to the scan's grid, where the
    larger one makes the mask, which is saved as float32. Other than there the scan is read in
    this process and not in a worker, so that its memory counts here; mixed precision, which MONAI
    has on a GPU alone, and the printed statistics are left out.

    Args:
        scan: a file that MONAI reads.
        output_dir: made if needed.
        preprocessing: makes ``image``, as :func:`spleen_preprocessing` does.
        network: image ``(B, 1, H, W, D)`` to logits of background and foreground
            ``(B, 2, H, W, D)``.
        inferer: gives ``network`` the image.
    """
    postprocessing = Compose(
        [
            Activationsd(keys="pred", softmax=True),
            Invertd(
                keys="pred",
                transform=preprocessing,
                orig_keys="image",
                nearest_interp=False,
                to_tensor=True,
            ),
            AsDiscreted(keys="pred", argmax=True),
            SaveImaged(
                keys="pred",
                output_dir=output_dir,
                output_ext=".nii.gz",
                output_dtype=np.float32,
                output_postfix=_SUFFIX,
                separate_folder=True,
                print_log=False,
            ),
        ]
    )
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(
            Dataset([{"image": str(scan)}], preprocessing), batch_size=1, num_workers=0
        ),
        network=network,
        inferer=inferer,
        postprocessing=postprocessing,
    )


def spleen_mask_path(scan: Path, output_dir: Path) -> Path:
    """Where the mask of a NIfTI is written."""
    name = nifti_name(scan)
    return output_dir / name / f"{name}_{_SUFFIX}.nii.gz"


def nifti_name(path: Path) -> str:
    """The file's name without ``.nii`` or ``.nii.gz``."""
    return path.name.removesuffix(".gz").removesuffix(".nii")
