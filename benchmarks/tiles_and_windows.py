"""``python -m benchmarks.tiles_and_windows``: the same weights by our tiles and by MONAI's windows.

Evaluates a trained segmenter twice on the testing scans of a datalist: on the lungs by our tiles,
and on the whole scan by MONAI's sliding windows that overlap by half.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, provenance
from bundles.bundle_config import bundle_configs
from bundles.comparison_measures import measured
from bundles.comparison_plan import ComparisonPlan, comparison_plan
from bundles.comparison_table import terminal_lines
from bundles.run_bundle import run_bundle
from cohorts.datalist import load_datalist, read_datalist
from handlers.three_planes import INTENDED_USE
from handlers.write_json import write_json

NAME = "tiles_and_windows"
BUNDLE = "lung_ct_nodule_segmentation"
OURS, PEER = "tiles", "windows"
ARMS: dict[str, tuple[str, ...]] = {
    OURS: (),
    PEER: (str(Path(__file__).with_name(f"{NAME}.yaml")),),
}
NOTES = (
    "Tiles: the bundle's evaluation as it is, on the crop to the lungs. Windows: of 96 x 96 x 96 "
    "voxels, half of each in the next, on the whole scan on the same grid, averaged where they "
    "overlap; at their borders they see zeros. Both have the same weights.",
    "A nodule outside the crop to the lungs counts for both.",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, help="folder of a training of the segmenter")
    add("--datalist", type=Path, required=True, help="datalist JSON with a testing part")
    options = parser.parse_args()
    for name in ("model.pt", "trained.yaml"):
        if not (options.run / name).is_file():
            parser.error(f"--run must hold {name}, got {options.run}")
    record = tiles_and_windows(options.run, options.datalist)
    write_json(RESULTS / f"{NAME}.json", record)
    print("\n".join(terminal_lines(record)))


def tiles_and_windows(run: Path, datalist: Path) -> dict[str, Any]:
    """What both find on the testing scans, and the differences of tiles to windows.

    Args:
        run: folder with ``model.pt`` and ``trained.yaml``.
        datalist: the datalist JSON.
    """
    plan = ComparisonPlan(
        arms=ARMS, reference=PEER, measures=comparison_plan(BUNDLE).measures, notes=NOTES
    )
    testing = load_datalist(datalist, "testing")
    with tempfile.TemporaryDirectory() as name:
        tables = {arm: [_evaluated(run, datalist, Path(name) / arm, arm)] for arm in ARMS}
        measures = measured(plan, tables)
    content: Mapping[str, Any] = read_datalist(datalist)
    return {
        "intended_use": INTENDED_USE,
        **provenance(NAME),
        "datalist": {
            "name": content.get("name"),
            "sha256": hashlib.sha256(datalist.read_bytes()).hexdigest(),
            "synthetic": content.get("synthetic"),
            "scans": {"testing": len(testing)},
        },
        "weights_sha256": hashlib.sha256((run / "model.pt").read_bytes()).hexdigest(),
        "arms": {arm: {} for arm in ARMS},
        "reference": PEER,
        "notes": list(NOTES),
        "measures": measures,
    }


def _evaluated(run: Path, datalist: Path, folder: Path, arm: str) -> Path:
    """The ``per_scan.csv`` of one of the two."""
    folder.mkdir()
    shutil.copy(run / "model.pt", folder)
    run_bundle(
        BUNDLE,
        "evaluate",
        overlays=[run / "trained.yaml", *ARMS[arm]],
        overrides={
            "bundle_root": str(bundle_configs(BUNDLE).parent),
            "run_dir": str(folder),
            "data_list": str(datalist),
        },
    )
    return folder / "evaluation" / "per_scan.csv"


if __name__ == "__main__":
    main()
