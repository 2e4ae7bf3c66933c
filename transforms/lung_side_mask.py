"""The patient's left or right lung as a mask."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from transforms.body_half_mask import body_half_mask
from transforms.derived_volume import derived_volume
from transforms.find_lungs import find_lungs
from transforms.scan_error import ScanError, scan_name
from transforms.separate_lungs import LEFT, RIGHT

LABELS = {"left": (LEFT,), "right": (RIGHT,), "both": (LEFT, RIGHT), "unknown": (LEFT, RIGHT)}

logger = logging.getLogger(__name__)


def lung_side_mask(ct: MetaTensor, side: str) -> MetaTensor:
    """The patient's left, right or both lungs, from HU.

    Found at about 4 mm and brought to the scan's grid by its nearest cell (:func:`find_lungs`).

    Args:
        ct: ``(1, H, W, D)`` in HU with its affine to RAS mm, in any orientation.
        side: ``"left"``, ``"right"`` (the patient's), ``"both"`` or ``"unknown"`` (both).

    Returns:
        uint8 ``(1, H, W, D)`` with the same affine; empty where that lung is not found.

    Raises:
        ScanError: an image without three spatial dimensions, or another side word.
    """
    if side not in LABELS:
        raise ScanError(f"{scan_name(ct)}: side must be one of {', '.join(LABELS)}, got {side!r}")
    return _of(find_lungs(ct), LABELS[side])


def _of(lungs: MetaTensor, labels: tuple[int, ...]) -> MetaTensor:
    """The mask of some labels of a lung label map, uint8 with its affine."""
    plain = lungs.as_tensor()
    mask = torch.zeros_like(plain, dtype=torch.uint8)
    for label in labels:
        mask |= plain == label
    return derived_volume(mask, lungs.affine, lungs)


class LungSideMaskd(MapTransform):
    """The mask of the lung(s) that a sample's side names, for the side term of the loss.

    ``side_key`` holds left, right, both, unknown (both lungs) or none (an empty mask). Lungs come
    from ``lungs_key``, a label map with 1 the patient's left and 2 the right lung on the image's
    grid, when one is named and the sample has it, else from HU. Last resort: where they have no
    voxel of that side (a white-out, a missing lung), the body's half on that side is taken, from
    HU at its middle, with a warning.
    """

    def __init__(
        self,
        image_key: KeysCollection = "image",
        side_key: str = "side",
        *,
        output_key: str = "side_mask",
        lungs_key: str | None = None,
    ) -> None:
        super().__init__(image_key)
        self.image_key = self.keys[0]
        self.side_key = side_key
        self.output_key = output_key
        self.lungs_key = lungs_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        image, side = sample[self.image_key], sample[self.side_key]
        if side == "none":
            empty = torch.zeros(1, *image.shape[1:], dtype=torch.uint8)
            mask = derived_volume(empty, image.affine, image)
        else:
            mask = self._mask(image, side, sample.get(self.lungs_key))
        sample[self.output_key] = mask
        return sample

    def _mask(self, image: MetaTensor, side: str, lungs: MetaTensor | None) -> MetaTensor:
        if side not in LABELS:
            raise ScanError(
                f"{scan_name(image)}: {self.side_key} must be one of {', '.join(LABELS)}, none, "
                f"got {side!r}"
            )
        mask = _of(find_lungs(image, lungs), LABELS[side])
        if mask.any():
            return mask
        half = "both" if side == "unknown" else side
        logger.warning("%s: no lung found (%s), the body's half is used", scan_name(image), side)
        return body_half_mask(image, half)
