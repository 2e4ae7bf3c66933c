from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from bundles.__main__ import main
from bundles.pack import pack_bundle
from cohorts import (
    CohortSettings,
    MammogramSettings,
    ScannerSettings,
    make_cohort,
    make_mammograms,
)


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


@pytest.fixture(scope="session")
def mammograms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few synthetic mammograms."""
    settings = MammogramSettings(training=12, validation=4, testing=6, seed=4)
    return make_mammograms(settings, tmp_path_factory.mktemp("mammograms"))


@pytest.fixture(scope="session")
def small_settings() -> list[str]:
    """What makes the cancer-risk bundle train in seconds."""
    settings = (
        "spacing_mm=[6, 6, 6]",
        "crop_shape=[48, 40, 48]",
        "batch_size=2",
        "cache_workers=0",
        "network_def::channels=[4, 4, 8, 8]",
    )
    return _set(settings)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, datalist: Path, small_settings: list[str]
) -> Iterator[Path]:
    """A folder in which the cancer-risk bundle has been trained for two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    with _trained_in(folder, "lung_ct_cancer_risk", datalist, small_settings):
        yield folder


@pytest.fixture(scope="session")
def detector_settings() -> list[str]:
    """What makes the nodule-detection bundle train in seconds."""
    settings = (
        "spacing_mm=[6, 6, 6]",
        "tile_shape=[32, 32, 32]",
        "tile_stride=[8, 8, 8]",
        "tile_margin=[8, 8, 8]",
        "lung_shape=[48, 40, 48]",
        "patch_shape=[32, 32, 32]",
        "patches_per_scan=2",
        "batch_size=2",
        "val_interval=1",
        "cache_workers=0",
        "network_def::channels=[4, 4, 8, 8]",
        "network_def::strides=[1, 2, 2, 2]",
    )
    return _set(settings)


@pytest.fixture(scope="module")
def trained_detector(
    tmp_path_factory: pytest.TempPathFactory, datalist: Path, detector_settings: list[str]
) -> Iterator[Path]:
    """A folder in which the nodule-detection bundle has been trained for two epochs."""
    folder = tmp_path_factory.mktemp("trained_detector")
    settings = [*detector_settings, "--set", "network_def::feature_channels=8"]
    with _trained_in(folder, "lung_ct_nodule_detection", datalist, settings):
        yield folder


@pytest.fixture(scope="session")
def segmenter_settings() -> list[str]:
    """What makes the nodule-segmentation bundle train in seconds."""
    settings = (
        "spacing_mm=[6, 6, 6]",
        "tile_shape=[32, 32, 32]",
        "tile_stride=[2, 2, 2]",
        "tile_margin=[8, 8, 8]",
        "patch_shape=[24, 24, 24]",
        "patches_per_scan=2",
        "val_interval=1",
        "cache_workers=0",
        "network_def::channels=[4, 8]",
        "network_def::strides=[1, 2]",
    )
    return _set(settings)


@pytest.fixture(scope="module")
def trained_segmenter(
    tmp_path_factory: pytest.TempPathFactory, datalist: Path, segmenter_settings: list[str]
) -> Iterator[Path]:
    """A folder in which the nodule-segmentation bundle has been trained for two epochs."""
    folder = tmp_path_factory.mktemp("trained_segmenter")
    with _trained_in(folder, "lung_ct_nodule_segmentation", datalist, segmenter_settings):
        yield folder


@pytest.fixture(scope="session")
def packed(
    tmp_path_factory: pytest.TempPathFactory,
    datalist: Path,
    small_settings: list[str],
    detector_settings: list[str],
    segmenter_settings: list[str],
) -> Callable[[str], Path]:
    """Trains a bundle in seconds and packs it, when first asked for; gives the zip."""
    settings = {
        "lung_ct_cancer_risk": small_settings,
        "lung_ct_nodule_detection": [
            *detector_settings,
            *_set(["network_def::feature_channels=8"]),
        ],
        "lung_ct_nodule_segmentation": segmenter_settings,
    }
    folder = tmp_path_factory.mktemp("packed")

    @cache
    def pack(bundle: str) -> Path:
        with _trained_in(folder, bundle, datalist, settings[bundle]):
            (run,) = (folder / "runs" / bundle).iterdir()
            return pack_bundle(bundle, run, folder)

    return pack


def _set(settings: Iterable[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


@contextmanager
def _trained_in(folder: Path, bundle: str, datalist: Path, settings: list[str]) -> Iterator[None]:
    """Trains for two epochs; in the block ``folder`` has the runs and the tracking store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setattr("bundles.run_folders.runs_folder", lambda: folder / "runs")
        train = ["train", bundle, "--datalist", str(datalist), *settings]
        assert main([*train, "--set", "max_epochs=2"]) == 0
        yield
