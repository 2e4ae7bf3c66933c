from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import patch_reading, report
from benchmarks.detector_chain import ChainCost, our_chains
from benchmarks.patch_reading import READERS, Cost, cost
from cohorts import CohortSettings, ScannerSettings, load_datalist, make_cohort


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    """One small phantom with a nodule."""
    scanner = ScannerSettings(spacing_mm=(6.0, 6.0, 6.0))
    settings = CohortSettings(
        training=0, validation=0, testing=1, min_diameter_mm=12, scanner=scanner
    )
    return make_cohort(settings, tmp_path / "phantom", quiet=True)


def test_all_draw_patches_of_the_scan(
    datalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch_reading, "PATCH_SHAPE", (16, 16, 16))
    (item,) = load_datalist(datalist, "testing")
    rows = patch_reading.build_rows(item, tmp_path / "cache")
    image, mask = (Path(item[key]).stat().st_size for key in ("image", "mask"))
    assert rows[0].ours > 0
    assert [row.peer for row in rows] == [image / 1e6, pytest.approx((image + mask) / 1e6), None]
    for name in READERS:
        found = cost(name, item, tmp_path / "cache")
        assert min(found[:2]) > 0


def test_the_report_names_both_peers(
    datalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh(_: Any, *arguments: Any) -> Any:
        if arguments[0] in READERS:
            costs = {"ours": Cost(2, 1, 40), "cache_dataset": Cost(600, 500, 1800)}
            return costs.get(arguments[0], Cost(6000, 5000, 1400))
        return ChainCost(1, 0.5) if arguments[0] is our_chains else ChainCost(20, 15)

    monkeypatch.setattr(patch_reading, "in_fresh_process", fresh)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    options = ["--datalist", str(datalist), "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["patch_reading", *options])
    patch_reading.main()
    written = json.loads((tmp_path / "results" / "patch_reading.json").read_text())
    ratios = {row["what"]: row["ratio"] for row in written["rows"]}
    patch = "random 96x96x96 patch of image and mask, peer"
    assert ratios[f"{patch} CacheDataset"] == 300
    assert ratios[f"{patch} CacheDataset: CPU time"] == 500
    assert ratios["memory of a worker, peer CacheDataset"] == 45
    assert ratios[f"{patch} LoadImaged + RandCropByPosNegLabeld"] == 3000
    chain = "detector's training chain, 4 patches of 192x192x80"
    assert ratios[f"{chain}, peer model zoo: CPU time"] == 20
    assert ratios[f"{chain}, no augmentation, peer model zoo: CPU time"] == 30


def test_rounds_must_be_one_or_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["patch_reading", "--rounds", "0"])
    with pytest.raises(SystemExit):
        patch_reading.main()
