from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import pytest

from bundles.__main__ import main
from bundles.report import write_report
from bundles.report_attention import attention_section
from bundles.report_detection import detection_section
from cohorts import draw_gallery, load_datalist

BUNDLE, BOXES = "lung_ct_cancer_risk", "lung_ct_nodule_detection"


@pytest.fixture(scope="module")
def runs(trained: Path, datalist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run, evaluated and applied, under both names, and the gallery."""
    folder = tmp_path_factory.mktemp("report")
    (run,) = (trained / "runs" / BUNDLE).glob("train-*")
    supervised = folder / "attention"
    scans = [item["image"] for item in load_datalist(datalist, "testing") if item["risk"]]
    predict = ["predict", BUNDLE, "--output", str(supervised / "predictions"), "--scans", *scans]
    assert main(predict) == 0
    output = f"output_dir={supervised / 'evaluation'}"
    assert main(["evaluate", BUNDLE, "--datalist", str(datalist), "--set", output]) == 0
    shutil.copy(run / "curves.png", supervised)
    shutil.copytree(supervised, folder / "no_attention")
    draw_gallery(datalist, folder / "gallery.png", scans=1)
    return folder


@pytest.fixture
def page(runs: Path, datalist: Path) -> Callable[[], str]:
    """Writes the page and reads it."""
    both = {name: runs / name for name in ("no_attention", "attention")}

    def write() -> str:
        section = attention_section(runs, datalist, both, bundle=BUNDLE)
        return write_report(runs, [section], bundles=[BUNDLE, BOXES]).read_text()

    return write


def test_the_page_holds_its_pictures_and_says_that_scans_are_synthetic(
    page: Callable[[], str], runs: Path
) -> None:
    text = page()
    assert "Synthetic phantoms, not patients" in text
    assert text.count("data:image/png;base64,") == 5
    assert 'src="/' not in text and "$" not in text
    assert (
        "of one seed" in text
        and f"python -m bundles compare {BUNDLE} --overlay demo --datalist" in text
    )
    assert matplotlib.image.imread(runs / "comparison.png").std() > 0.1


def test_two_scans_are_too_few_for_an_interval_or_a_calibration(page: Callable[[], str]) -> None:
    text = page()
    assert text.count("cannot be told from chance") == 2
    differences, errors = text.split("<table>")[1:]
    assert "[" not in differences.split("</table>")[0]
    assert "AUROC (2 scans)" in differences
    assert "before calibration" in errors and ">after<" not in errors
    for name in ("without", "with"):
        assert f"The training {name} supervision has no calibration: that needs at least 5" in text
    assert "were screened" not in text


def test_the_page_of_a_calibrated_training_has_its_operating_point(
    page: Callable[[], str], runs: Path
) -> None:
    counts = {"prevalence": 0.5, "recalled": 611, "found": 450, "missed": 50, "false_alarms": 161}
    found = {"threshold": 0.4321, "target_sensitivity": 0.9, "screens": 1000}
    path = runs / "attention" / "evaluation" / "evaluation.json"
    before = path.read_text()
    report = json.loads(before)
    report["metrics"] |= {"brier_calibrated": 0.123, "ece_calibrated": 0.0456}
    report |= {"calibrated": True, "screening": {**found, "cohort": counts, "reweighted": None}}
    path.write_text(json.dumps(report))
    text = page()
    path.write_text(before)
    assert "The training without supervision has no calibration" in text
    assert "The training with supervision has no calibration" not in text
    assert "<td>0.123</td>" in text and "<td>0.046</td>" in text
    assert "if its calibrated risk is 0.432 or more" in text and "at least 90 %" in text
    assert "<td>611</td><td>450</td><td>50</td><td>161</td>" in text


def test_the_detectors_section_has_its_numbers_and_pictures(
    trained_detector: Path, datalist: Path, tmp_path: Path
) -> None:
    (run,) = (trained_detector / "runs" / BOXES).glob("train-*")
    every = ["--set", "min_score=0"]
    assert main(["evaluate", BOXES, "--datalist", str(datalist), *every]) == 0
    scans = [item["image"] for item in load_datalist(datalist, "testing")]
    predict = ["predict", BOXES, "--output", str(run / "predictions"), "--scans", *scans]
    assert main([*predict, *every, "--set", "min_finding_score=0.005"]) == 0
    text = detection_section(tmp_path, datalist, run, bundle=BOXES)
    assert text.count("data:image/png;base64,") == 3 and "$" not in text
    nodules = sum(len(item["boxes"]) for item in load_datalist(datalist, "testing"))
    assert f"{nodules} nodules in them" in text and "a score of 0.005 or more" in text
    assert f"python -m bundles compare {BOXES} --overlay demo --datalist" in text
    assert matplotlib.image.imread(tmp_path / "detections.png").std() > 0.1
