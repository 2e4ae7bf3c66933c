from __future__ import annotations

import numpy as np
import pytest

from handlers.middle_voxel import middle_voxel


def test_the_voxel_nearest_to_the_middle_is_in_the_nodule():
    labels = np.zeros((12, 12, 3), np.uint8)
    labels[2:9, 2:9, 1] = 4
    labels[3:9, 3:8, 1] = 0  # bent: its middle lies in the notch
    box = slice(1, 10), slice(2, 9), slice(0, 3)
    voxels = np.argwhere(labels == 4)
    distances = np.linalg.norm(voxels - voxels.mean(axis=0), axis=1)
    middle = middle_voxel(labels, box, 4)
    assert labels[tuple(middle)] == 4
    assert np.linalg.norm(middle - voxels.mean(axis=0)) == distances.min()


def test_another_label_in_the_box_does_not_count():
    labels = np.zeros((9, 9), np.uint8)
    labels[:3, :3], labels[6:, 6:] = 1, 2
    everywhere = slice(0, 9), slice(0, 9)
    np.testing.assert_array_equal(middle_voxel(labels, everywhere, 2), [7, 7])


def test_a_box_without_the_label_is_refused():
    with pytest.raises(ValueError, match="must hold a voxel of the label, got none of 3"):
        middle_voxel(np.zeros((4, 4, 4), np.uint8), (slice(0, 2),) * 3, 3)
