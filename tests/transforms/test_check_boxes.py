from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms import CheckBoxesd, ScanError, check_boxes


def _scan() -> MetaTensor:
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    meta = {"filename_or_obj": "scan.nii.gz"}
    return MetaTensor(torch.zeros(1, 10, 10, 10), torch.tensor(affine), meta)


def test_boxes_in_the_scan_pass_and_so_do_none() -> None:
    check_boxes([[-8, -8, 10, 4, 4, 4], [-18, -18, 27, 9, 9, 9]], _scan())
    check_boxes([], _scan())


@pytest.mark.parametrize(
    ("box", "voxels"),
    [
        ([8, 8, 10, 4, 4, 4], "voxels [-5, -5, 3] to [-3, -3, 4]"),  # LPS taken for RAS
        ([-8, -8, 60, 4, 4, 4], "[3, 3, 19] to [5, 5, 21]"),
    ],
)
def test_a_box_outside_is_refused_by_name_rule_and_value(box: list[float], voxels: str) -> None:
    sample: dict[Hashable, Any] = {"image": _scan(), "boxes": [[-8, -8, 10, 4, 4, 4], box]}
    with pytest.raises(ScanError) as caught:
        CheckBoxesd()(sample)
    message = str(caught.value)
    assert message.startswith("scan.nii.gz: box 1 must lie inside the scan of shape (10, 10, 10)")
    assert voxels in message
