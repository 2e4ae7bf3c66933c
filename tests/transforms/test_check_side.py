from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from transforms import CheckSided, FindLungsd, ScanError, check_side

IN_LEFT, BETWEEN, IN_RIGHT = ([x, 10.0, 10.0, 2.0, 2.0, 2.0] for x in (5.0, 15.0, 25.0))


def scan() -> tuple[MetaTensor, MetaTensor]:
    """1 mm voxels; the left lung at x below 10, the right one from 20 on."""
    image = MetaTensor(torch.zeros(1, 30, 20, 20), torch.eye(4), {"filename_or_obj": "scan.nii"})
    lungs = torch.zeros(1, 30, 20, 20, dtype=torch.uint8)
    lungs[:, :10], lungs[:, 20:] = 1, 2
    return image, MetaTensor(lungs, torch.eye(4))


@pytest.mark.parametrize(
    ("side", "boxes"),
    [
        ("left", [IN_LEFT]),
        ("right", [IN_RIGHT]),
        ("left", [IN_RIGHT, IN_LEFT]),  # one is enough
        ("both", [IN_LEFT]),
        ("unknown", [IN_LEFT]),
        ("none", []),
        ("left", []),
        ("left", [[9.5, 10, 10, 4, 2, 2]]),  # reaches out of its lung
        ("left", [[15, 10, 10, 12, 4, 4]]),  # between both, touches them
        ("left", [[18.5, 10, 10, 6, 4, 4]]),  # at the midline, a third of it in the other lung
    ],
)
def test_sides_that_the_boxes_allow_pass_silently(
    side: str, boxes: list[list[float]], caplog: pytest.LogCaptureFixture
) -> None:
    image, lungs = scan()
    with caplog.at_level(logging.WARNING):
        check_side(boxes, side, lungs=lungs, image=image)
    assert not caplog.text


def test_a_box_where_the_lungs_touch_is_in_both() -> None:
    image, lungs = scan()
    lungs[:, 10:] = 2
    for side in ("left", "right"):
        check_side([[11.5, 10, 10, 6, 2, 2]], side, lungs=lungs, image=image)


@pytest.mark.parametrize(
    ("side", "boxes", "other"),
    [
        ("left", [IN_RIGHT], "right"),
        ("right", [IN_LEFT], "left"),
        ("left", [IN_RIGHT, [26, 3, 3, 2, 2, 2]], "right"),
    ],
)
def test_a_side_that_contradicts_every_box_is_refused(
    side: str, boxes: list[list[float]], other: str
) -> None:
    image, lungs = scan()
    with pytest.raises(ScanError) as caught:
        check_side(boxes, side, lungs=lungs, image=image)
    assert str(caught.value) == (
        f"scan.nii: side must be that of a malignant box, got {side} and the box {boxes[0]} mm "
        f"in the {other} lung"
    )


def test_a_box_outside_the_lungs_is_reported_and_decides_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    image, lungs = scan()
    with caplog.at_level(logging.WARNING):
        check_side([BETWEEN, IN_RIGHT], "left", lungs=lungs, image=image)
    assert caplog.messages == [f"scan.nii: the malignant box {BETWEEN} mm touches no lung"]


def test_a_tumour_that_is_no_lung_itself_contradicts_by_what_is_around_it() -> None:
    image = MetaTensor(torch.zeros(1, 60, 40, 40), torch.eye(4), {"filename_or_obj": "scan.nii"})
    labels = torch.zeros(1, 60, 40, 40, dtype=torch.uint8)
    labels[:, :15], labels[:, 30:] = 1, 2
    labels[:, 42:58, 12:28, 12:28] = 0
    box = [50.0, 20.0, 20.0, 18.0, 18.0, 18.0]
    lungs = MetaTensor(labels, torch.eye(4))
    check_side([box], "right", lungs=lungs, image=image)
    with pytest.raises(ScanError, match=r"got left and the box \[50\.0, .* in the right lung"):
        check_side([box], "left", lungs=lungs, image=image)
    # The same where the left lung is white: nothing tells whose the tumour is.
    white = MetaTensor(torch.where(labels == 1, 0, labels), torch.eye(4))
    check_side([box], "left", lungs=white, image=image)
    # Nearer to the middle the left lung is within 10 mm.
    check_side([[27.0, *box[1:]]], "left", lungs=lungs, image=image)


def test_a_missing_lung_contradicts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    image, lungs = scan()
    lungs[:, :10] = 0
    with caplog.at_level(logging.WARNING):
        check_side([IN_LEFT], "left", lungs=lungs, image=image)
    assert "touches no lung" in caplog.text


def test_the_map_looks_at_malignant_boxes_only() -> None:
    image, lungs = scan()
    sample: dict[str, Any] = {"image": image, "lungs": lungs, "side": "left"}
    sample |= {"boxes": [IN_LEFT, IN_RIGHT], "box_labels": [1, 0]}
    assert set(CheckSided()(sample)) == set(sample)
    with pytest.raises(ScanError, match=r"side must be that of .*, got left and the box \[25\.0,"):
        CheckSided()({**sample, "box_labels": [0, 1]})
    assert CheckSided()({**sample, "boxes": [], "box_labels": [], "side": "none"})


@pytest.mark.parametrize("mirrored", [False, True])
def test_lungs_found_from_hu(chest: Any, mirrored: bool) -> None:
    x_mm = 76 if mirrored else -72
    sample = {"image": chest.ct(), "side": "left"}
    sample |= {"boxes": [[x_mm, 5, -170, 20, 20, 20]], "box_labels": [1]}
    found = FindLungsd()(sample)
    if mirrored:
        with pytest.raises(ScanError, match=r"got left and the box \[76\.0, .* in the right lung"):
            CheckSided()(found)
    else:
        CheckSided()(found)
