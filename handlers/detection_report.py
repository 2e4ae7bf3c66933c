"""What an inference writes of one scan's boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from cohorts.replaced_file import replaced_file
from handlers.findings import FINDING_KEYS, findings
from handlers.luna16_tables import MARK_COLUMNS
from handlers.remove_scan_files import remove_scan_files
from handlers.scan_report import ScanResult, ScanTable
from handlers.three_planes import LUNG_WINDOW_HU, three_planes
from handlers.write_json import write_json
from transforms.scan_error import scan_name

TABLE = ScanTable("findings.csv", MARK_COLUMNS)
FILES = r"findings\.json|finding_\d+\.png"  # of a scan, after its name


class DetectionReport:
    """Boxes and pictures of each scan, for a :class:`handlers.ScanWriter`.

    ``<name>_findings.json`` lists the findings in LPS and RAS mm and in the scan's own voxels, and
    says what its keys mean; ``<name>_finding_01.png`` shows the first in three planes through its
    centre, with its box. ``findings.csv`` of the run has a submission's rows for
    ``python -m metrics.froc``, ``seriesuid`` being ``name``, in LPS mm (in 2D with ``coordZ`` 0):
    all boxes of the network, since a FROC needs those with a low score too. Files of an earlier
    run on a scan of the same name are removed.

    Args:
        min_score: findings are boxes with this score or more.
        max_pictures: of a scan, of the findings with the highest scores.
        window: values that the pictures show black and white.

    Raises:
        ValueError: ``max_pictures`` is below 0.

    Raises of a call:
        ValueError: the network gave NaN or infinity.
        OSError: a file cannot be written.
    """

    def __init__(
        self,
        *,
        min_score: float,
        max_pictures: int = 10,
        window: tuple[float, float] = LUNG_WINDOW_HU,
    ) -> None:
        if max_pictures < 0:
            raise ValueError(f"max_pictures must be 0 or more, got {max_pictures}")
        self.min_score = min_score
        self.max_pictures = max_pictures
        self.window = window
        self.table: ScanTable | None = TABLE
        self._header: dict[str, Any] = {}

    def start(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Returns frame, rule and meaning of the findings."""
        header = {
            "frame": "LPS",
            "min_score": self.min_score,
            "finding_keys": FINDING_KEYS,
        }
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
        """Writes findings and pictures of one scan, and returns the findings.

        ``prediction`` holds, each in a list of one, ``boxes`` ``(N, 2 * spatial_dims)``, corners
        on the image's grid where voxel i covers [i, i + 1), and ``scores`` ``(N,)``.
        """
        remove_scan_files(folder, name, FILES)  # of an earlier run
        (boxes,), (scores,) = prediction["boxes"], prediction["scores"]
        try:
            marks = findings(boxes, scores, image=image, scan=scan)
            entry = self._write(marks, scan=scan, name=name, folder=folder)
        except BaseException:
            remove_scan_files(folder, name, FILES)  # a scan that failed has none
            raise
        pictures = [finding["picture"] for finding in entry["findings"] if finding["picture"]]
        rows = [_row(name, mark) for mark in marks]
        return ScanResult(entry, [entry["findings_file"], *pictures], rows)

    def _write(
        self, marks: Sequence[Mapping[str, Any]], *, scan: MetaTensor, name: str, folder: Path
    ) -> dict[str, Any]:
        found = [mark for mark in marks if mark["score"] >= self.min_score]
        entry: dict[str, Any] = {
            "name": name,
            "summary": self._summary(len(found)),
            "findings_file": f"{name}_findings.json",
            "findings": [
                {**finding, "picture": self._draw(finding, len(found), scan, folder / name)}
                for finding in found
            ],
        }
        alone = {**self._header, "scan": scan_name(scan), **entry}
        write_json(folder / entry["findings_file"], alone)
        return entry

    def _summary(self, count: int) -> str:
        found = "1 finding" if count == 1 else f"{count or 'no'} findings"
        pictured = min(count, self.max_pictures)
        shown = f", {pictured} of them with a picture" if pictured < count else ""
        return f"{found} with a score of {self.min_score:g} or more{shown}"

    def _draw(
        self, finding: Mapping[str, Any], count: int, scan: MetaTensor, stem: Path
    ) -> str | None:
        """The name of the finding's picture, or None if it is not to have one."""
        number = finding["number"]
        if number > self.max_pictures:
            return None
        low, high = np.reshape(finding["box_voxel"], (2, -1))
        # A box in the padding of the network's input may have its centre past the scan.
        centre = np.floor((low + high) / 2).clip(0, np.array(scan.shape[1:]) - 1)
        path = stem.with_name(f"{stem.name}_finding_{number:02d}.png")
        with replaced_file(path) as partial:
            three_planes(
                scan,
                centre,
                partial,
                found_voxel=[finding["box_voxel"]],
                title=f"{stem.name}   finding {number} of {count}   score {finding['score']:.3f}   "
                f"mean diameter {finding['diameter_mm']:.1f} mm",
                window=self.window,
            )
        return path.name


def _row(name: str, mark: Mapping[str, Any]) -> list[Any]:
    x, y, *z = mark["centre_lps_mm"]
    return [name, x, y, *(z or [0.0]), mark["score"]]
