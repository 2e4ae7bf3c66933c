"""Whether a mask holds the nodules that its datalist lists."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from transforms.scan_error import ScanError, scan_name

SHOWN_LABELS = 10  # of a mask that holds others, such as one that is no label map


def check_mask(
    mask: MetaTensor, instances: Sequence[int] | None, *, boxes: int | None = None
) -> None:
    """Refuse a mask with other instances than those listed, or with nodules that have no box.

    Args:
        mask: instance labels ``(1, *spatial)``, 0 the background.
        instances: the labels listed, in any order; None where no one
            listed them, and any label will do.
        boxes: how many boxes are listed; None where no one listed boxes either.

    Raises:
        ScanError: a label that is not listed, a listed one without a voxel, or, where only boxes
            are listed, a mask that is empty though there are some, or is not though there is none.
    """
    found = [label for label in torch.unique(mask.as_tensor()).tolist() if label != 0]
    if instances is None:
        if boxes and not found:
            raise ScanError(
                f"{scan_name(mask)}: the mask must hold the nodules of the {boxes} boxes that the "
                f"datalist lists, got only 0"
            )
        if boxes == 0 and found:
            # A training would never be shown them: its patches are drawn round boxes.
            raise ScanError(
                f"{scan_name(mask)}: a mask with nodules must have their boxes in the datalist, "
                f"got {_listed([0, *found])} and no box"
            )
        return
    if found != sorted(instances):
        raise ScanError(
            f"{scan_name(mask)}: the mask must hold 0 and the instances {_listed(instances)} that "
            f"the datalist lists, got {_listed([0, *found])}"
        )


def _listed(labels: Sequence[int]) -> str:
    shown = ", ".join(map(str, sorted(labels)[:SHOWN_LABELS])) or "(none)"
    return f"{shown}, ... ({len(labels)} in all)" if len(labels) > SHOWN_LABELS else shown


class CheckMaskd(MapTransform):
    """Dictionary form of :func:`check_mask`, for the mask before it is cropped or resampled.

    Instances are those of the ``nodules`` of a sample, ``[{"instance": 1, ...}, ...]``, numbered
    from 1 where they have no ``instance``; a sample without the key may hold any label, if it has
    boxes where it has labels.
    """

    def __init__(
        self,
        keys: KeysCollection = "mask",
        *,
        nodules_key: str = "nodules",
        box_key: str = "boxes",
    ) -> None:
        super().__init__(keys)
        self.nodules_key = nodules_key
        self.box_key = box_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        nodules = sample.get(self.nodules_key)
        instances = None
        if nodules is not None:
            instances = [one.get("instance", number) for number, one in enumerate(nodules, start=1)]
        boxes = sample.get(self.box_key)
        for key in self.key_iterator(sample):
            check_mask(sample[key], instances, boxes=None if boxes is None else len(boxes))
        return sample
