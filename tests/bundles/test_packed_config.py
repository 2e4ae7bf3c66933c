from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow, verify_net_in_out

from bundles.packed_config import (
    BUNDLE_ROOT,
    IMPORTS,
    check_no_absolute_path,
    packed_overlay,
    packed_workflow,
)


def test_a_workflow_has_its_places_in_the_package() -> None:
    config = {
        "bundle_root": ".",
        "checkpoint": "/elsewhere/model.pt",
        "initialize": ["$1"],
        "network_def": {"_target_": "networks.UNet"},
        "run_artifacts": ["$@run_dir + '/model.pt'", "$@run_dir + '/trained.yaml'"],
    }
    packed = packed_workflow(config, "digest")
    assert packed["checkpoint"] == "$@bundle_root + '/models/model.pt'"
    assert packed["initialize"] == ["$@shared_code", "$1"]
    assert packed["network_def"] == {"_requires_": "@shared_code", "_target_": "networks.UNet"}
    assert packed["shared_code"]["digest"] == "digest"
    # What the training does not write is not looked for, and no place is added.
    assert packed["run_artifacts"] == ["$@run_dir + '/model.pt'"]
    assert "calibration" not in packed
    check_no_absolute_path(packed, "train.json")


def test_an_overlay_keeps_the_check_of_what_it_replaces() -> None:
    assert packed_overlay({"initialize": ["$@rank"]})["initialize"] == ["$@shared_code", "$@rank"]
    whole = packed_overlay({"network_def": {"_target_": "networks.UNet"}})
    assert whole["network_def"]["_requires_"] == "@shared_code"
    part: dict[str, Any] = {"network_def::levels": 1, "max_epochs": 3}
    assert packed_overlay(part) == part
    assert packed_overlay({}) == {}


@pytest.mark.parametrize(
    "text",
    [
        "/data/scans",
        "~/scans",
        "C:\\scans",
        "D:/scans",
        "$'/data/scans'",
        "$torch.load('/data/model.pt')",
        '$["a", "/data/scans"]',
    ],
)
def test_an_absolute_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"train\.json::a::1: .* no absolute path, got "):
        check_no_absolute_path({"a": [1, text]}, "train.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "data/scans",
        "0/1",
        "@train::data",
        "$@bundle_root + '/data'",
        "$@checkpoint.removesuffix('.pt') + '.onnx'",
        "$['image'] + @target_keys",
    ],
)
def test_what_is_no_absolute_path_passes(text: str) -> None:
    check_no_absolute_path({"a": [1, text, None, 2.5]}, "train.json")


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A bundle's config of nothing but its root."""
    path = tmp_path / "bundle/configs/inference.json"
    path.parent.mkdir(parents=True)
    config = {
        "imports": IMPORTS,
        "bundle_root": BUNDLE_ROOT,
        "initialize": ["$@bundle_root"],
        "network_def": {"_target_": "torch.nn.Conv1d", "_requires_": "@kept"}
        | {"in_channels": 1, "out_channels": 1, "kernel_size": 1},
        "kept": "$sys.modules.setdefault('kept_root', @bundle_root)",
    }
    path.write_text(json.dumps(config))
    return path


def test_a_workflow_knows_the_folder_of_its_config(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(config_file.parents[1])
    workflow = create_workflow(config_file=str(config_file), workflow_type="infer")
    assert workflow.bundle_root == root
    monkeypatch.chdir(config_file.parents[1])
    overlay = config_file.with_name("overlay.json")
    overlay.write_text("{}")
    files = ["configs/inference.json", str(overlay)]
    several = ConfigWorkflow(config_file=files, workflow_type="infer")
    several.initialize()
    assert several.bundle_root == root
    given = ConfigWorkflow(
        config_file=str(config_file), workflow_type="infer", bundle_root="elsewhere"
    )
    given.initialize()
    assert given.bundle_root == "elsewhere"


def test_a_command_knows_the_folder_of_its_config(config_file: Path) -> None:
    metadata: dict[str, Any] = {
        "network_data_format": {"inputs": {"image": {}}, "outputs": {"pred": {}}}
    }
    part: dict[str, Any] = {"num_channels": 1, "spatial_shape": [4], "dtype": "float32"}
    metadata["network_data_format"]["inputs"]["image"] = part
    metadata["network_data_format"]["outputs"]["pred"] = part
    meta_file = config_file.with_name("metadata.json")
    meta_file.write_text(json.dumps(metadata))
    verify_net_in_out(
        "network_def", meta_file=str(meta_file), config_file=str(config_file), device="cpu"
    )
    assert sys.modules.pop("kept_root") == str(config_file.parents[1])  # type: ignore[comparison-overlap]


def test_without_monais_commands_the_root_is_the_working_folder(config_file: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(config_file))
    assert parser.get_parsed_content("bundle_root") == "."
