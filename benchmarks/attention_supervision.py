"""``python -m benchmarks.attention_supervision``: what supervised attention does, on phantoms.

Makes a cohort, trains every arm of the bundle's comparison.yaml with three seeds, and writes the
table with paired intervals. Interrupted, the same command goes on.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bundles.compare import compare_arms
from bundles.run_folders import runs_folder
from cohorts import CohortSettings, ScannerSettings, make_cohort

BUNDLE = "lung_ct_cancer_risk"
# Set before any comparison, by trials of plain training alone: on nodules without another sign it
# stayed near chance. So cancers come with more emphysema, a sign without a place, which tells them
# apart with an AUROC of about 0.75.
COHORT = CohortSettings(
    training=240,
    validation=60,
    testing=160,
    seed=4,
    clean_fraction=0.25,
    min_diameter_mm=12.0,
    mean_emphysema=0.10,
    mean_emphysema_with_cancer=0.30,
    scanner=ScannerSettings(spacing_mm=(4.0, 4.0, 4.0)),
)
SEEDS = 3
RESULTS = Path(__file__).parent / "results"
JOBS = 2  # one training does not keep two cores busy


def main() -> None:
    output = runs_folder() / BUNDLE / "attention_supervision"
    datalist = make_cohort(COHORT, runs_folder().parent / "data" / "phantom-ablation", workers=JOBS)
    compare_arms(
        BUNDLE,
        datalist,
        output=output,
        command="python -m benchmarks.attention_supervision",
        seeds=SEEDS,
        jobs=JOBS,
        arms=[],
        overlays=["ablation", "disk_cache"],
        settings={},
    )
    for file in (output / "comparison.json", output / "comparison.md", output / "comparison.png"):
        shutil.copyfile(file, RESULTS / f"attention_supervision{file.suffix}")


if __name__ == "__main__":
    main()
