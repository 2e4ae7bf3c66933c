from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms import (
    PadStoredd,
    ReadStoredd,
    ScanError,
    StoredVolume,
    compressed_volume,
    crop_volume,
    stored_regions,
)

META = {"filename_or_obj": "scan.nii.gz"}


def hu_volume(shape: tuple[int, ...], affine: np.ndarray | None = None) -> MetaTensor:
    values = np.random.default_rng(5).normal(-800, 200, (1, *shape)).astype(np.float32)
    matrix = np.diag([0.7, 0.8, 2.5, 1.0]) if affine is None else affine
    return MetaTensor(torch.from_numpy(values), torch.from_numpy(matrix), dict(META))


def stored(volume: MetaTensor, path: Path) -> StoredVolume:
    path.write_bytes(compressed_volume(volume))
    shape, regions = tuple(volume.shape[1:]), tuple(stored_regions(volume))
    affine, dtype = volume.affine.clone(), str(volume.dtype).removeprefix("torch.")
    return StoredVolume(path, affine, shape, regions, dtype, META["filename_or_obj"])


@pytest.mark.parametrize("shape", [(70, 90, 130), (64, 64, 64), (5, 3, 1), (600, 40)])
def test_a_crop_is_the_slice_of_the_whole(shape: tuple[int, ...], tmp_path: Path) -> None:
    volume = hu_volume(shape)
    disk = stored(volume, tmp_path / "a.b2nd")
    assert (disk.shape, disk.ndim, disk.meta) == (volume.shape, volume.ndim, META)
    expected: Any = volume if len(shape) == 2 else volume.round()
    assert torch.equal(disk.whole().as_tensor(), expected.as_tensor())
    rng = np.random.default_rng(1)
    for _ in range(40):
        # Reaching over the border too, which MONAI cuts.
        start = rng.integers(-3, shape)
        stop = start + rng.integers(1, 100, len(shape))
        patch: Any = crop_volume(disk, start, stop)
        other: Any = crop_volume(expected, start, stop)
        assert patch.dtype == other.dtype == torch.float32
        assert torch.equal(patch.as_tensor(), other.as_tensor())
        torch.testing.assert_close(patch.affine, other.affine, rtol=0, atol=1e-12)


def test_a_voxel_stays_at_its_place_in_every_orientation(tmp_path: Path) -> None:
    base = nib.Nifti1Image(np.zeros((20, 24, 28), np.int16), np.diag([0.7, 0.8, 2.5, 1]))
    base.affine[:3, 3] = (-31, 17, 900)
    axes, flips = itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)
    for order, signs in itertools.product(axes, list(flips)):
        turned = base.as_reoriented(np.column_stack([order, signs]))
        volume = hu_volume(turned.shape, turned.affine)
        volume[0, 9, 11, 13] = 3000
        patch = stored(volume, tmp_path / "a.b2nd").crop([4, 6, 8], [14, 16, 18])
        place = np.argwhere(patch.as_tensor()[0].numpy() == 3000)[0]
        np.testing.assert_allclose(
            patch.affine.numpy() @ [*place, 1], turned.affine @ [9, 11, 13, 1], atol=1e-9
        )


def test_labels_keep_their_type_and_an_empty_mask_takes_next_to_nothing(tmp_path: Path) -> None:
    mask = MetaTensor(torch.zeros((1, 100, 100, 100), dtype=torch.int16), torch.eye(4).double())
    disk = stored(mask, tmp_path / "a.b2nd")
    assert disk.path.stat().st_size < 2000 and disk.regions == ()
    assert not disk.whole().any() and disk.whole().dtype == torch.int16


def test_of_a_label_map_no_more_than_the_boxes_of_its_labels_is_read(tmp_path: Path) -> None:
    mask = MetaTensor(torch.zeros((1, 60, 50, 40), dtype=torch.int16), torch.eye(4).double())
    rng = np.random.default_rng(2)
    for label in (1, 2, 300):
        start = rng.integers(0, (40, 30, 20))
        size = rng.integers(3, 20, 3)
        box = tuple(map(slice, start, start + size))
        mask[0][box] = torch.from_numpy(rng.integers(0, 2, size) * label).to(torch.int16)
    mask[0, 59, 49, 39] = 5
    disk = stored(mask, tmp_path / "a.b2nd")
    assert len(disk.regions) == 4 and ((59, 49, 39), (60, 50, 40)) in disk.regions
    assert torch.equal(disk.whole().as_tensor(), mask.as_tensor())
    for _ in range(60):
        start = rng.integers(0, (50, 40, 30))
        stop = start + rng.integers(1, 30, 3)
        patch = disk.crop(start, stop)
        expected = mask.as_tensor()[(slice(None), *map(slice, start, stop))]
        assert torch.equal(patch.as_tensor(), expected) and patch.dtype == torch.int16
    disk.path.unlink()
    assert not disk.crop([57, 0, 0], [60, 3, 3]).any()
    with pytest.raises(ValueError, match=r"a label map .* must be padded with 0, got -1"):
        disk.padded((70, 50, 40), -1)


def test_a_ct_of_integers_is_no_label_map() -> None:
    volume = MetaTensor(torch.tensor([[[-1000, 3], [0, 40]]], dtype=torch.int16))
    assert stored_regions(volume) == [((0, 0), (2, 2))]


def test_padding_is_that_of_the_array_and_is_not_stored(tmp_path: Path) -> None:
    volume = hu_volume((20, 70, 30))
    volume.round_()
    sample: dict[Any, Any] = {"image": stored(volume, tmp_path / "a.b2nd")}
    padded = PadStoredd("image", (32, 32, 64), -1000)(sample)
    assert padded["image"].shape == (1, 32, 70, 64) and sample["image"].shape == volume.shape
    assert padded["image"].padded((40, 1, 1), -1000).shape == (1, 40, 70, 64)
    with pytest.raises(ValueError, match="must be padded with -1000, got 0"):
        padded["image"].padded((40, 1, 1), 0)
    expected = np.pad(volume.numpy()[0], ((0, 12), (0, 0), (0, 34)), constant_values=-1000)
    np.testing.assert_array_equal(ReadStoredd("image")(padded)["image"].numpy()[0], expected)
    for start in ([0, 5, 0], [15, 0, 29], [20, 0, 0], [3, 3, 40]):
        patch = padded["image"].crop(start, np.add(start, 8))
        np.testing.assert_array_equal(
            patch.numpy()[0], expected[tuple(slice(i, i + 8) for i in start)]
        )


def test_it_travels_to_other_processes(tmp_path: Path) -> None:
    volume = hu_volume((20, 21, 22))
    volume.round_()
    copy = pickle.loads(pickle.dumps(stored(volume, tmp_path / "a.b2nd")))
    assert torch.equal(copy.crop([1, 2, 3], [9, 9, 9]).as_tensor(), volume[:, 1:9, 2:9, 3:9])


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1000.0, 40000.0), (-1000.0, np.nan)])
def test_what_is_no_hu_is_not_rounded(low: float, high: float) -> None:
    volume = hu_volume((4, 4, 4))
    volume[:] = low
    volume[0, 0, 0, 0] = high
    with pytest.raises(ScanError, match=r"scan.nii.gz: a CT to store must be in HU"):
        compressed_volume(volume)


def test_two_channels_are_refused() -> None:
    with pytest.raises(ScanError, match=r"must have shape .* got \(2, 4, 4, 4\)"):
        compressed_volume(MetaTensor(torch.zeros(2, 4, 4, 4)))
