"""The demo: everything that the rungs do, on phantoms, in a few minutes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bundles.bundle_config import bundle_configs
from bundles.report import write_report
from bundles.report_attention import attention_section
from bundles.report_detection import detection_section
from bundles.report_segmentation import segmentation_section
from bundles.run_bundle import run_bundle
from bundles.run_folders import new_run, runs_folder
from cohorts import CohortSettings, ScannerSettings, draw_gallery, load_datalist, make_cohort

ATTENTION, BOXES = "lung_ct_cancer_risk", "lung_ct_nodule_detection"
VOXELS = "lung_ct_nodule_segmentation"
# Coarse voxels, large nodules and few scans: what two cores train on in minutes.
COHORT = CohortSettings(
    training=80,
    validation=24,
    testing=48,
    seed=1,
    min_diameter_mm=8.0,
    scanner=ScannerSettings(spacing_mm=(3.0, 3.0, 3.0)),
)
SHOWN_SCANS = 6
SCREENING_PREVALENCE = 0.01  # half of the demo's scans have a cancer, in a screening few do


def run_demo() -> Path:
    """Make phantoms, train the bundles, evaluate, predict, report.

    Scans are written to ``data/phantom-demo`` and kept for the next time; runs and the page to
    ``runs``. Returns the page.
    """
    began = time.monotonic()
    folder = runs_folder() / "demo"
    with _step("1/6 making phantom scans"):
        datalist = make_cohort(COHORT, runs_folder().parent / "data" / "phantom-demo", workers=2)
        draw_gallery(datalist, folder / "gallery.png")
    testing = load_datalist(datalist, "testing")
    shown = [item["image"] for item in testing if item["risk"]][:SHOWN_SCANS]
    # The supervised one last, so that it is what `make predict` applies.
    trainings = {"no_attention": ["demo", "no_attention"], "attention": ["demo"]}
    runs = {name: new_run(ATTENTION, f"demo-{name}") for name in trainings}
    screening = {"screening_prevalence": SCREENING_PREVALENCE}
    for number, (name, overlays) in enumerate(trainings.items(), start=2):
        with _step(f"{number}/6 training, evaluating and predicting: {name}"):
            _train_and_apply(
                ATTENTION, runs[name], datalist, shown, overlays=overlays, evaluation=screening
            )
    boxes = new_run(BOXES, "demo")
    with _step("4/6 training, evaluating and predicting: boxes"):
        _train_and_apply(BOXES, boxes, datalist, shown, overlays=["demo"], evaluation={})
    voxels = new_run(VOXELS, "demo")
    with _step("5/6 training, evaluating and predicting: voxels"):
        _train_and_apply(VOXELS, voxels, datalist, shown, overlays=["demo"], evaluation={})
    with _step("6/6 writing the page"):
        sections = [
            attention_section(folder, datalist, runs, bundle=ATTENTION),
            detection_section(folder, datalist, boxes, bundle=BOXES),
            segmentation_section(folder, datalist, voxels, bundle=VOXELS),
        ]
        page = write_report(folder, sections, bundles=[ATTENTION, BOXES, VOXELS])
    print(f"\ndone in {(time.monotonic() - began) / 60:.1f} minutes; open {page}")
    return page


def _train_and_apply(
    bundle: str,
    run_dir: Path,
    datalist: Path,
    scans: Sequence[str],
    *,
    overlays: Sequence[str],
    evaluation: Mapping[str, Any],
) -> None:
    places = {
        "bundle_root": str(bundle_configs(bundle).parent),
        "run_dir": str(run_dir),
        "data_list": str(datalist),
    }
    named = {**places, "run_name": run_dir.name}
    run_bundle(bundle, "train", overlays=overlays, overrides=named)
    trained = [run_dir / "trained.yaml"]
    run_bundle(bundle, "evaluate", overlays=trained, overrides={**places, **evaluation})
    run_bundle(bundle, "inference", overlays=trained, overrides={**places, "scans": list(scans)})


@contextmanager
def _step(title: str) -> Iterator[None]:
    began = time.monotonic()
    print(f"\n{title} ...", flush=True)
    yield
    print(f"{title}: {time.monotonic() - began:.0f} s", flush=True)
