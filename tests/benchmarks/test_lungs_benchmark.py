from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor

from benchmarks.lungs import Scan, dice, scan_rows, wrong_sides
from benchmarks.real_lesions import RealLesion
from benchmarks.threshold_lungs import threshold_lungs

AFFINE = torch.diag(torch.tensor([-4.0, -4.0, 4.0, 1.0], dtype=torch.float64))


def chest() -> tuple[MetaTensor, MetaTensor]:
    """A body in air with two lungs; low voxels along axis 0 are the patient's right."""
    rng = np.random.default_rng(0)
    hu = np.full((80, 60, 30), -1000.0, np.float32)
    hu[6:74, 6:54] = 40
    lungs = np.zeros(hu.shape, np.uint8)
    lungs[12:34, 14:46, 4:26], lungs[46:68, 14:46, 4:26] = 2, 1
    hu[lungs > 0] = rng.normal(-850, 70, int((lungs > 0).sum()))
    return tuple(MetaTensor(torch.from_numpy(one)[None], AFFINE) for one in (hu, lungs))  # type: ignore[return-value]


def lesion(voxel: tuple[int, int, int]) -> RealLesion:
    centre = (AFFINE.numpy() @ [*voxel, 1])[:3]
    return RealLesion("nodule", centre, 20.0, True, centre[None])


def test_the_peer_finds_air_inside_the_body() -> None:
    ct, lungs = chest()
    found = threshold_lungs(ct)
    # Turned to RAS, both in-plane axes run the other way.
    assert np.array_equal(found.numpy()[:, ::-1, ::-1], (lungs > 0).numpy())
    assert not threshold_lungs(MetaTensor(torch.full((1, 9, 8, 7), 40.0), AFFINE)).any()


def test_overlap_by_hand() -> None:
    a, b = torch.zeros(2, 10, dtype=torch.bool)
    a[:4], b[2:8] = True, True
    assert dice(a, b) == 2 * 2 / (4 + 6)
    assert dice(torch.zeros(3) > 0, torch.zeros(3) > 0) == 1


def test_rows_and_a_lesion_beyond_the_middle() -> None:
    ct, lungs = chest()
    inside = [lesion((20, 30, 15)), lesion((60, 30, 15))]
    assert wrong_sides(inside, ct) == 0
    # Its centre is in the right half of the body, and the lung around it is the left one.
    astray = lesion((33, 30, 15))._replace(diameter_mm=120)
    shifted = MetaTensor(ct.as_tensor().clone(), AFFINE)
    shifted[:, 12:34] = 40
    assert wrong_sides([astray], shifted) == 1
    rows = {row.what: row for row in scan_rows(Scan("drawn", ct, lungs, inside), 1)}
    assert rows["drawn, left lung: 1 - Dice"].ours < 0.05
    assert rows["drawn, both lungs: 1 - Dice"].peer == 0
    assert rows["drawn: lesions on the wrong side, of 2"].ours == 0
