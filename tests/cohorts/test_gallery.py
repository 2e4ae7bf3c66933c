from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from cohorts import CohortSettings, ScannerSettings, draw_gallery, make_cohort
from cohorts.gallery import main

NO_BOX: dict[str, list[object]] = {"boxes": [], "box_labels": [], "nodules": []}


def test_gallery_shows_both_colours(tmp_path: Path) -> None:
    scanner = ScannerSettings(spacing_mm=(6, 6, 6), field_of_view_mm=(384, 384, 288))
    settings = CohortSettings(
        training=4,
        validation=0,
        testing=0,
        clean_fraction=0.25,
        min_diameter_mm=14,
        scanner=scanner,
    )
    datalist = make_cohort(settings, tmp_path / "cohort", quiet=True)
    picture = draw_gallery(datalist, tmp_path / "new" / "gallery.png", scans=4)
    pixels = imread(picture)[..., :3]
    body = pixels[: int(0.95 * len(pixels))]
    for colour in ((1.0, 0.27, 0.0), (0.0, 0.75, 1.0)):
        assert (np.abs(body - colour).max(axis=-1) < 0.08).sum() > 5
    with pytest.raises(ValueError, match="scans must be 1 or more, got 0"):
        draw_gallery(datalist, picture, scans=0)
    cohort = json.loads(datalist.read_text())
    flat = {**cohort, "box_mode": "ccwh", "training": [{**cohort["training"][0], **NO_BOX}]}
    datalist.write_text(json.dumps(flat))
    with pytest.raises(ValueError, match=r"box_mode must be cccwhd for slices .*, got 'ccwh'"):
        draw_gallery(datalist, picture)


def test_missing_datalist_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none.json"
    assert main(["--datalist", str(missing), "--output", str(tmp_path / "g.png")]) == 1
    assert "the datalist must exist, got no file" in capsys.readouterr().err
