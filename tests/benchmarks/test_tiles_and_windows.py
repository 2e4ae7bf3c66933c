from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor

from benchmarks import tiles_and_windows
from benchmarks.window_segmentation import WindowSegmentation
from bundles.bundle_config import config_files, merged_config


def test_windows_of_a_local_network_are_the_network() -> None:
    """One that looks at each voxel alone does not see the windows."""
    torch.manual_seed(0)
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    scan = MetaTensor(torch.rand(1, 1, 100, 97, 20), affine=affine)
    found = WindowSegmentation()(scan, lambda image: 3 * image - 1)
    expected = 3 * scan.as_tensor() - 1
    torch.testing.assert_close(found["logits"], expected, rtol=0, atol=1e-6)
    assert found["affine"].equal(affine)


def test_the_peer_sees_the_whole_scan() -> None:
    files = config_files(
        tiles_and_windows.BUNDLE, "evaluate", tiles_and_windows.ARMS[tiles_and_windows.PEER]
    )
    config = merged_config(files)
    assert config["crop_margin_mm"] is None
    assert config["segmenter"] == {"_target_": "benchmarks.window_segmentation.WindowSegmentation"}


def test_a_folder_that_is_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["x", "--run", str(tmp_path), "--datalist", str(tmp_path / "datalist.json")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        tiles_and_windows.main()
    assert f"--run must hold model.pt, got {tmp_path}" in capsys.readouterr().err
