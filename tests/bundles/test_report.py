from __future__ import annotations

import shutil
from pathlib import Path

import matplotlib.image

from bundles.__main__ import main
from bundles.report import write_report
from cohorts import draw_gallery, load_datalist

BUNDLE = "lung_ct_cancer_risk"


def test_the_page_holds_its_pictures_and_says_that_scans_are_synthetic(
    trained: Path, datalist: Path, tmp_path: Path
) -> None:
    (run,) = (trained / "runs" / BUNDLE).glob("train-*")
    scans = [item["image"] for item in load_datalist(datalist, "testing") if item["risk"]]
    applied = ["predict", BUNDLE, "--output", str(tmp_path / "predictions"), "--scans", *scans]
    assert main(applied) == 0
    output = f"output_dir={tmp_path / 'evaluation'}"
    assert main(["evaluate", BUNDLE, "--datalist", str(datalist), "--set", output]) == 0
    shutil.copy(run / "curves.png", tmp_path)
    draw_gallery(datalist, tmp_path / "gallery.png", scans=1)

    page = write_report(tmp_path, datalist, {"no_attention": tmp_path, "attention": tmp_path})

    text = page.read_text()
    assert "Synthetic phantoms, not patients" in text
    assert text.count("data:image/png;base64,") == 4
    assert 'src="/' not in text and "$" not in text.split("<style>")[0]
    assert text.count("cannot be told from chance") == 2
    # Two test scans are too few for an interval, and the page does not make one up.
    assert "[" not in text.split("<table>")[1].split("</table>")[0]
    picture = matplotlib.image.imread(tmp_path / "comparison.png")
    assert picture.std() > 0.1
