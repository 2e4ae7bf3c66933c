from __future__ import annotations

import json
from pathlib import Path

import matplotlib.image

from bundles.detection_picture import draw_detections
from cohorts import load_datalist


def test_panels_without_a_scan_are_black(datalist: Path, tmp_path: Path) -> None:
    item = next(item for item in load_datalist(datalist, "testing") if item["boxes"])
    found = {"scan": item["image"], "findings": [{"box_ras_mm": item["boxes"][0]}]}
    (tmp_path / "predictions.json").write_text(json.dumps({"scans": [found]}))
    draw_detections([item], tmp_path, tmp_path / "detections.png")
    picture = matplotlib.image.imread(tmp_path / "detections.png")[..., :3]
    third = picture.shape[1] // 3
    assert picture[:, :third].max() > 0.9
    assert not picture[:, third + 20 :].any()
