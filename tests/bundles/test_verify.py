from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from bundles import package_checks, verify
from bundles.package_checks import check_metadata, check_network
from networks import NoduleDetector

URL = "https://project-monai.github.io/schema/meta_schema_20240725.json"
RULES: dict[str, Any] = {"type": "object", "required": ["schema", "task", "network_data_format"]}
FORMAT: dict[str, Any] = {
    "inputs": {"image": {"num_channels": 1, "spatial_shape": ["8*n", "*", 6], "dtype": "float32"}},
    "outputs": {"pred": {"format": "logits", "num_channels": 2, "dtype": "float32"}},
}
METADATA: dict[str, Any] = {"schema": URL, "task": "any", "network_data_format": FORMAT}


def _schema(folder: Path, content: Any = RULES) -> Path:
    path = folder / "rules.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def _root(folder: Path, metadata: dict[str, Any] = METADATA) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return folder


def _package(folder: Path, files: dict[str, bytes]) -> Path:
    sums = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in files)
    path = folder / "broken-1.0.0.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "manifest.sha256": sums.encode()}.items():
            archive.writestr(f"broken/{name}", content)
    return path


def _broken(folder: Path) -> Path:
    """A package in which everything is wrong but its files' hashes."""
    weights = io.BytesIO()
    torch.save({"other.weight": torch.zeros(3)}, weights)
    network = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
    config = json.dumps({"network_def": network, "device": "$torch.device('cpu')"}).encode()
    metadata = {key: METADATA[key] for key in METADATA if key != "task"}
    files = {f"configs/{name}.json": config for name in ("train", "evaluate", "inference")}
    files["configs/overlay.json"] = b'{"network_def::_target_": "networks.Missing"}'
    files["configs/metadata.json"] = json.dumps(metadata).encode()
    files["models/model.pt"] = weights.getvalue()
    return _package(folder, files)


def test_every_check_that_fails_says_why_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(_broken(tmp_path)), "--schema", str(_schema(tmp_path))]
    assert verify.main(arguments) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    expected = {
        "metadata": "'task' is a required property",
        "load": "must have the tensors of models/model.pt, not bias",
        "network": "output channel number `3` doesn't match: `2`",
        "train properties": "configs/train.json: Property 'bundle_root'",
        "evaluate properties": "configs/evaluate.json: Property 'bundle_root'",
        "inference properties": "configs/inference.json: Property 'bundle_root'",
        "ckpt_export": "other.weight",
        "targets": "must hold what its configs build, got no networks.Missing",
        "shared code": "must be those of the package",
    }
    assert lines[0].startswith("ok     files")
    assert len(lines) == 1 + len(expected)
    for line, (check, sentence) in zip(lines[1:], expected.items(), strict=True):
        assert line.startswith(f"FAILED {check} ") and sentence in line
    assert f"must pass every check, got {len(expected)} failed" in err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<html>not found</html>", "Expecting value"),
        ([], "it does not ask for network_data_format"),
        ({}, "it does not ask for network_data_format"),
        ({"required": ["title"]}, "it does not ask for network_data_format"),
        ({**RULES, "type": "thing"}, "'thing' is not valid"),
    ],
)
def test_a_wrong_schema_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, reason: str
) -> None:
    schema = _schema(tmp_path, content)
    assert verify.main([str(tmp_path / "none.zip"), "--schema", str(schema)]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: --schema must be the model zoo's, a JSON schema, got ")
    assert f"{schema} ({reason}" in err and err.count("\n") == 1 and not out


def test_a_package_or_a_schema_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main([str(tmp_path / "none.zip")]) == 1
    assert "must be an existing zip, got" in capsys.readouterr().err
    assert verify.main([str(tmp_path / "none.zip"), "--schema", str(tmp_path / "no.json")]) == 1
    assert str(tmp_path / "no.json") in capsys.readouterr().err


def test_a_package_that_would_leave_its_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = _broken(tmp_path)
    with zipfile.ZipFile(package, "a") as archive:
        archive.writestr("broken/../../outside.txt", b"out")
    assert verify.main([str(package)]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {package}: a member must be a plain path") and not out


def test_checks_that_break_off_are_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "checks.py"
    passed = '{"check": "metadata", "passed": true, "said": "fine"}'
    script.write_text(f"import sys\nprint('{passed}')\nsys.exit('no memory')\n")
    monkeypatch.setattr(verify, "CHECKS", script)
    assert verify.main([str(_broken(tmp_path)), "--schema", str(_schema(tmp_path))]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[1] == "ok     metadata             fine"
    assert "FAILED end" in out and "got code 1 (no memory)" in out
    assert "got 1 failed" in err


def test_metadata_is_held_against_the_schema(tmp_path: Path) -> None:
    schema = _schema(tmp_path)
    said = check_metadata(_root(tmp_path / "good"), tmp_path, schema)
    assert said == "configs/metadata.json keeps meta_schema_20240725.json"
    wrong = _root(tmp_path / "wrong", {**METADATA, "network_data_format": 1})
    rules = {**RULES, "properties": {"network_data_format": {"type": "object"}}}
    with pytest.raises(ValueError, match="1 is not of type 'object'"):
        check_metadata(wrong, tmp_path, _schema(tmp_path, rules))


def test_a_schema_that_cannot_be_fetched_is_told(tmp_path: Path) -> None:
    root = _root(tmp_path / "any", {**METADATA, "schema": "http://127.0.0.1:9/rules.json"})
    with pytest.raises(ValueError, match="must be reachable, or given with --schema"):
        check_metadata(root, tmp_path, tmp_path / "none.json")


@pytest.mark.parametrize(
    ("changes", "levels", "sentence"),
    [
        ({}, 2, None),
        ({"num_channels": 6}, 2, r"stride \[4, 4, 4\] must be float32 of shape \(1, 6, 4, 4, 2\)"),
        ({"dtype": "float16"}, 2, "must be float16 .* got .*torch.float32"),
        ({}, 3, "must give maps for 3 levels, got 2"),
    ],
)
def test_a_detectors_maps_are_measured(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    levels: int,
    sentence: str | None,
) -> None:
    """The grids worked out by hand: 16 x 16 x 6 voxels, a cell for each 4 or 8 begun."""
    network = NoduleDetector(
        spatial_dims=3,
        in_channels=1,
        channels=[4, 4, 8],
        strides=[2, 2, 2],
        blocks=[1, 1],
        levels=2,
        feature_channels=4,
    )
    network.level_strides = [*network.level_strides, (16, 16, 16)][:levels]
    pred = {"format": "detection", "num_channels": 7, "dtype": "float32", **changes}
    data_format = {**FORMAT, "outputs": {"pred": pred}}
    root = _root(tmp_path / "detector", {**METADATA, "network_data_format": data_format})
    monkeypatch.setattr(package_checks, "load", lambda **_: network)
    if sentence is None:
        said = check_network(root, tmp_path, tmp_path)
        assert "7 channels of float32 on grids [4, 4, 2], [2, 2, 1]" in said
        return
    with pytest.raises(ValueError, match=sentence):
        check_network(root, tmp_path, tmp_path)
