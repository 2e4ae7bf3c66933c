"""A training of the demo alone, for what needs weights before anyone has trained."""

from __future__ import annotations

from pathlib import Path

from bundles.bundle_config import bundle_configs
from bundles.demo import COHORT
from bundles.run_bundle import run_bundle
from bundles.run_folders import new_run, runs_folder
from cohorts import make_cohort


def demo_run(bundle: str) -> Path:
    """Train a bundle with its ``demo`` overlay on the demo's phantoms, evaluate it; its folder.

    The phantoms are those of ``make demo`` and kept for it.
    """
    datalist = make_cohort(COHORT, runs_folder().parent / "data" / "phantom-demo", workers=2)
    run_dir = new_run(bundle, "demo")
    places = {
        "bundle_root": str(bundle_configs(bundle).parent),
        "run_dir": str(run_dir),
        "data_list": str(datalist),
    }
    named = {**places, "run_name": run_dir.name}
    run_bundle(bundle, "train", overlays=["demo"], overrides=named)
    run_bundle(bundle, "evaluate", overlays=[run_dir / "trained.yaml"], overrides=places)
    return run_dir
