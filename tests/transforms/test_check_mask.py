from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from transforms import CheckMaskd, ScanError, check_mask


def _mask(*labels: int, shape: tuple[int, ...] = (4, 5, 3)) -> MetaTensor:
    mask = torch.zeros((1, *shape), dtype=torch.int16)
    mask.view(-1)[: len(labels)] = torch.tensor(labels, dtype=torch.int16)
    return MetaTensor(mask, torch.eye(4), {"filename_or_obj": "masks/a.nii.gz"})


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5)])
def test_a_mask_of_the_listed_instances_passes(shape: tuple[int, ...]) -> None:
    check_mask(_mask(1, 3, 2, 2, shape=shape), [2, 1, 3])
    check_mask(_mask(shape=shape), [])
    sample: dict[Any, Any] = {
        "mask": _mask(5, 5, 2, shape=shape),
        "boxes": [[0.0] * 6] * 2,
        "nodules": [{"instance": 5, "malignant": True}, {"instance": 2}],
    }
    assert CheckMaskd()(sample) == sample


def test_nodules_without_an_instance_are_numbered_from_1() -> None:
    CheckMaskd()({"mask": _mask(1, 2), "nodules": [{}, {"malignant": True}]})
    with pytest.raises(ScanError, match="instances 1, 2 that the datalist lists, got 0, 1, 3"):
        CheckMaskd()({"mask": _mask(1, 3), "nodules": [{}, {}]})


@pytest.mark.parametrize(
    ("labels", "nodules", "sentence"),
    [
        ((1, 2, 3, 7), 3, "0 and the instances 1, 2, 3 that the datalist lists, got 0, 1, 2, 3, 7"),
        ((1, 3), 3, "0 and the instances 1, 2, 3 that the datalist lists, got 0, 1, 3"),
        ((), 2, "0 and the instances 1, 2 that the datalist lists, got 0"),
        ((1,), 0, r"0 and the instances \(none\) that the datalist lists, got 0, 1"),
        (tuple(range(1, 40)), 1, r"got 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\. \(40 in all\)"),
    ],
    ids=["unlisted", "lost", "empty", "none listed", "no label map"],
)
def test_another_set_of_instances_is_refused(
    labels: tuple[int, ...], nodules: int, sentence: str
) -> None:
    listed = [{"instance": number} for number in range(1, nodules + 1)]
    with pytest.raises(ScanError, match=rf"^masks/a\.nii\.gz: the mask must hold .*{sentence}$"):
        CheckMaskd()({"mask": _mask(*labels), "nodules": listed, "boxes": [[0.0] * 6] * nodules})


def test_without_a_list_of_nodules_any_label_will_do_but_none_where_there_are_boxes() -> None:
    for labels in ((), (1,), (7, 3)):
        CheckMaskd()({"mask": _mask(*labels)})
    CheckMaskd()({"mask": _mask(), "boxes": []})
    CheckMaskd()({"mask": _mask(9), "boxes": [[0.0] * 6]})
    sentence = r"a\.nii\.gz: the mask must hold the nodules of the 2 boxes .*, got only 0"
    with pytest.raises(ScanError, match=sentence):
        CheckMaskd()({"mask": _mask(), "boxes": [[0.0] * 6] * 2})


def test_a_nodule_that_no_patch_would_be_drawn_round_is_refused() -> None:
    sentence = (
        r"^masks/a\.nii\.gz: a mask with nodules must have their boxes .* 0, 3, 7 and no box$"
    )
    with pytest.raises(ScanError, match=sentence):
        CheckMaskd()({"mask": _mask(7, 3), "boxes": []})
