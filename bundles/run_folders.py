"""Where trainings are kept: ``runs/<bundle>/<run>/`` beside the tracking store."""

from __future__ import annotations

import secrets
from datetime import datetime
from pathlib import Path

import ignite.distributed as idist

from bundles.bundle_config import bundle_configs
from handlers.join_ranks import join_ranks
from handlers.mlflow_store import checkout_folder


def runs_folder() -> Path:
    """``runs/`` of the checkout, or of the working folder where there is none."""
    return checkout_folder() / "runs"


def new_run(bundle: str, what: str) -> Path:
    """A folder, not made yet, whose name no other run has, not even one of the same second.

    Processes that torchrun started have one folder together, named by the first.
    """
    name = f"{what}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    join_ranks()
    return runs_folder() / bundle / str(idist.broadcast(name, safe_mode=True))


def last_run(bundle: str) -> Path:
    """Folder of the run of ``bundle`` whose best weights are the newest.

    Raises:
        ValueError: there is no such bundle, or none of its weights.
    """
    bundle_configs(bundle)
    folder = runs_folder() / bundle
    weights = sorted(folder.glob("*/model.pt"), key=lambda path: path.stat().st_mtime)
    if not weights:
        raise ValueError(
            f"{bundle} must have been trained before it is applied, got no model.pt below "
            f"{folder}; `make demo` trains it on phantoms"
        )
    return weights[-1].parent
