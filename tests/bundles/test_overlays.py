"""The overlays that no other workflow test runs, each trained for an epoch and evaluated."""

from __future__ import annotations

import csv
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bundles.bundle_config import bundle_configs
from bundles.run_bundle import run_bundle
from cohorts import load_datalist

BUNDLE = "lung_ct_cancer_risk"
# What each asks of the loss: the weights of its box and its side term.
LAMBDAS = {
    "average_pooling": (0, 0),
    "max_pooling": (0, 0),
    "gated_attention": (0, 0),
    "side_only": (0, 0.1),
    "box_and_side": (0.5, 0.1),
    "per_lesion": (0.5, 0.1),
}
BESIDE_MM, BESIDE_SIZE_MM = 30.0, [36.0, 36.0, 36.0]  # a feature cell has 24 mm
SMALL: dict[str, Any] = {
    "spacing_mm": [6, 6, 6],
    "crop_shape": [48, 40, 48],
    "batch_size": 2,
    "network_def::channels": [4, 4, 8, 8],
    "max_epochs": 1,
}


@pytest.fixture(scope="module")
def two_cancers(datalist: Path) -> Path:
    """The tiny phantoms, each cancer with a second, larger box above it."""
    content = json.loads(datalist.read_text())
    for item in content["training"] + content["validation"] + content["testing"]:
        if item["risk"]:
            x, y, z, *size = item["boxes"][item["box_labels"].index(1)]
            item["boxes"] = [[x, y, z, *size], [x, y, z + BESIDE_MM, *BESIDE_SIZE_MM]]
            item.update(box_labels=[1, 1], nodules=[{}, {}])
    path = datalist.with_name("two_cancers.json")
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def run_of(two_cancers: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with the weights of an overlay and their evaluation; each is trained once."""

    @functools.cache
    def run(overlay: str) -> Path:
        folder = tmp_path_factory.mktemp(overlay) / "run"
        _train(folder, two_cancers, [overlay], SMALL)
        _apply("evaluate", folder, two_cancers)
        return folder

    return run


@pytest.mark.parametrize(("overlay", "lambdas"), LAMBDAS.items(), ids=list(LAMBDAS))
def test_training_and_evaluation_have_the_overlays_loss(
    run_of: Callable[[str], Path], overlay: str, lambdas: tuple[float, float]
) -> None:
    (row,) = _json(run_of(overlay) / "history.json")
    report = _json(run_of(overlay) / "evaluation" / "evaluation.json")
    assert (report["scans"], report["failed"], report["lost_boxes"]) == (2, [], 0)
    for metrics in (row["training"], row["validation"], report["metrics"]):
        _assert_finite(metrics)
        assert ("side_loss" in metrics) == (lambdas[1] > 0)  # the others have one head
        terms = (metrics["box_loss"], metrics.get("side_loss", 0))
        weighted = sum(weight * term for weight, term in zip(lambdas, terms, strict=True))
        assert metrics["loss"] == pytest.approx(metrics["risk_loss"] + weighted, abs=1e-5)
    assert 0 < report["metrics"]["attention_mass"] < 1


@pytest.mark.parametrize(
    ("overlay", "default", "metric"),
    [
        ("side_only", {"box_head": 0}, "attention_mass"),
        ("per_lesion", {"per_lesion": False}, "box_loss"),
    ],
)
def test_the_evaluation_judges_as_the_overlay_says(
    run_of: Callable[[str], Path],
    two_cancers: Path,
    tmp_path: Path,
    *,
    overlay: str,
    default: dict[str, Any],
    metric: str,
) -> None:
    run_dir = run_of(overlay)
    _apply("evaluate", run_dir, two_cancers, output_dir=str(tmp_path), **default)
    without = _json(tmp_path / "evaluation.json")["metrics"][metric]
    value = _json(run_dir / "evaluation" / "evaluation.json")["metrics"][metric]
    assert value != pytest.approx(without, rel=1e-3)
    # To look at each of two cancers is more than to look at either.
    assert overlay != "per_lesion" or value > without


@pytest.mark.parametrize("overlay", ["max_pooling", "side_only"])
def test_a_prediction_needs_the_trained_settings_alone(
    run_of: Callable[[str], Path], two_cancers: Path, tmp_path: Path, overlay: str
) -> None:
    run_dir = run_of(overlay)
    scans = [item["image"] for item in load_datalist(two_cancers, "testing")]
    _apply("inference", run_dir, two_cancers, scans=scans, output_dir=str(tmp_path))
    report = _json(tmp_path / "predictions.json")
    assert report["failed"] == []
    with (run_dir / "evaluation" / "per_scan.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for scan, row in zip(report["scans"], rows, strict=True):
        assert scan["risk"] == pytest.approx(float(row["predicted_risk"]), abs=1e-6)
        assert (tmp_path / scan["attention"]).is_file()


def test_ablation_trains_with_its_own_network_and_validates_every_second_epoch(
    datalist: Path, tmp_path: Path
) -> None:
    _train(tmp_path, datalist, ["ablation"], {"max_epochs": 2})
    _apply("evaluate", tmp_path, datalist)
    first, second = _json(tmp_path / "history.json")
    assert not first.get("validation")
    report = _json(tmp_path / "evaluation" / "evaluation.json")
    for metrics in (first["training"], second["training"], second["validation"]):
        _assert_finite(metrics)
    _assert_finite(report["metrics"])


def test_a_batch_may_mix_scans_of_the_disk_cache_with_fresh_ones(
    datalist: Path, tmp_path: Path
) -> None:
    cached = datalist.with_name("cached.json")
    cached.write_text(datalist.read_text())
    # The four training scans are one batch.
    settings = {**SMALL, "batch_size": 4}
    _train(tmp_path / "fresh", cached, ["disk_cache"], settings)
    files = _cache_files(cached)
    assert len(files) == 6
    # Three of four training and two validation scans: between one and three are of training.
    for file in files[::2]:
        file.unlink()
    _train(tmp_path / "mixed", cached, ["disk_cache"], settings)
    assert _cache_files(cached) == files
    _train(tmp_path / "all_cached", cached, ["disk_cache"], settings)
    _apply("evaluate", tmp_path / "mixed", cached)
    fresh, *others = [
        _json(tmp_path / name / "history.json")[0] for name in ("fresh", "mixed", "all_cached")
    ]
    for phase in ("training", "validation"):
        _assert_finite(fresh[phase])
        for other in others:
            assert other[phase] == pytest.approx(fresh[phase], rel=1e-4)
    _assert_finite(_json(tmp_path / "mixed" / "evaluation" / "evaluation.json")["metrics"])


def _train(
    run_dir: Path, datalist: Path, overlays: Sequence[str], settings: Mapping[str, Any]
) -> None:
    # MLflow has tests of its own.
    quick = {"trackers": [], "cache_workers": 0, **settings}
    overrides = {**_places(run_dir, datalist), **quick}
    run_bundle(BUNDLE, "train", overlays=overlays, overrides=overrides)


def _apply(workflow: str, run_dir: Path, datalist: Path, **settings: Any) -> None:
    overrides = {**_places(run_dir, datalist), **settings}
    run_bundle(BUNDLE, workflow, overlays=[run_dir / "trained.yaml"], overrides=overrides)


def _places(run_dir: Path, datalist: Path) -> dict[str, Any]:
    return {
        "bundle_root": str(bundle_configs(BUNDLE).parent),
        "run_dir": str(run_dir),
        "data_list": str(datalist),
    }


def _cache_files(datalist: Path) -> list[Path]:
    return sorted(Path(f"{datalist}.cache").glob("*.pt"))


def _assert_finite(metrics: Mapping[str, float | None]) -> None:
    assert metrics
    for name, value in metrics.items():
        assert value is not None and math.isfinite(value), name


def _json(path: Path) -> Any:
    return json.loads(path.read_text())
