"""The demo: everything that the first rung does, on phantoms, in a few minutes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundles.report import write_report
from bundles.run_bundle import BUNDLES_ROOT, run_bundle
from cohorts import CohortSettings, ScannerSettings, draw_gallery, load_datalist, make_cohort

BUNDLE = "lung_ct_cancer_risk"
# Coarse voxels and large nodules: what two cores learn in minutes. Chosen by how well plain
# training learns, before any comparison of the two trainings.
COHORT = CohortSettings(
    training=80,
    validation=24,
    testing=48,
    seed=1,
    min_diameter_mm=8.0,
    scanner=ScannerSettings(spacing_mm=(3.0, 3.0, 3.0)),
)
SHOWN_SCANS = 4


def run_demo(root: Path) -> Path:
    """Make phantoms, train with and without supervised attention, evaluate, predict, report.

    Scans are written to ``root/data/phantom-demo`` and kept for the next time; runs and the page
    to ``root/runs``. Returns the page.
    """
    began = time.monotonic()
    folder = root / "runs" / "demo"
    with _step("1/5 making phantom scans"):
        datalist = make_cohort(COHORT, root / "data" / "phantom-demo", workers=2)
        draw_gallery(datalist, folder / "gallery.png")
    shown = [item["image"] for item in load_datalist(datalist, "testing") if item["risk"]]
    runs = {}
    for number, name, overlays in (
        (2, "no_attention", ["demo", "no_attention"]),
        (3, "attention", ["demo"]),
    ):
        runs[name] = root / "runs" / BUNDLE / f"demo-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        with _step(f"{number}/5 training, evaluating and predicting: {name}"):
            _train_and_apply(runs[name], datalist, shown[:SHOWN_SCANS], overlays)
    with _step("4/5 writing the page"):
        page = write_report(folder, datalist, runs)
    print(f"\n5/5 done in {(time.monotonic() - began) / 60:.1f} minutes; open {page}")
    return page


def _train_and_apply(run_dir: Path, datalist: Path, scans: list[str], overlays: list[str]) -> None:
    places = {
        "bundle_root": str(BUNDLES_ROOT / BUNDLE),
        "run_dir": str(run_dir),
        "data_list": str(datalist),
    }
    run_bundle(BUNDLE, "train", overlays=overlays, overrides={**places, "run_name": run_dir.name})
    trained = [run_dir / "trained.yaml"]
    run_bundle(BUNDLE, "evaluate", overlays=trained, overrides=places)
    run_bundle(BUNDLE, "inference", overlays=trained, overrides={**places, "scans": scans})


@contextmanager
def _step(title: str) -> Iterator[None]:
    began = time.monotonic()
    print(f"\n{title} ...", flush=True)
    yield
    print(f"{title}: {time.monotonic() - began:.0f} s", flush=True)
