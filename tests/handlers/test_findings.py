from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation, Spacing

from handlers.findings import FINDING_KEYS, findings


def _image(affine: np.ndarray, shape: tuple[int, ...]) -> MetaTensor:
    return MetaTensor(torch.zeros(1, *shape), torch.as_tensor(affine))


def _oblique() -> np.ndarray:
    """A third of a right angle about the head's axis; 1 x 2 x 3 mm."""
    turn = np.deg2rad(30)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] = affine[:3, :3] @ np.diag([1.0, 2.0, 3.0])
    affine[:3, 3] = 10, 20, 30
    return affine


def test_values_by_hand_of_a_scan_stored_to_the_left_and_down():
    # The network sees RAS voxels of 2 mm; the scan runs to the left, 1 x 2 x 4 mm a voxel.
    image = _image(np.array([[2.0, 0, 0, -50], [0, 2, 0, -60], [0, 0, 2, -70], [0, 0, 0, 1]]), (9,))
    scan = _image(np.array([[-1.0, 0, 0, 20], [0, 2, 0, -60], [0, 0, 4, -69], [0, 0, 0, 1]]), (9,))
    boxes = torch.tensor([[10.0, 20, 30, 14, 21, 32]])
    (found,) = findings(boxes, torch.tensor([0.75]), image=image, scan=scan)
    # Edge 10 lies at -50 + 2 * (10 - 0.5) = -31, edge 14 at -23.
    assert found == {
        "number": 1,
        "score": 0.75,
        "centre_lps_mm": [27, 20, -9],
        "centre_ras_mm": [-27, -20, -9],
        "size_mm": [8, 2, 4],
        "diameter_mm": 4.667,
        "box_ras_mm": [-27, -20, -9, 8, 2, 4],
        # x of -23 to -31 are centres of voxels 43 to 51, so edges 43.5 to 51.5.
        "box_voxel": [43.5, 20, 15, 51.5, 21, 16],
    }
    assert [*found, "picture"] == list(FINDING_KEYS)


def test_an_oblique_box_grows_to_its_hull_in_the_world_but_not_in_the_scan():
    image = _image(_oblique(), (9, 9, 9))
    (found,) = findings(
        torch.tensor([[2.0, 3, 4, 6, 5, 5]]), torch.ones(1), image=image, scan=image
    )
    corners = np.array(list(itertools.product((1.5, 5.5), (2.5, 4.5), (3.5, 4.5), (1,))))
    world = (corners @ _oblique().T)[:, :3]
    np.testing.assert_allclose(found["size_mm"], np.ptp(world, axis=0), atol=6e-4)
    centre = world.mean(axis=0)
    np.testing.assert_allclose(found["centre_ras_mm"], centre, atol=6e-4)
    np.testing.assert_allclose(found["centre_lps_mm"], centre * [-1, -1, 1], atol=6e-4)
    assert found["box_voxel"] == [2, 3, 4, 6, 5, 5]
    assert found["diameter_mm"] == pytest.approx((4 * 1 + 2 * 2 + 1 * 3) / 3, abs=6e-4)


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_a_box_on_the_networks_grid_comes_back_where_it_is_in_the_scan(codes, oblique):
    """One bright block, seen through MONAI's own reorientation and resampling by two."""
    affine = _oblique() if oblique else np.diag([-1.0, 2, 3, 1])
    array = torch.zeros(1, 20, 16, 12)
    array[0, 6:10, 4:8, 2:4] = 1
    scan = Orientation(axcodes=codes, labels=None)(MetaTensor(array, torch.as_tensor(affine)))
    assert isinstance(scan, MetaTensor)
    prepare = Compose([Orientation("RAS", labels=None), Spacing((0.5, 1, 1.5), mode="nearest")])
    image = prepare(scan)
    inside = np.argwhere(image.numpy()[0] > 0.5)
    box = torch.tensor([*inside.min(axis=0), *(inside.max(axis=0) + 1)])[None].float()
    (found,) = findings(box, torch.ones(1), image=image, scan=scan)
    block = np.argwhere(scan.numpy()[0] > 0.5)
    expected = [*block.min(axis=0), *(block.max(axis=0) + 1)]
    # Half a fine voxel may fall to either side.
    np.testing.assert_allclose(found["box_voxel"], expected, atol=0.5)
    centre = scan.affine.numpy() @ [*block.mean(axis=0), 1]
    assert np.abs(found["centre_ras_mm"] - centre[:3]).max() < 0.8


def test_findings_come_by_falling_score():
    image = _image(np.eye(4), (9, 9, 9))
    boxes = torch.tensor([[0.0, 0, 0, 1, 1, 1], [2, 2, 2, 4, 4, 4], [5, 5, 5, 6, 6, 6]])
    found = findings(boxes, torch.tensor([0.2, 0.9, 0.2]), image=image, scan=image)
    assert [finding["number"] for finding in found] == [1, 2, 3]
    assert [finding["box_voxel"][0] for finding in found] == [2, 0, 5]


def test_no_box_gives_no_finding():
    image = _image(np.eye(4), (9, 9, 9))
    assert findings(torch.zeros(0, 6), torch.zeros(0), image=image, scan=image) == []


def test_a_2d_box():
    # MONAI keeps 4x4 affines of 2D images.
    image = _image(np.diag([-0.5, 0.5, 1, 1]), (9, 9))
    (found,) = findings(torch.tensor([[2.0, 4, 4, 8]]), torch.ones(1), image=image, scan=image)
    assert found["centre_ras_mm"] == [-1.25, 2.75]
    assert found["centre_lps_mm"] == [1.25, -2.75]
    assert found["size_mm"] == [1, 2]
    assert found["diameter_mm"] == 1.5
    assert found["box_voxel"] == [2, 4, 4, 8]


@pytest.mark.parametrize(("name", "at"), [("boxes", float("nan")), ("scores", float("inf"))])
def test_what_is_not_finite_is_refused(name, at):
    image = _image(np.eye(4), (9, 9, 9))
    boxes, scores = torch.tensor([[2.0, 3, 4, 6, 5, 5]]), torch.ones(1)
    (boxes if name == "boxes" else scores).view(-1)[0] = at
    with pytest.raises(ValueError, match=rf"the network's {name} must be finite, got {at}"):
        findings(boxes, scores, image=image, scan=image)
