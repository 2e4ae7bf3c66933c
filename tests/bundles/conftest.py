from __future__ import annotations

from pathlib import Path

import pytest

from cohorts import CohortSettings, ScannerSettings, make_cohort


@pytest.fixture(scope="session")
def datalist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight tiny phantoms."""
    settings = CohortSettings(
        training=4,
        validation=2,
        testing=2,
        seed=3,
        min_diameter_mm=12,
        scanner=ScannerSettings(spacing_mm=(6.0, 6.0, 6.0)),
    )
    return make_cohort(settings, tmp_path_factory.mktemp("phantom"), quiet=True)
