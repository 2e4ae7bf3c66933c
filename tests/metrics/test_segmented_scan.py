from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest
from scipy import ndimage

from metrics import SegmentedNodule, segmented_scan
from metrics.surface_distance import surface_distance

_AFFINE = np.diag([-0.5, -1.0, 2.0, 1])
_AFFINE[:3, 3] = [100, 50, -200]


def _cubes(shape, *corners_and_sides):
    labels = np.zeros(shape, dtype=np.int16)
    for number, (corner, side) in enumerate(corners_and_sides, start=1):
        labels[tuple(slice(c, c + s) for c, s in zip(corner, side, strict=True))] = number
    return labels


def _ball(shape, centre_mm, radius_mm, spacing_mm):
    places = np.indices(shape).reshape(len(shape), -1).T * spacing_mm
    return (np.linalg.norm(places - centre_mm, axis=1) <= radius_mm).reshape(shape)


def test_a_cube_shifted_by_one_voxel_and_a_false_one_by_hand():
    truth = _cubes((40, 30, 20), ((4, 4, 4), (8, 4, 3)), ((30, 20, 10), (6, 6, 6)))
    predicted = _cubes((40, 30, 20), ((6, 4, 4), (8, 4, 3)), ((20, 4, 14), (4, 5, 4))) > 0
    scan = segmented_scan(truth, predicted, _AFFINE, patient_id="p")
    first, second = scan.nodules
    assert (scan.patient_id, first.instance, second.instance) == ("p", 1, 2)
    # 96 and 216 voxels of 1 mm3; of the first 72 are predicted.
    assert (first.volume_mm3, first.predicted_mm3, second.volume_mm3) == (96, 96, 216)
    assert (first.found, first.dice, first.volume_error_percent) == (True, 0.75, 0)
    assert (second.found, second.dice, second.predicted_mm3) == (False, 0, 0)
    assert second.surface_distance_mm is second.hausdorff_95_mm is None
    assert second.volume_error_percent is None
    assert first.diameter_mm == pytest.approx((6 * 96 / math.pi) ** (1 / 3))
    assert (first.size_class, second.size_class) == ("under_6_mm", "6_to_8_mm")
    # The middles of voxels 4 to 11, 4 to 7 and 4 to 6; LPS turns x and y of RAS.
    assert first.centre_lps_mm == pytest.approx((-(100 - 3.75), -(50 - 5.5), -200 + 10))
    # Of 84 surface voxels the end's 12 are off by two steps of 0.5 mm, the next 10 by one, and
    # the middle 2 of the other end, inside the shifted cube, by one of 1 mm.
    assert first.surface_distance_mm == pytest.approx(19 / 84)
    assert first.hausdorff_95_mm == 1
    assert (scan.components, scan.false_components) == (2, 1)
    assert (scan.predicted_mm3, scan.false_mm3) == (96 + 80, 80)
    assert scan.dice == pytest.approx(2 * 72 / (96 + 216 + 96 + 80))


@pytest.mark.parametrize(("side", "found"), [(10, True), (11, False)])
def test_a_nodule_is_found_from_an_iou_of_a_tenth(side, found):
    truth = _cubes((20, 20, 20), ((4, 4, 4), (4, 4, 4)))
    predicted = _cubes((20, 20, 20), ((4, 4, 4), (4, 16, side))) > 0  # 64 of 640, or of 704
    (nodule,) = segmented_scan(truth, predicted, np.eye(4), patient_id="p").nodules
    assert nodule.found is found
    assert nodule.dice == pytest.approx(128 / (64 + 64 * side))
    assert (nodule.volume_error_percent is None) is not found


def test_two_nodules_in_one_component_share_it():
    # A cube of 4 and one of 6, four voxels apart; a bar of 4 x 4 joins them.
    truth = _cubes((30, 12, 12), ((4, 2, 2), (4, 4, 4)), ((12, 2, 2), (6, 6, 6)))
    predicted = truth > 0
    predicted[8:12, 2:6, 2:6] = True
    scan = segmented_scan(truth, predicted, np.eye(4), patient_id="p")
    assert (scan.components, scan.false_components) == (1, 0)
    # Off the spheres (centre 5.5, 3.5, 3.5 and 14.5, 4.5, 4.5, radius 2.48 and 3.72) the gap's
    # columns are: 8 and 9 nearer to the first, 10 and 11 nearer to the second.
    assert [nodule.predicted_mm3 for nodule in scan.nodules] == [64 + 32, 216 + 32]
    assert [nodule.dice for nodule in scan.nodules] == [128 / 160, 432 / 464]


def test_touching_nodules_that_are_predicted_as_one_are_both_whole():
    truth = _cubes((30, 12, 12), ((4, 2, 2), (4, 4, 4)), ((8, 2, 2), (9, 7, 6)))
    scan = segmented_scan(truth, truth > 0, np.eye(4), patient_id="p")
    assert [nodule.dice for nodule in scan.nodules] == [1, 1]
    assert [nodule.surface_distance_mm for nodule in scan.nodules] == [0, 0]


def test_two_components_of_one_nodule_count_together():
    truth = _cubes((30, 12, 12), ((4, 2, 2), (10, 4, 4)))
    predicted = truth > 0
    predicted[8:10] = False
    scan = segmented_scan(truth, predicted, np.eye(4), patient_id="p")
    assert (scan.components, scan.false_components) == (2, 0)
    assert scan.nodules[0].predicted_mm3 == 128
    assert scan.nodules[0].volume_error_percent == pytest.approx(-20)


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 1.25), (0.8, 0.6, 3.0)])
def test_digital_spheres_have_their_volume_and_distance(spacing):
    shape, middle = (60, 60, 40), np.array([20.0, 19, 24])
    truth = _ball(shape, middle, 8, spacing).astype(np.uint8)
    predicted = _ball(shape, middle, 10, spacing)
    (nodule,) = segmented_scan(truth, predicted, np.diag([*spacing, 1]), patient_id="p").nodules
    assert nodule.diameter_mm == pytest.approx(16, rel=0.02)
    assert nodule.volume_error_percent == pytest.approx(100 * ((10 / 8) ** 3 - 1), rel=0.08)
    assert nodule.dice == pytest.approx(2 * 8**3 / (8**3 + 10**3), rel=0.03)
    assert nodule.surface_distance_mm == pytest.approx(2, rel=0.2)


def _by_loops(truth, predicted, spacing):
    """Sizes, overlaps and distances of each nodule on the whole grid, voxel by voxel."""
    components, count = ndimage.label(predicted, np.ones((3,) * truth.ndim))
    thickness = spacing[2] if truth.ndim == 3 else 2.0
    for component in range(1, count + 1):
        voxels = (components == component).sum()
        if voxels * spacing[0] * spacing[1] * thickness < np.pi * 27 / 6:
            components[components == component] = 0
    labels = [label for label in np.unique(truth).tolist() if label]
    sizes = {label: (truth == label).sum() for label in labels}
    step = np.array(spacing)
    spheres = {}
    for label in labels:
        volume = sizes[label] * spacing[0] * spacing[1] * thickness
        spheres[label] = (np.argwhere(truth == label).mean(axis=0) * step, volume)
    owners = np.zeros(truth.shape, dtype=int)
    false = []
    for component in [c for c in np.unique(components).tolist() if c]:
        touched = [c for c in np.unique(truth[components == component]).tolist() if c]
        if not touched:
            false.append(component)
        for voxel in np.argwhere(components == component) if touched else ():
            place = tuple(voxel)
            off = [
                math.dist(voxel * step, spheres[label][0])
                - (3 * spheres[label][1] / 4 / math.pi) ** (1 / 3)
                for label in touched
            ]
            owners[place] = truth[place] or touched[int(np.argmin(off))]
    nodules = []
    for label in labels:
        inside, share = truth == label, owners == label
        overlap = (inside & share).sum()
        found = overlap / (inside | share).sum() >= 0.1
        distances = surface_distance(inside, share, spacing) if found else (None, None)
        dice = 2 * overlap / (inside.sum() + share.sum())
        nodules.append((label, sizes[label], share.sum(), bool(found), dice, *distances))
    whole = components > 0
    both = (truth > 0).sum() + whole.sum()
    dice = 2 * ((truth > 0) & whole).sum() / both if both else None
    return nodules, len(np.unique(components)) - 1, len(false), dice


@pytest.mark.parametrize("rank", [2, 3])
def test_random_scans_are_those_of_the_loops(rank):
    rng = np.random.default_rng(rank)
    spacing = (0.8, 1.1, 1.7)[:rank]
    affine = np.diag([*spacing, 1])
    several = shared = 0
    for _ in range(12):
        shape = (36, 30, 16)[:rank]
        truth, predicted = np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=bool)
        for label in rng.permutation(9)[: rng.integers(0, 5)] + 1:
            middle, radius = rng.uniform(0, 1, rank) * shape * spacing, rng.uniform(2, 6)
            truth[_ball(shape, middle, radius, spacing)] = label
            shift = rng.normal(0, 1.5, rank)
            predicted |= _ball(shape, middle + shift, radius * rng.uniform(0.5, 1.6), spacing)
        predicted |= ndimage.binary_dilation(rng.random(shape) < 0.003)
        scan = segmented_scan(truth, predicted, affine, patient_id="p")
        nodules, components, false, dice = _by_loops(truth, predicted, spacing)
        assert (scan.components, scan.false_components) == (components, false)
        assert scan.dice == (None if dice is None else pytest.approx(dice))
        voxel = math.prod(spacing)
        assert len(scan.nodules) == len(nodules)
        for nodule, (label, size, share, found, own_dice, mean, far) in zip(
            scan.nodules, nodules, strict=True
        ):
            assert (nodule.instance, nodule.found) == (label, found)
            assert nodule.volume_mm3 == pytest.approx(size * voxel)
            assert nodule.predicted_mm3 == pytest.approx(share * voxel)
            assert nodule.dice == pytest.approx(own_dice)
            assert nodule.surface_distance_mm == (mean if mean is None else pytest.approx(mean))
            assert nodule.hausdorff_95_mm == (far if far is None else pytest.approx(far))
        several += len(nodules) > 1
        shared += len(nodules) > components - false
    assert several >= 4 and shared >= 1


def test_all_orientations_judge_alike():
    rng = np.random.default_rng(1)
    truth = _cubes((20, 18, 14), ((3, 3, 3), (5, 6, 4)), ((9, 6, 5), (7, 8, 6)))
    predicted = np.roll(truth > 0, 1, axis=0) | (rng.random(truth.shape) < 0.02)
    affine = np.diag([0.7, 0.9, 1.5, 1])
    first = segmented_scan(truth, predicted, affine, patient_id="p")
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        turned = np.eye(4)[:, [*order, 3]]
        arrays = [array.transpose(order) for array in (truth, predicted)]
        for axis in np.flatnonzero(flips).tolist():
            flip = np.eye(4)
            flip[axis, axis], flip[axis, 3] = -1, arrays[0].shape[axis] - 1
            turned = turned @ flip
            arrays = [np.flip(array, axis) for array in arrays]
        scan = segmented_scan(arrays[0], arrays[1], affine @ turned, patient_id="p")
        assert scan.dice == pytest.approx(first.dice)
        assert scan.false_components == first.false_components
        for nodule, other in zip(scan.nodules, first.nodules, strict=True):
            assert nodule.centre_lps_mm == pytest.approx(other.centre_lps_mm)
            rest = [field for field in SegmentedNodule._fields if field != "centre_lps_mm"]
            assert [getattr(nodule, field) for field in rest] == pytest.approx(
                [getattr(other, field) for field in rest]
            )


def test_in_2d_sizes_are_areas_and_a_circle_of_3_mm_is_no_speck():
    truth = np.zeros((40, 40), dtype=np.int16)
    truth[10:20, 10:18] = 3
    predicted = truth > 0
    predicted[30:34, 30:37] = True  # 7 mm2
    predicted[30:34, 2:10] = True  # 8 mm2, where a circle of 3 mm has 7.07
    affine = np.diag([0.5, 0.5, 1])
    affine[:2, 2] = [10, 20]
    scan = segmented_scan(truth, predicted, affine, patient_id="p")
    (nodule,) = scan.nodules
    assert (nodule.instance, nodule.volume_mm3, nodule.dice) == (3, 20, 1)
    assert nodule.diameter_mm == pytest.approx(2 * math.sqrt(20 / math.pi))
    assert nodule.centre_lps_mm == pytest.approx((-(10 + 7.25), -(20 + 6.75), 0))
    assert (scan.components, scan.false_components, scan.false_mm3) == (2, 1, 8)
    padded = np.diag([0.5, 0.5, 1, 1])  # MONAI's, of a 2D image
    padded[:2, 3] = [10, 20]
    assert segmented_scan(truth, predicted, padded, patient_id="p") == scan


def test_what_is_empty():
    empty, cube = np.zeros((12, 12, 12), dtype=np.uint8), _cubes((12, 12, 12), ((3,) * 3, (4,) * 3))
    neither = segmented_scan(empty, empty, np.eye(4), patient_id="p")
    assert neither == ("p", (), 0, 0, 0, 0, None)
    no_truth = segmented_scan(empty, cube, np.eye(4), patient_id="p")
    assert no_truth == ("p", (), 1, 1, 64, 64, 0)
    missed = segmented_scan(cube, empty, np.eye(4), patient_id="p")
    assert (missed.components, missed.dice, missed.nodules[0].dice) == (0, 0, 0)
    assert missed.nodules[0].found is False


def test_labels_may_be_floats_but_whole():
    cube = _cubes((12, 12, 12), ((3,) * 3, (4,) * 3))
    expected = segmented_scan(cube, cube, np.eye(4), patient_id="p")
    assert segmented_scan(cube.astype(np.float32), cube, np.eye(4), patient_id="p") == expected
    with pytest.raises(ValueError, match="p: the true mask must hold whole numbers"):
        segmented_scan(cube * 0.5, cube, np.eye(4), patient_id="p")


def test_what_is_refused():
    cube = _cubes((12, 12, 12), ((3,) * 3, (4,) * 3))
    with pytest.raises(ValueError, match="p: the true mask must be from 0 to 65535, got -1 to 0"):
        segmented_scan(-cube, cube, np.eye(4), patient_id="p")
    with pytest.raises(ValueError, match=r"p: truth and prediction must be of one shape"):
        segmented_scan(cube, cube[:-1], np.eye(4), patient_id="p")
    with pytest.raises(ValueError, match="mask must hold 0 and 1 only, got 0 to 3"):
        segmented_scan(cube, 3 * cube, np.eye(4), patient_id="p")
    with pytest.raises(ValueError, match="spacing_mm must be three finite numbers above 0"):
        segmented_scan(cube, cube, np.diag([1, 0, 1, 1]), patient_id="p")
