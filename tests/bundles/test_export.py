"""The exported network of each bundle, from a run's weights to the predictions made with it."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, onnx_export

from bundles.__main__ import main
from bundles.bundle_config import bundle_configs, bundle_names, config_files, merged_config
from bundles.export import main as export

pytest.importorskip("onnxscript", reason="the extra export is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")

RISK, DETECTION, SEGMENTATION = (
    "lung_ct_cancer_risk",
    "lung_ct_nodule_detection",
    "lung_ct_nodule_segmentation",
)


ONNX = ("--overlay", "onnx")


def _run(trained: Path) -> Path:
    (weights,) = trained.glob("runs/*/*/model.pt")
    return weights.parent


def _two_scans(datalist: Path) -> list[str]:
    return [str(path) for path in sorted((datalist.parent / "images").iterdir())[:2]]


def _predict(
    run: Path, bundle: str, scans: list[str], output: Path, options: list[str]
) -> dict[str, Any]:
    places = ["--run", str(run), "--scans", *scans, "--output", str(output)]
    assert main(["predict", bundle, *places, *options]) == 0
    return json.loads((output / "predictions.json").read_text())


def _assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Equal but for how long it took, numbers within 1e-4."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected.keys() - {"seconds"}:
            _assert_same(found[key], expected[key], f"{where}::{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            _assert_same(found[index], value, f"{where}::{index}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-4), where
    else:
        assert found == expected, where


def _assert_same_maps(found: Path, expected: Path) -> int:
    """Compares the NIfTIs of two folders, and returns how many they have."""
    maps = sorted(path.name for path in expected.glob("*.nii.gz"))
    for name in maps:
        voxels, wanted = (_voxels(folder / name) for folder in (found, expected))
        np.testing.assert_allclose(voxels, wanted, atol=1e-4, err_msg=name)
    return len(maps)


def _voxels(path: Path) -> np.ndarray:
    image: Any = nibabel.load(path)
    return image.get_fdata()


def _check_bundle(
    bundle: str,
    trained: Path,
    datalist: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: Sequence[str] = (),
) -> Path:
    """Exports a run, and predicts with the file and without; returns the run."""
    run = _run(trained)
    assert export([bundle, "--run", str(run)]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(f"written: {run / 'model.onnx'}, opset 20, outputs within ")
    scans = _two_scans(datalist)
    eager = _predict(run, bundle, scans, tmp_path / "eager", [*options])
    exported = _predict(run, bundle, scans, tmp_path / "onnx", [*ONNX, *options])
    assert len(eager["scans"]) == 2 and not eager["failed"]
    _assert_same(exported, eager)
    return run


def test_risk(
    trained: Path, datalist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _check_bundle(RISK, trained, datalist, tmp_path, capsys)
    assert _assert_same_maps(tmp_path / "onnx", tmp_path / "eager") == 2


def test_detection(
    trained_detector: Path, datalist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # So short a training finds nothing of its own accord.
    settings = ("min_score=0", "min_finding_score=0", "max_boxes=5", "max_pictures=1")
    options = [part for setting in settings for part in ("--set", setting)]
    _check_bundle(DETECTION, trained_detector, datalist, tmp_path, capsys, options)
    found, expected = (
        list(csv.reader((tmp_path / kind / "findings.csv").open())) for kind in ("onnx", "eager")
    )
    assert found[0] == expected[0] and len(expected) > 1
    _assert_same(_numbers(found[1:]), _numbers(expected[1:]))


def _numbers(rows: list[list[str]]) -> list[list[float | str]]:
    def number(cell: str) -> float | str:
        try:
            return float(cell)
        except ValueError:
            return cell

    return [[number(cell) for cell in row] for row in rows]


def test_segmentation(
    trained_segmenter: Path, datalist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _check_bundle(SEGMENTATION, trained_segmenter, datalist, tmp_path, capsys)
    assert _assert_same_maps(tmp_path / "onnx", tmp_path / "eager") == 2
    if importlib.util.find_spec("openvino") is not None:
        options = [*ONNX, "--set", "network::runtime=openvino"]
        found = _predict(run, SEGMENTATION, _two_scans(datalist), tmp_path / "ov", options)
        _assert_same(found, json.loads((tmp_path / "eager" / "predictions.json").read_text()))
        assert _assert_same_maps(tmp_path / "ov", tmp_path / "eager") == 2
    _check_errors(run, datalist, tmp_path, capsys)


def _check_errors(
    run: Path, datalist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(bundle: str, *arguments: str) -> str:
        capsys.readouterr()
        assert export([bundle, *arguments]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "must be a run of lung_ct_cancer_risk, got one of lung_ct_nodule_segm" in refused(
        RISK, "--run", str(run)
    )
    assert "bundle must be one of" in refused("lung_ct", "--run", str(run))
    assert "none/config.yaml" in refused(SEGMENTATION, "--run", str(tmp_path / "none"))
    missing = str(run / "none.pt")
    assert "none.pt" in refused(SEGMENTATION, "--run", str(run), "--checkpoint", missing)

    before = (run / "model.onnx").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bundles.export.largest_difference", lambda *arguments: float("nan"))
        assert "outputs within 0.0001" in refused(SEGMENTATION, "--run", str(run))
    assert (run / "model.onnx").read_bytes() == before
    assert not list(run.glob(".partial*"))

    # Weights trained further, with the file of the old ones beside them.
    newer = tmp_path / "newer"
    shutil.copytree(run, newer)
    weights = torch.load(newer / "model.pt", weights_only=True)
    torch.save({name: value * 2 for name, value in weights.items()}, newer / "model.pt")
    capsys.readouterr()
    places = [
        "--run",
        str(newer),
        "--scans",
        *_two_scans(datalist),
        "--output",
        str(tmp_path / "no"),
    ]
    assert main(["predict", SEGMENTATION, *places, *ONNX]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"must be exported from .* of lung_ct_nodule_segmentation;", said)


@pytest.mark.parametrize("bundle", bundle_names())
def test_monai_writes_the_default_network(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``python -m monai.bundle onnx_export`` and ``ckpt_export`` as documented."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = [str(path) for path in config_files(bundle, "inference", [])]
    network = ConfigParser(merged_config([Path(file) for file in files])).get_parsed_content(
        "network_def"
    )
    torch.manual_seed(0)
    for name, value in network.eval().state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    given: dict[str, Any] = {
        "net_id": "network_def",
        "ckpt_file": str(tmp_path / "model.pt"),
        "meta_file": str(bundle_configs(bundle) / "metadata.json"),
        "config_file": files,
    }
    onnx_export(
        **given,
        filepath=str(tmp_path / "model.onnx"),
        use_trace=True,
        input_shape=[2, 1, 32, 48, 16],
        converter_kwargs={
            "input_names": ["image"],
            "dynamic_axes": {"image": {0: "batch", 2: "height", 3: "width", 4: "depth"}},
            "external_data": False,
        },
    )
    ckpt_export(**given, filepath=str(tmp_path / "model.ts"))
    assert not list(tmp_path.glob("*.data"))

    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    scripted = torch.jit.load(tmp_path / "model.ts")
    torch.manual_seed(1)
    for shape in ((1, 1, 32, 32, 16), (2, 1, 48, 16, 24)):
        image = torch.rand(shape)
        with torch.no_grad():
            expected = network(image)
            torch.testing.assert_close(scripted(image), expected, atol=1e-4, rtol=0)
        found = session.run(None, {"image": image.numpy()})
        for value, tensor in zip(found, _tensors(expected), strict=True):
            torch.testing.assert_close(torch.from_numpy(value), tensor, atol=1e-4, rtol=0)


def _tensors(outputs: torch.Tensor | dict[str, list[torch.Tensor]]) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [level for levels in outputs.values() for level in levels]
