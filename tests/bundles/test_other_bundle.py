"""A run, or a checkpoint, of one bundle given to another."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from bundles.__main__ import main
from bundles.bundle_config import bundle_names, config_files, merged_config

PAIRS = list(itertools.pairwise([*bundle_names(), bundle_names()[0]]))


def run_of(bundle: str, folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"experiment": bundle}))
    (folder / "trained.yaml").write_text("axcodes: RAS\n")
    torch.save(weights, folder / "model.pt")
    return folder


def weights_of(bundle: str) -> dict[str, torch.Tensor]:
    config = ConfigParser(merged_config(config_files(bundle, "inference", [])))
    return config.get_parsed_content("network_def").state_dict()


@pytest.mark.parametrize(("bundle", "other"), PAIRS)
def test_a_checkpoint_of_another_bundle_is_refused(
    bundle: str, other: str, datalist: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = run_of(bundle, tmp_path / "run", weights_of(other))
    scan = str(datalist.parent / "images" / "phantom-000006.nii.gz")
    for arguments in (
        ["predict", bundle, "--scans", scan, "--output", str(tmp_path / "out")],
        ["evaluate", bundle, "--datalist", str(datalist)],
    ):
        assert main([*arguments, "--run", str(run_dir)]) == 1
        said = capfd.readouterr().err.splitlines()[-1]
        assert said.startswith("error: a checkpoint must be of the network in the config, got ")
        assert f"{run_dir / 'model.pt'}, in which" in said


@pytest.mark.parametrize(("bundle", "other"), PAIRS)
def test_a_run_of_another_bundle_is_refused(
    bundle: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = run_of(other, tmp_path / "run", {})
    for arguments in (
        ["predict", bundle, "--scans", "scan.nii.gz", "--output", str(tmp_path / "out")],
        ["evaluate", bundle],
    ):
        assert main([*arguments, "--run", str(run_dir)]) == 1
        said = capsys.readouterr().err
        assert said == f"error: {run_dir}: must be a run of {bundle}, got one of {other}\n"
    assert not (tmp_path / "out").exists()
