"""A scan's lungs as a label map, found once for all that need it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from transforms.check_geometry import check_geometry
from transforms.coarse_ct import on_scan_grid
from transforms.segment_lungs import segment_lungs


def find_lungs(ct: MetaTensor, given: MetaTensor | None = None) -> MetaTensor:
    """The label map that is given, once its grid is checked, else the lungs found from HU.

    Args:
        ct: ``(1, H, W, D)`` in HU with its affine to RAS mm.
        given: labels ``(1, H, W, D)``, 1 the patient's left and 2 the right lung.

    Returns:
        Labels ``(1, H, W, D)``. From HU they are found at about 4 mm (:func:`segment_lungs`),
        brought to the scan's grid by its nearest cell, and uint8.

    Raises:
        ScanError: a map on another grid, or an image without three spatial dimensions.
    """
    if given is None:
        return on_scan_grid(segment_lungs(ct), ct)
    check_geometry(given, ct)
    return given


class FindLungsd(MapTransform):
    """Dictionary form of :func:`find_lungs`, written to ``output_key``.

    ``lungs_key`` names the loaded label map of a sample; with None, or in a sample that lacks it,
    the lungs come from HU.
    """

    def __init__(
        self,
        image_key: KeysCollection = "image",
        *,
        lungs_key: str | None = None,
        output_key: str = "lungs",
    ) -> None:
        super().__init__(image_key)
        self.image_key = self.keys[0]
        self.lungs_key = lungs_key
        self.output_key = output_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        given = sample.get(self.lungs_key)
        sample[self.output_key] = find_lungs(sample[self.image_key], given)
        return sample
