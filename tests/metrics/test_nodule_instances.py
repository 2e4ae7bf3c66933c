from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import find_objects, label

from metrics.nodule_instances import SPECK_MM3, nodule_instances


def test_instances_are_those_of_scipy_largest_first() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((30, 28, 26)) > 0.97
    mask[5:9, 5:9, 5:9] = mask[15:18, 15:18, 15:20] = True
    found, count = label(mask, np.ones((3, 3, 3)))
    boxes = find_objects(found)
    sizes = np.bincount(found.ravel())[1:]
    kept = [i for i in np.argsort(-sizes, kind="stable") if sizes[i] * 2 >= SPECK_MM3]
    assert 2 < len(kept) < count
    instances = nodule_instances(mask, (1, 1, 2))
    assert len(instances.boxes) == len(kept)
    assert sorted(map(str, instances.boxes)) == sorted(str(boxes[i]) for i in kept)
    voxels = np.bincount(instances.labels.ravel())[1:]
    assert voxels.tolist() == sizes[kept].tolist()
    for number, box in enumerate(instances.boxes, start=1):
        same = instances.labels == number
        assert find_objects(same.astype(int))[0] == box
        # One component each: what scipy gave one label.
        assert len(np.unique(found[same])) == 1


def test_a_corner_joins_and_one_empty_plane_parts() -> None:
    mask = np.zeros((12, 12, 12), dtype=np.uint8)
    mask[0:3, 0:3, 0:3] = mask[3:6, 3:6, 3:6] = 1
    assert len(nodule_instances(mask, (1, 1, 1)).boxes) == 1
    mask[:] = 0
    mask[0:3, 0:3, 0:3] = mask[4:7, 0:3, 0:3] = mask[9:12, 9:12, 9:12] = 1
    assert len(nodule_instances(mask, (1, 1, 1)).boxes) == 3


def test_specks_go_by_volume() -> None:
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[2:4, 2:4, 2:5] = True
    assert round(SPECK_MM3, 3) == 14.137
    assert nodule_instances(mask, (1, 1, 1)).boxes == ()
    assert len(nodule_instances(mask, (1, 1, 1.25)).boxes) == 1


def test_of_more_than_the_labels_can_number_the_largest_stay() -> None:
    mask = np.zeros((82, 82, 82), dtype=bool)
    mask[::2, ::2, ::2] = True
    mask[-2:, -2:, -2:] = True  # the last one is the largest
    labels, boxes = nodule_instances(mask, (3, 3, 3))
    assert mask.sum() - 7 > 65_535 == len(boxes) == labels.max()
    assert boxes[0] == (slice(80, 82),) * 3


def test_an_empty_mask_has_none() -> None:
    labels, boxes = nodule_instances(np.zeros((4, 5, 6), dtype=bool), (1, 1, 1))
    assert boxes == ()
    assert labels.shape == (4, 5, 6) and labels.dtype == np.uint16 and not labels.any()


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, np.nan, 1), (1, 1), (1, 1, -2)])
def test_bad_spacing_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="spacing_mm must be three finite numbers above 0"):
        nodule_instances(np.ones((3, 3, 3), dtype=bool), spacing)


def test_other_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="mask must hold 0 and 1 only, got 0 to 2"):
        nodule_instances(np.arange(27).reshape(3, 3, 3) % 3, (1, 1, 1))
    with pytest.raises(ValueError, match=r"mask must be \(H, W, D\), got shape \(3, 3\)"):
        nodule_instances(np.ones((3, 3)), (1, 1, 1))
