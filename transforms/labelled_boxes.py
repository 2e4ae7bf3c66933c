"""A sample's boxes with one label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.data import MetaTensor

from transforms.scan_error import ScanError, scan_name


def labelled_boxes(
    boxes: Any, labels: Sequence[int], *, label: int, image: MetaTensor
) -> np.ndarray:
    """The boxes with one label, checked, as an array ``(N, 2 * spatial_dims)``; N may be 0.

    Raises:
        ScanError: as :func:`box_table`, or another number of labels than of boxes.
    """
    table = box_table(boxes, image)
    if len(labels) != len(table):
        raise ScanError(
            f"{scan_name(image)}: box_labels must have one label for each box, "
            f"got {len(labels)} for {len(table)}"
        )
    return table[np.asarray(labels, int) == label]


def box_table(boxes: Any, image: MetaTensor) -> np.ndarray:
    """All boxes, centre and size in RAS mm, as an array ``(N, 2 * spatial_dims)``; N may be 0.

    Raises:
        ScanError: wrong length, a value that is not finite, or a size not above zero.
    """
    rank = image.ndim - 1
    table = np.asarray(boxes, float)
    if table.size == 0:
        return np.zeros((0, 2 * rank))
    if table.ndim != 2 or table.shape[1] != 2 * rank:
        raise ScanError(
            f"{scan_name(image)}: boxes must have shape (N, {2 * rank}), got {table.shape}"
        )
    for index, box in enumerate(table):
        if not np.isfinite(box).all() or not (box[rank:] > 0).all():
            raise ScanError(
                f"{scan_name(image)}: box {index} must be finite with a size above zero, "
                f"got {box.tolist()} mm"
            )
    return table
