from __future__ import annotations

import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose, Orientationd, RandFlipd, SpatialCropd

from transforms import KeepAffined


def _volume(*shape: int) -> MetaTensor:
    affine = torch.tensor(
        [[0.0, -0.7, 0, 5], [0.8, 0, 0.1, -6], [0, 0, 2.5, 7], [0, 0, 0, 1]], dtype=torch.float64
    )
    return MetaTensor(torch.zeros(1, *shape, dtype=torch.int16), affine)


def test_it_is_the_affine_after_what_moved_the_volume() -> None:
    chain = Compose(
        [
            Orientationd("mask", axcodes="RAS", labels=None),
            SpatialCropd("mask", roi_start=(1, 2, 3), roi_end=(5, 6, 7)),
            RandFlipd("mask", prob=1.0, spatial_axis=0),
            KeepAffined("mask"),
        ]
    )
    sample = chain({"mask": _volume(7, 8, 9)})
    kept = sample["mask_affine"]
    # Orientation leads x = -0.7 j to an axis that rises: voxel 0 is j = 7. Cropped to 1..4 and
    # flipped, voxel 0 is the fourth of them.
    expected = torch.tensor(
        [[-0.7, 0, 0, 5 - 0.7 * (7 - 4)], [0, 0.8, 0.1, -6 + 0.8 * 2 + 0.1 * 3],
         [0, 0, 2.5, 7 + 2.5 * 3], [0, 0, 0, 1]], dtype=torch.float64
    )  # fmt: skip
    assert type(kept) is torch.Tensor and kept.dtype == torch.float64
    torch.testing.assert_close(kept, expected)


def test_a_2d_image_has_three_by_three() -> None:
    volume = _volume(7, 8)
    kept = KeepAffined("image")({"image": volume})["image_affine"]
    assert kept.tolist() == [[0.0, -0.7, 5], [0.8, 0, -6], [0, 0, 1]]


def test_it_batches_and_does_not_follow_the_volume() -> None:
    sample = KeepAffined("mask")({"mask": _volume(3, 3, 3)})
    sample["mask"].affine[0, 3] = 99
    assert sample["mask_affine"][0, 3] == 5
    batch = list_data_collate([sample, KeepAffined("mask")({"mask": _volume(3, 3, 3)})])
    assert batch["mask_affine"].shape == (2, 4, 4) and batch["mask_affine"].dtype == torch.float64
