"""Maps written as NIfTI."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd

from cohorts.replaced_file import replaced_file

STEPS = 32767  # of int16


def save_map(values: MetaTensor, path: Path) -> None:
    """Writes a map as NIfTI in its own geometry, in 32,767 equal steps of its maximum.

    Scaled int16 is a third of the size of float32; readers apply the scale by themselves.

    Args:
        values: ``(1, H, W, D)`` or ``(1, H, W)``, finite and not negative, with its affine.
        path: ``.nii.gz``.

    Raises:
        OSError: the file cannot be written.
    """
    array = values.as_tensor()[0].detach().cpu().float()
    step = float(array.max()) / STEPS or 1.0
    steps = (array / step).round_().to(torch.int16).numpy()
    affine = to_affine_nd(3, values.affine.detach().cpu().numpy().astype(float))
    image = nib.Nifti1Image(steps, affine)
    image.header.set_slope_inter(step, 0)
    image.header.set_xyzt_units("mm")
    # Code 1, scanner coordinates, in both forms: some viewers read only one of them.
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    with replaced_file(path) as partial:
        nib.save(image, partial)
