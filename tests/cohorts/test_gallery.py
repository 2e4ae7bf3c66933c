from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from cohorts import (
    CohortSettings,
    MammogramSettings,
    ScannerSettings,
    draw_gallery,
    load_datalist,
    make_cohort,
    make_mammograms,
)
from cohorts.gallery import _varied, main


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


def test_flat_images_stand_as_they_are_read(tmp_path: Path) -> None:
    datalist = make_mammograms(MammogramSettings(4, 0, 0, seed=4), tmp_path)
    pixels = imread(draw_gallery(datalist, tmp_path / "gallery.png"))[..., :3]
    assert pixels.shape[1] > 3 * pixels.shape[0]
    body = pixels[: int(0.9 * len(pixels))]
    for colour in ((1.0, 0.27, 0.0), (0.0, 0.75, 1.0)):
        assert (np.abs(body - colour).max(axis=-1) < 0.08).sum() > 5
    # A left breast has its chest wall on the left of its picture.
    panels = np.array_split(body.mean(axis=-1), 4, axis=1)
    order = _varied(load_datalist(datalist, "training"), 4)
    assert {item["laterality"] for item in order} == {"left", "right"}
    for panel, item in zip(panels, order, strict=True):
        left, right = (half.mean() for half in np.array_split(panel, 2, axis=1))
        assert (left > right) == (item["laterality"] == "left")


def test_missing_datalist_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none.json"
    assert main(["--datalist", str(missing), "--output", str(tmp_path / "g.png")]) == 1
    assert "the datalist must exist, got no file" in capsys.readouterr().err
