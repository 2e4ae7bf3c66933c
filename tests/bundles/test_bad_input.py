"""Items that break a rule, in a whole training or evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from monai.bundle import ConfigParser

from bundles.__main__ import main
from bundles.bundle_config import config_files
from cohorts import load_datalist

BUNDLE = "lung_ct_cancer_risk"


@pytest.fixture
def train(tmp_path: Path, small_settings: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of a training of one epoch into ``tmp_path / "run"``, without a datalist."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    settings = ["--set", "max_epochs=1", "--set", f"run_dir={tmp_path / 'run'}"]
    return ["train", BUNDLE, *small_settings, *settings]


@pytest.fixture
def changed(datalist: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Writes a datalist in which each training item with cancer has other values."""
    path = datalist.with_name(f"{request.node.name}.json")

    def write(**values: Any) -> tuple[Path, dict[str, Any]]:
        content = json.loads(datalist.read_text())
        ill = [item for item in content["training"] if item["risk"]]
        for item in ill:
            item.update(values)
        path.write_text(json.dumps(content))
        return path, ill[0]

    yield write
    path.unlink(missing_ok=True)


def test_boxes_lost_by_the_crop_are_counted_and_their_side_teaches_instead(
    train: list[str],
    datalist: Path,
    small_settings: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    middle = "crop_shape=[8, 40, 48]"  # 48 mm from left to right: between the nodules
    ill = [item for item in load_datalist(datalist, "training") if item["risk"]]
    parser = ConfigParser()
    parser.read_config([str(file) for file in config_files(BUNDLE, "train", [])])
    pairs = [pair.split("=", 1) for pair in [*small_settings, middle] if "=" in pair]
    parser.update({name: yaml.safe_load(value) for name, value in pairs})
    preprocessing = parser.get_parsed_content("train::preprocessing")
    for item in ill:
        sample = preprocessing(dict(item))
        assert sample["lost_boxes"] == sum(item["box_labels"])
        assert sample["box_mask"].sum() == 0
        assert sample["side_mask"].sum() > 0
    for item in ill:
        assert f"{item['image']}: box 0 lies outside of the crop" in caplog.text

    assert main([*train, "--datalist", str(datalist), "--set", middle]) == 0
    (epoch,) = json.loads((tmp_path / "run" / "history.json").read_text())
    assert (epoch["training"]["box_share"], epoch["training"]["fallback_share"]) == (0.5, 0.5)
    # The validation sees whole scans.
    assert (epoch["validation"]["box_share"], epoch["validation"]["fallback_share"]) == (0.5, 0)


@pytest.mark.parametrize(
    ("overlays", "values", "names", "sentence"),
    [
        ([], {"side": "right"}, "image", "side must be that of a malignant box, got right and the"),
        (
            ["yearly"],
            {"years_to_diagnosis": None},
            "image",
            "years_to_diagnosis must be given where risk is 1, got none",
        ),
        (
            ["yearly"],
            {"years_to_diagnosis": 3, "censoring_years": 2},
            "patient_id",
            "must not be below years_to_diagnosis, got 2 and 3",
        ),
        (["yearly"], {"censoring_years": 0}, "patient_id", "must be above 0, got 0"),
        (
            [],
            {"boxes": [[900, 0, 0, 9, 9, 9]], "box_labels": [1], "nodules": [{}]},
            "image",
            "box 0 must lie inside the scan",
        ),
    ],
    ids=["side", "no_time", "times", "zero", "box"],
)
def test_an_item_that_contradicts_itself_is_refused_in_one_sentence(
    train: list[str],
    changed: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    overlays: list[str],
    values: dict[str, Any],
    names: str,
    sentence: str,
) -> None:
    path, item = changed(**values)
    options = [part for overlay in overlays for part in ("--overlay", overlay)]
    assert main([*train, "--datalist", str(path), *options]) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert sentence in error
    assert item[names] in error
    assert not (tmp_path / "run").exists()
