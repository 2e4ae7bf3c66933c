"""What an inference writes of one scan's nodules, voxel by voxel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd

from cohorts.replaced_file import replaced_file
from cohorts.write_nifti import write_nifti
from handlers.measured_nodules import NODULE_KEYS, MeasuredNodules, measured_nodules
from handlers.middle_voxel import middle_voxel
from handlers.remove_scan_files import remove_scan_files
from handlers.scan_report import ScanResult, ScanTable
from handlers.three_planes import LUNG_WINDOW_HU, three_planes
from handlers.write_json import write_json
from networks.logits_to_scan import logits_to_scan
from transforms.scan_error import scan_name

FILES = r"nodules\.nii\.gz|nodules\.json|nodule_\d+\.png"  # of a scan, after its name
PLACE_COLUMNS = ("coordX", "coordY", "coordZ")
VALUE_COLUMNS = tuple(
    key
    for key in NODULE_KEYS
    if key not in ("number", "centre_lps_mm", "centre_ras_mm", "box_voxel", "picture")
)
TABLE = ScanTable("nodules.csv", ("name", "number", *PLACE_COLUMNS, *VALUE_COLUMNS))


class SegmentationReport:
    """Mask, measurements and pictures of each scan, for a :class:`handlers.ScanWriter`.

    ``<name>_nodules.nii.gz`` has the nodules' labels on the scan's own grid, 1 the largest, uint8
    (uint16 where there are more than 255). ``<name>_nodules.json`` measures each and says what its
    keys mean; ``<name>_nodule_01.png`` shows the first in three planes with the mask's outline.
    ``nodules.csv`` of the run has a row for each nodule measured, its place in LPS mm (in 2D with
    ``coordZ`` 0). Files of an earlier run on a scan of the same name are removed.

    A nodule is a connected component of the voxels whose logit is above 0 in any class; specks
    under the volume of a sphere of 3 mm are dropped. The mask has them all; measured are the 100
    largest, and none that fills a box of more than 150 mm cubed. In 2D volume, density and mass
    are left out.

    Args:
        max_pictures: of a scan, of the largest nodules.
        window: values that the pictures show black and white.

    Raises:
        ValueError: ``max_pictures`` is below 0.

    Raises of a call:
        ValueError: the network gave NaN or infinity, or a 3D scan's values are not HU.
        OSError: a file cannot be written.
    """

    def __init__(
        self, *, max_pictures: int = 10, window: tuple[float, float] = LUNG_WINDOW_HU
    ) -> None:
        if max_pictures < 0:
            raise ValueError(f"max_pictures must be 0 or more, got {max_pictures}")
        self.max_pictures = max_pictures
        self.window = window
        self.table: ScanTable | None = TABLE
        self._header: dict[str, Any] = {}

    def start(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Returns frame and meaning of the measurements."""
        header = {"frame": "LPS", "nodule_keys": NODULE_KEYS}
        self._header = {**about, **header}
        return {**header, "table": TABLE.file}

    def __call__(
        self,
        prediction: Mapping[str, Any],
        *,
        image: MetaTensor,
        scan: MetaTensor,
        name: str,
        folder: Path,
    ) -> ScanResult:
        """Writes mask, measurements and pictures of one scan, and returns the measurements.

        ``prediction`` holds ``logits`` ``(1, K, *image)`` and ``affine``, that of their grid.
        """
        remove_scan_files(folder, name, FILES)  # of an earlier run
        try:
            # Given away unnamed: a whole scan's mask is large, and its labels are enough.
            found = measured_nodules(scan, _mask(prediction, scan))
            entry = self._write(found, scan=scan, name=name, folder=folder)
        except BaseException:
            remove_scan_files(folder, name, FILES)  # a scan that failed has none
            raise
        pictures = [nodule["picture"] for nodule in entry["nodules"] if nodule["picture"]]
        files = [entry["mask_file"], entry["nodules_file"], *pictures]
        return ScanResult(entry, files, [_row(name, nodule) for nodule in found.numbers])

    def _write(
        self, found: MeasuredNodules, *, scan: MetaTensor, name: str, folder: Path
    ) -> dict[str, Any]:
        affine = to_affine_nd(3, scan.affine.detach().cpu().numpy().astype(float))
        entry: dict[str, Any] = {
            "name": name,
            "summary": self._summary(found),
            "mask_file": f"{name}_nodules.nii.gz",
            "nodules_file": f"{name}_nodules.json",
            "spacing_mm": np.linalg.norm(affine[:3, : scan.ndim - 1], axis=0).round(6).tolist(),
            "nodules_in_mask": len(found.boxes),
        }
        write_nifti(found.labels.T, affine, folder / entry["mask_file"])
        entry["nodules"] = [
            {
                **nodule,
                "picture": self._draw(nodule, found, scan, folder / name)
                if place < self.max_pictures
                else None,
            }
            for place, nodule in enumerate(found.numbers)
        ]
        alone = {**self._header, "scan": scan_name(scan), **entry}
        write_json(folder / entry["nodules_file"], alone)
        return entry

    def _summary(self, found: MeasuredNodules) -> str:
        count, measured = len(found.boxes), len(found.numbers)
        parts = ["1 nodule" if count == 1 else f"{count or 'no'} nodules"]
        if measured < count:
            parts.append(f"{measured} of them measured")
        if self.max_pictures < measured:
            parts.append(f"{self.max_pictures} of them with a picture")
        return ", ".join(parts)

    def _draw(
        self, nodule: Mapping[str, Any], found: MeasuredNodules, scan: MetaTensor, stem: Path
    ) -> str:
        """Writes the nodule's picture; returns its name."""
        number = nodule["number"]
        path = stem.with_name(f"{stem.name}_nodule_{number:02d}.png")
        volume_mm3 = nodule["weighted_mm3"] or nodule["voxel_count_mm3"]
        volume = "" if volume_mm3 is None else f"   volume {volume_mm3:.0f} mm\N{SUPERSCRIPT THREE}"
        with replaced_file(path) as partial:
            three_planes(
                scan,
                middle_voxel(found.labels, found.boxes[number - 1], number),
                partial,
                found_mask=torch.from_numpy(found.labels)[None],
                title=f"{stem.name}   nodule {number} of {len(found.boxes)}   "
                f"longest {nodule['longest_mm']:.1f} mm, "
                f"perpendicular {nodule['perpendicular_mm']:.1f} mm{volume}",
                window=self.window,
            )
        return path.name


def _mask(prediction: Mapping[str, Any], scan: MetaTensor) -> npt.NDArray[np.uint8]:
    """Voxels ``(*spatial)`` of the scan, 1 where any class is found."""
    mask = logits_to_scan(
        prediction["logits"][0],
        prediction["affine"],
        scan_affine=scan.affine,
        scan_shape=scan.shape[1:],
    )
    # Of a single class there is nothing to join.
    joined: npt.NDArray[np.uint8] = (mask[0] if len(mask) == 1 else mask.amax(dim=0)).numpy()
    return joined


def _row(name: str, nodule: Mapping[str, Any]) -> list[Any]:
    x, y, *z = nodule["centre_lps_mm"]
    place = [x, y, *(z or [0.0])]
    return [name, nodule["number"], *place, *(nodule[key] for key in VALUE_COLUMNS)]
