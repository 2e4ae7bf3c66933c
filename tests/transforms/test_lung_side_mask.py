from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from time import process_time
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.orientations import apply_orientation, inv_ornt_aff

from transforms import LungSideMaskd, ScanError, load_mask, load_scan, lung_side_mask, segment_lungs

ORIENTATIONS = [
    np.array(list(zip(axes, flips, strict=True)))
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def volume(array: np.ndarray, affine: np.ndarray | torch.Tensor) -> MetaTensor:
    values = torch.from_numpy(np.ascontiguousarray(array))[None]
    return MetaTensor(values, torch.as_tensor(affine, dtype=torch.float64))


def dice(ours: np.ndarray | torch.Tensor, theirs: np.ndarray) -> float:
    a, b = np.asarray(ours) > 0, theirs > 0
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def sides(ct: MetaTensor, lungs: np.ndarray) -> list[float]:
    return [
        dice(lung_side_mask(ct, side)[0], lungs == label)
        for side, label in (("left", 1), ("right", 2))
    ]


def test_a_drawn_chest(chest: Any) -> None:
    left, right = (lung_side_mask(chest.ct(), side)[0].numpy() for side in ("left", "right"))
    assert dice(left, chest.lungs == 1) > 0.97 and dice(right, chest.lungs == 2) > 0.97
    assert not (left & right).any()
    assert left[chest.gas].sum() == 0 and right[chest.gas].sum() == 0
    assert (left | right)[chest.airway].mean() < 0.1
    # Its outer cap lies beyond the chord that the closing draws.
    assert right[chest.nodule].mean() > 0.85
    # The touching lungs meet within a voxel of where they were drawn to.
    assert left[48:].sum() < 60 and right[:48].sum() < 60


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: "".join(map(str, o.ravel())))
def test_the_side_is_right_in_every_orientation(chest: Any, orientation: np.ndarray) -> None:
    hu, lungs = (apply_orientation(array, orientation) for array in (chest.hu, chest.lungs))
    affine = chest.affine @ inv_ornt_aff(orientation, chest.hu.shape)
    ct = volume(hu, affine)
    mask = lung_side_mask(ct, "left")
    assert mask.shape == ct.shape and mask.dtype == torch.uint8 and np.allclose(mask.affine, affine)
    assert dice(mask[0], lungs == 1) > 0.97


def test_thick_slices_give_the_same_lungs_however_the_axes_stand(chest: Any) -> None:
    thick = np.ascontiguousarray(chest.hu[:, :, ::2])
    affine = chest.affine @ np.diag([1, 1, 2, 1])
    straight = lung_side_mask(volume(thick, affine), "right")[0].numpy()
    orientation = np.array([[1, -1], [2, 1], [0, 1]])
    turned = volume(
        apply_orientation(thick, orientation), affine @ inv_ornt_aff(orientation, thick.shape)
    )
    mask = lung_side_mask(turned, "right")[0].numpy()
    assert np.array_equal(mask, apply_orientation(straight, orientation))


def test_both_and_unknown_are_the_union(chest: Any) -> None:
    ct = chest.ct()
    left, right, both = (lung_side_mask(ct, side) for side in ("left", "right", "both"))
    assert torch.equal(both, left | right) and torch.equal(lung_side_mask(ct, "unknown"), both)


def test_finer_voxels_and_sizes_that_do_not_divide(chest: Any) -> None:
    fine = np.repeat(np.repeat(chest.hu, 3, 0), 2, 2)[:-2, :, 1:]
    lungs = np.repeat(np.repeat(chest.lungs, 3, 0), 2, 2)[:-2, :, 1:]
    affine = chest.affine @ np.diag([1 / 3, 1, 1 / 2, 1])
    assert min(sides(volume(fine, affine), lungs)) > 0.96


@pytest.mark.parametrize(
    ("label", "missing", "other"), [(1, "left", "right"), (2, "right", "left")]
)
def test_a_white_lung_is_empty_and_gas_does_not_take_its_place(
    chest: Any, label: int, missing: str, other: str
) -> None:
    hu = np.where(chest.lungs == label, 30, chest.hu)
    ct = volume(hu, chest.affine)
    assert not lung_side_mask(ct, missing).any()
    assert dice(lung_side_mask(ct, other)[0], chest.lungs == 3 - label) > 0.96


def test_an_effusion_leaves_the_upper_lung(chest: Any) -> None:
    level = np.arange(chest.hu.shape[2]) < 30
    water = (chest.lungs == 2) & level
    lungs = np.where(water, 0, chest.lungs)
    assert min(sides(volume(np.where(water, 15, chest.hu), chest.affine), lungs)) > 0.95


@pytest.mark.parametrize("hu", [40.0, -1000.0, -850.0])
def test_no_lung_gives_an_empty_mask(hu: float) -> None:
    ct = volume(np.full((30, 20, 10), hu, np.float32), np.diag([4.0, 4, 4, 1]))
    for side in ("left", "right", "both", "unknown"):
        assert not lung_side_mask(ct, side).any()


def test_refuses_other_words_and_dimensions(chest: Any) -> None:
    ct = chest.ct()
    ct.meta["filename_or_obj"] = "scan.nii"
    with pytest.raises(ScanError, match=r"scan\.nii: side must be one of left, .*, got 'links'"):
        lung_side_mask(ct, "links")
    with pytest.raises(ScanError, match=r"shape \(1, H, W, D\), got \(1, 96, 72\)"):
        lung_side_mask(MetaTensor(ct.as_tensor()[..., 0], ct.affine), "left")


def test_the_map_takes_the_side_from_the_sample(chest: Any) -> None:
    ct, transform = chest.ct(), LungSideMaskd()
    for side in ("left", "right", "both", "unknown"):
        out = transform({"image": ct, "side": side})["side_mask"]
        assert torch.equal(out, lung_side_mask(ct, side))
    none = transform({"image": ct, "side": "none"})["side_mask"]
    assert none.shape == ct.shape and not none.any() and none.dtype == torch.uint8
    with pytest.raises(ScanError, match=r"side must be one of .*, none, got 'links'"):
        transform({"image": ct, "side": "links"})


def test_the_map_prefers_a_given_label_map(chest: Any) -> None:
    ct = chest.ct()
    transform = LungSideMaskd(lungs_key="lungs", output_key="lung")
    given = volume(chest.lungs, chest.affine)
    out = transform({"image": ct, "side": "right", "lungs": given})["lung"]
    assert np.array_equal(out[0].numpy(), chest.lungs == 2) and out.dtype == torch.uint8
    without = transform({"image": ct, "side": "right"})["lung"]
    assert torch.equal(without, lung_side_mask(ct, "right"))
    with pytest.raises(ScanError, match="affine must be that of"):
        transform({"image": ct, "side": "right", "lungs": volume(chest.lungs, np.eye(4))})


def test_the_last_resort_is_the_half_of_the_body(
    chest: Any, caplog: pytest.LogCaptureFixture
) -> None:
    solid = volume(np.where(chest.hu < -400, 40, chest.hu).astype(np.float32), chest.affine)
    padded = solid.clone()
    padded[:, :4] = -1000
    masks = {}
    with caplog.at_level(logging.WARNING):
        for side in ("left", "right", "unknown"):
            masks[side] = LungSideMaskd()({"image": padded, "side": side})["side_mask"][0]
    assert len(caplog.records) == 3 and "the body's half is used" in caplog.text
    assert masks["left"].nonzero()[:, 0].max() < masks["right"].nonzero()[:, 0].min()
    assert torch.equal(masks["unknown"] > 0, padded.as_tensor()[0] > -400)


def test_real_lungs_with_reference(shared_data: Path) -> None:
    ct = load_scan(shared_data / "cip" / "ct-64.nii.gz")
    lungs = load_mask(shared_data / "cip" / "ct-64_lung_L1_R2.nii.gz")[0].numpy()
    assert min(sides(ct, lungs)) >= 0.97
    for orientation in ORIENTATIONS[5::13]:
        affine = ct.affine.numpy() @ inv_ornt_aff(orientation, ct.shape[1:])
        turned = volume(apply_orientation(ct[0].numpy(), orientation), affine)
        assert (
            dice(lung_side_mask(turned, "left")[0], apply_orientation(lungs, orientation) == 1)
            > 0.97
        )


def test_real_nodules_lie_in_the_right_lung(shared_data: Path) -> None:
    ct = load_scan(shared_data / "lidc1011" / "LIDC-IDRI-1011.nii.gz")
    text = (shared_data / "lidc1011" / "LIDC-IDRI-1011_nodules.json").read_text()
    nodules = load_mask(shared_data / "lidc1011" / "LIDC-IDRI-1011_nodules_consensus50.nii.gz")
    masks = {side: lung_side_mask(ct, side) for side in ("left", "right")}
    world_to_voxel = torch.linalg.inv(ct.affine)
    for nodule in json.loads(text):
        x, y, z = nodule["centre_LPS_mm"]
        voxel = world_to_voxel @ torch.tensor([-x, -y, z, 1.0], dtype=torch.float64)
        side, other = ("left", "right") if x > 0 else ("right", "left")
        assert masks[side][(0, *voxel[:3].round().long().tolist())]
        inside = nodules.as_tensor() == nodule["label"]
        assert masks[side].as_tensor()[inside].float().mean() > 0.95
        assert not masks[other].as_tensor()[inside].any()


def test_real_series_with_a_tumour(shared_data: Path, tmp_path: Path) -> None:
    with ZipFile(shared_data / "lung-pet-ct-dx" / "A0001_series3_5mm.zip") as archive:
        archive.extractall(tmp_path)
    lungs = segment_lungs(load_scan(next(path.parent for path in tmp_path.rglob("*.dcm"))))
    voxel_ml = float(lungs.affine[:3, :3].det().abs()) / 1000
    left_ml, right_ml = (float((lungs == label).sum()) * voxel_ml for label in (1, 2))
    assert 2000 < left_ml < right_ml < 4000


def test_full_size_at_feature_resolution_is_quick(chest: Any) -> None:
    size = (512, 512, 200)
    scale = np.array(chest.hu.shape) / size
    index = [np.arange(n) * m // n for n, m in zip(size, chest.hu.shape, strict=True)]
    big = volume(chest.hu[np.ix_(*index)], chest.affine @ np.diag([*scale, 1]))
    start = process_time()
    lungs = segment_lungs(big)
    # Far above what it takes, so that a busy machine does not fail it.
    assert process_time() - start < 5 and set(lungs.unique().tolist()) == {0, 1, 2}
