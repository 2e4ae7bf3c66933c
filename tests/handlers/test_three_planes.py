from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from monai.data import MetaTensor

from handlers import three_planes
from handlers.lps_planes import PLANE_VIEWS, LpsPlanes

SPACING_MM = np.array([2.0, 3.0, 5.0])
SHAPE = (30, 24, 16)
# Towards the patient's right, front and head of the centre; index in the RAS array.
MARKER = (22, 18, 12)


def _ras_image() -> nib.Nifti1Image:
    array = np.full(SHAPE, -1000, np.int16)
    array[tuple(slice(step - 1, step + 2) for step in MARKER)] = 200
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = -30, -35, -40
    return nib.Nifti1Image(array, affine)


def _oriented(codes: str) -> MetaTensor:
    image = _ras_image()
    wanted = nib.orientations.axcodes2ornt(codes)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)
    )
    assert "".join(nib.aff2axcodes(turned.affine)) == codes
    return MetaTensor(
        torch.tensor(np.ascontiguousarray(turned.dataobj))[None], affine=turned.affine
    )


def _brightest(scan: MetaTensor) -> tuple[int, ...]:
    return tuple(np.argwhere(scan.numpy()[0] == 200).mean(axis=0).round().astype(int))


def _panels(path: Path) -> np.ndarray:
    """The picture without its header and footer, which name the voxel."""
    return imread(path)[70:-45, :, :3]


@pytest.mark.parametrize("codes", ["RAS", "LAS", "RPI", "LPS", "SAL", "PIR"])
def test_the_planes_are_those_of_a_naive_lookup_in_world_coordinates(codes):
    scan = _oriented(codes)
    planes = LpsPlanes(scan.affine.numpy(), tuple(scan.shape[1:]))
    point_mm = planes.millimetres(np.array(_brightest(scan)) + 0.5)
    ras = np.asarray(_ras_image().dataobj)
    right, front, head = MARKER
    expected = {
        "axial": ras[::-1, ::-1, head].T,  # rows from front to back, columns from right to left
        "coronal": ras[::-1, front, :].T,  # rows from feet to head
        "sagittal": ras[right, ::-1, :].T,
    }
    np.testing.assert_allclose(planes.size_mm, np.array(SHAPE) * SPACING_MM)
    for view in PLANE_VIEWS:
        found = planes.cut(scan.numpy()[0], view, point_mm)
        np.testing.assert_array_equal(found, expected[view.name])


@pytest.mark.parametrize("codes", ["LAS", "RPI", "SAL"])
def test_the_picture_is_the_same_for_every_orientation(codes, tmp_path):
    for name in ("RAS", codes):
        scan = _oriented(name)
        three_planes(scan, _brightest(scan), tmp_path / f"{name}.png")
    np.testing.assert_allclose(
        _panels(tmp_path / f"{codes}.png"), _panels(tmp_path / "RAS.png"), atol=0.02
    )


def test_the_patients_right_is_on_the_left_and_the_front_and_the_head_on_top(tmp_path):
    scan = _oriented("RPI")
    three_planes(scan, _brightest(scan), tmp_path / "x.png")
    picture = imread(tmp_path / "x.png")[70:-45, :, :3]
    # Only the marker is white, letters aside; the axial panel is the left third or so.
    axial = picture[:, : picture.shape[1] * 60 // 210].min(axis=2)
    inner = axial[40:-40, 40:-40] > 0.95
    rows, columns = np.nonzero(inner)
    assert rows.mean() < inner.shape[0] / 2
    assert columns.mean() < inner.shape[1] / 2


def test_an_oblique_scan_is_shown_along_its_nearest_axes(tmp_path):
    scan = _oriented("LAS")
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique = MetaTensor(scan.as_tensor(), affine=torch.tensor(turn) @ scan.affine)
    planes = LpsPlanes(oblique.affine.numpy(), tuple(scan.shape[1:]))
    np.testing.assert_allclose(planes.spacing_mm, SPACING_MM)
    three_planes(oblique, _brightest(scan), tmp_path / "oblique.png")
    three_planes(scan, _brightest(scan), tmp_path / "straight.png")
    np.testing.assert_allclose(
        _panels(tmp_path / "oblique.png"), _panels(tmp_path / "straight.png"), atol=0.02
    )


def test_one_millimetre_has_one_length_in_all_panels(tmp_path):
    scan = _oriented("RAS")
    three_planes(scan, _brightest(scan), tmp_path / "x.png")
    height, width = imread(tmp_path / "x.png").shape[:2]
    size_mm = np.array(SHAPE) * SPACING_MM  # 60 x 72 x 80
    pixel_per_mm = (width - 4 * 12) / (2 * size_mm[0] + size_mm[1])
    assert height == pytest.approx(size_mm[2] * pixel_per_mm + 96, abs=2)


def test_the_overlay_colours_only_its_high_part(tmp_path):
    scan = _oriented("RAS")
    heat = torch.full((1, *SHAPE), 0.2)
    h, w, d = MARKER
    heat[0, h - 2 : h + 3, w - 2 : w + 3, d - 2 : d + 3] = 1.0
    overlay = MetaTensor(heat, affine=scan.affine)
    three_planes(scan, MARKER, tmp_path / "with.png", overlay=overlay)
    three_planes(scan, MARKER, tmp_path / "without.png")
    difference = _panels(tmp_path / "with.png") - _panels(tmp_path / "without.png")
    changed = np.abs(difference).max(axis=2) > 0.02
    # 5 to 6 cells (smooth edges) of 2 x 3, 2 x 5 and 3 x 5 mm in a picture of 192 x 80 mm.
    share_of_one_cell = (2 * 3 + 2 * 5 + 3 * 5) / (192 * 80)
    assert 5**2 * 0.9 < changed.mean() / share_of_one_cell < 6**2


@pytest.mark.parametrize(("value", "overlay_from"), [(0.0, 0.0), (1.9, 2.0)])
def test_an_empty_or_weak_overlay_leaves_the_planes_as_they_are(value, overlay_from, tmp_path):
    scan = _oriented("RAS")
    weak = MetaTensor(torch.full((1, *SHAPE), value), affine=scan.affine)
    three_planes(scan, MARKER, tmp_path / "with.png", overlay=weak, overlay_from=overlay_from)
    three_planes(scan, MARKER, tmp_path / "without.png")
    np.testing.assert_array_equal(_panels(tmp_path / "with.png"), _panels(tmp_path / "without.png"))
    assert (imread(tmp_path / "with.png") != imread(tmp_path / "without.png")).any()


def _lime(path: Path) -> np.ndarray:
    picture = imread(path)
    return picture[..., 1] - np.maximum(picture[..., 0], picture[..., 2]) > 0.3


def test_a_box_is_outlined_where_the_planes_cut_it(tmp_path):
    scan = _oriented("LAS")
    point = np.array(_brightest(scan))
    through = [*(point - 3), *(point + 4)]
    three_planes(scan, point, tmp_path / "cut.png", boxes_voxel=[through])
    three_planes(scan, point, tmp_path / "far.png", boxes_voxel=[(0, 0, 0, 2, 2, 2)])
    assert _lime(tmp_path / "cut.png").sum() > 300
    assert not _lime(tmp_path / "far.png").any()
    # The axial outline is centred on the axial cross hair: 7 x 7 cells of 2 x 3 mm.
    rows, columns = np.nonzero(_lime(tmp_path / "cut.png")[:, :430])
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(2 / 3, abs=0.03)


def test_a_2d_image_gives_one_panel(tmp_path):
    image = MetaTensor(
        torch.rand(1, 40, 30) * 100, affine=torch.diag(torch.tensor([-1.0, -1, 1, 1]))
    )
    three_planes(image, (10, 20), tmp_path / "x.png", overlay=image, window=(0, 100))
    height, width = imread(tmp_path / "x.png").shape[:2]
    assert height == 800 + 96
    assert width == pytest.approx(800 * 40 / 30 + 24, abs=1)


@pytest.mark.parametrize("point", [(30, 0, 0), (0, -1, 0), (0, 0)])
def test_a_point_outside_the_scan_is_refused(point, tmp_path):
    with pytest.raises(ValueError, match=r"point_voxel must lie inside the scan of shape \(30, 24"):
        three_planes(_oriented("RAS"), point, tmp_path / "x.png")


def test_an_overlay_of_another_shape_is_refused(tmp_path):
    overlay = MetaTensor(torch.zeros(1, 2, 2, 2))
    with pytest.raises(ValueError, match=r"overlay must have the scan's shape .* got \(2, 2, 2\)"):
        three_planes(_oriented("RAS"), MARKER, tmp_path / "x.png", overlay=overlay)


def test_boxes_found_are_dashed_and_of_another_colour(tmp_path):
    scan = _oriented("LAS")
    point = np.array(_brightest(scan))
    through = [*(point - 3), *(point + 4)]
    three_planes(scan, point, tmp_path / "true.png", boxes_voxel=[through])
    three_planes(scan, point, tmp_path / "found.png", found_voxel=[through])
    three_planes(scan, point, tmp_path / "far.png", found_voxel=[(0, 0, 0, 2, 2, 2)])
    assert not _lime(tmp_path / "found.png").any()
    dashes = _magenta(tmp_path / "found.png")
    assert 0.4 < dashes.sum() / _lime(tmp_path / "true.png").sum() < 0.9
    assert not _magenta(tmp_path / "far.png").any()


def _magenta(path: Path) -> np.ndarray:
    picture = imread(path)
    return np.minimum(picture[..., 0], picture[..., 2]) - picture[..., 1] > 0.3


def _cube_mask(scan: MetaTensor, half: int) -> torch.Tensor:
    mask = torch.zeros(scan.shape, dtype=torch.uint8)
    cube = tuple(slice(step - half, step + half + 1) for step in _brightest(scan))
    mask[0].numpy()[cube] = 3
    return mask


def test_a_mask_is_outlined_as_the_box_that_it_fills(tmp_path):
    scan = _oriented("SAL")
    point = np.array(_brightest(scan))
    box = [*(point - 3), *(point + 4)]
    three_planes(scan, point, tmp_path / "box.png", boxes_voxel=[box])
    three_planes(scan, point, tmp_path / "mask.png", mask=_cube_mask(scan, half=3))
    expected = _lime(tmp_path / "box.png")[:-46]
    whole = _lime(tmp_path / "mask.png")[: len(expected)]
    for axis in (0, 1):  # the ends of all three outlines
        ends, wanted = (np.flatnonzero(one.any(axis=axis))[[0, -1]] for one in (whole, expected))
        np.testing.assert_allclose(ends, wanted, atol=2)


def test_a_mask_has_a_close_up_of_60_mm_below(tmp_path):
    scan = _oriented("RAS")
    three_planes(scan, MARKER, tmp_path / "mask.png", mask=_cube_mask(scan, half=2))
    three_planes(scan, MARKER, tmp_path / "plain.png")
    height, width = imread(tmp_path / "plain.png").shape[:2]
    side = (width - 4 * 12) / 3
    lime = _lime(tmp_path / "mask.png")
    assert lime.shape == (pytest.approx(height + side + 12, abs=2), width)
    rows, columns = np.nonzero(lime[height:-36, : int(side) + 12])  # the axial close-up
    assert np.ptp(columns) == pytest.approx(5 * SPACING_MM[0] / 60 * side, abs=4)
    assert np.ptp(rows) == pytest.approx(5 * SPACING_MM[1] / 60 * side, abs=4)
    assert columns.mean() == pytest.approx(12 + side / 2, abs=3)


def test_the_mask_found_is_dashed_and_of_another_colour(tmp_path):
    scan = _oriented("LAS")
    mask = _cube_mask(scan, half=3)
    three_planes(scan, _brightest(scan), tmp_path / "mask.png", mask=mask)
    three_planes(scan, _brightest(scan), tmp_path / "found_mask.png", found_mask=mask)
    assert not _lime(tmp_path / "found_mask.png").any()
    assert not _magenta(tmp_path / "mask.png").any()
    dashes, line = _magenta(tmp_path / "found_mask.png"), _lime(tmp_path / "mask.png")
    assert 0.4 < dashes.sum() / line.sum() < 0.9


def test_a_mask_that_the_planes_do_not_cut_or_that_is_empty_has_no_outline(tmp_path):
    scan = _oriented("RAS")
    mask = torch.zeros(scan.shape, dtype=torch.bool)
    three_planes(scan, MARKER, tmp_path / "empty.png", mask=mask)
    mask[0, :2, :2, :2] = True
    three_planes(scan, MARKER, tmp_path / "far.png", mask=mask)
    assert not _lime(tmp_path / "empty.png").any() and not _lime(tmp_path / "far.png").any()


def test_a_2d_mask_at_the_images_border(tmp_path):
    image = MetaTensor(torch.rand(1, 40, 30), affine=torch.diag(torch.tensor([-1.0, -1, 1, 1])))
    mask = torch.zeros(1, 40, 30)
    mask[0, :4, 26:] = 1
    three_planes(image, (0, 29), tmp_path / "x.png", mask=mask, window=(0, 1))
    assert _lime(tmp_path / "x.png").sum() > 300


def test_a_mask_of_another_shape_is_refused(tmp_path):
    scan, small = _oriented("RAS"), torch.zeros(1, 2, 2, 2)
    with pytest.raises(ValueError, match=r"^mask must have the scan's shape .* got \(2, 2, 2\)"):
        three_planes(scan, MARKER, tmp_path / "x.png", mask=small)
    with pytest.raises(ValueError, match=r"^found_mask must have the scan's shape"):
        three_planes(scan, MARKER, tmp_path / "x.png", found_mask=small)
