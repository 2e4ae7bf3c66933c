from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from monai.bundle import ConfigParser

from bundles.bundle_config import (
    bundle_configs,
    bundle_names,
    config_files,
    merged_config,
    trained_keys,
    write_config,
)
from bundles.flat_config import config_json, flat_config, overlay_configs

BUNDLE = "lung_ct_nodule_segmentation"
PLACES = ("bundle_root", "run_dir", "data_list", "checkpoint", "device")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with settings of its own; no training is needed."""
    overrides = {
        "spacing_mm": [5.0, 5.0, 5.0],
        "max_epochs": 7,
        "run_name": "mine",
        "resume": "/somewhere/last.pt",
        "data_list": "/somewhere/datalist.json",
        "run_dir": "/somewhere",
    }
    config = merged_config(config_files(BUNDLE, "train", []), overrides)
    write_config(tmp_path / "run", config, trained_keys(BUNDLE))
    return tmp_path / "run"


def test_a_training_is_as_it_was_run_but_for_its_places(run_dir: Path) -> None:
    config = flat_config(BUNDLE, "train", run_dir)
    run = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert (config["spacing_mm"], config["max_epochs"]) == ([5.0, 5.0, 5.0], 7)
    assert (config["run_name"], config["resume"]) == (None, None)
    common = yaml.safe_load((bundle_configs(BUNDLE) / "common.yaml").read_text())
    assert {key: config[key] for key in PLACES} == {key: common[key] for key in PLACES}
    others = config.keys() - {*PLACES, "run_name", "resume", "dataset_dir", "memory_format"}
    assert {key: config[key] for key in others} == {key: run[key] for key in others}
    assert config["train"]["trainer"]["network"] == "@network"
    assert config["trackers"][0]["_target_"] == "handlers.MlflowTracking"


@pytest.mark.parametrize("workflow", ["evaluate", "inference"])
def test_evaluation_and_inference_take_what_belongs_to_the_weights(
    run_dir: Path, workflow: str
) -> None:
    config = flat_config(BUNDLE, workflow, run_dir)
    assert config["spacing_mm"] == [5.0, 5.0, 5.0]
    assert config["data_list"] == "$@dataset_dir + '/datalist.json'"
    own = yaml.safe_load((bundle_configs(BUNDLE) / f"{workflow}.yaml").read_text())
    assert own.items() <= config.items()
    assert config.keys().isdisjoint({"max_epochs", "train", "_meta_"})


@pytest.mark.parametrize(("workflow", "lost"), [("train", "config"), ("inference", "trained")])
def test_a_run_without_its_settings_is_refused(run_dir: Path, workflow: str, lost: str) -> None:
    path = run_dir / f"{lost}.yaml"
    path.unlink()
    with pytest.raises(ValueError, match=f"{path}: a run must have this file"):
        flat_config(BUNDLE, workflow, run_dir)


@pytest.mark.parametrize("bundle", bundle_names())
def test_overlays_are_the_same_in_json(bundle: str) -> None:
    configs = bundle_configs(bundle)
    overlays = overlay_configs(bundle)
    layers = {"common", "train", "evaluate", "inference"}
    assert set(overlays) == {path.stem for path in configs.glob("*.yaml")} - layers
    for name, overlay in overlays.items():
        text = (configs / f"{name}.yaml").read_text().replace(".inf", "$float('inf')")
        assert json.loads(config_json(overlay)) == yaml.safe_load(text), name


def test_infinity_and_words_outside_of_ascii_pass_through_json(tmp_path: Path) -> None:
    config = {"low": -math.inf, "rates": [1.5, math.inf], "name": "Übung", "none": None}
    text = config_json(config)
    assert text.isascii() and "Infinity" not in text
    path = tmp_path / "config.json"
    path.write_text(text)
    parser = ConfigParser()
    parser.read_config(str(path))
    assert {key: parser.get_parsed_content(key) for key in config} == config
    assert json.loads(config_json({})) == {}
