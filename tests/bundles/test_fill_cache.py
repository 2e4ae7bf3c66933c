"""A training's cache filled by four shards at once, one of them killed, and by the training."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from bundles.bundle_config import config_files, merged_config
from bundles.fill_cache import main
from transforms import LoadScand

RISK, BOXES = "lung_ct_cancer_risk", "lung_ct_nodule_detection"
VOXELS = "lung_ct_nodule_segmentation"
SMALL: dict[str, dict[str, Any]] = {
    RISK: {"crop_shape": [48, 40, 48]},
    BOXES: {"patch_shape": [32, 32, 32], "patches_per_scan": 2},
    VOXELS: {"patch_shape": [32, 32, 32], "patches_per_scan": 2},
}


@pytest.fixture
def own_datalist(datalist: Path, tmp_path: Path) -> Path:
    shutil.copytree(datalist.parent, tmp_path / "phantom")
    return tmp_path / "phantom" / datalist.name


def settings(bundle: str) -> dict[str, Any]:
    return {"spacing_mm": [6, 6, 6], "cache_workers": 0, **SMALL[bundle]}


def command(bundle: str, datalist: Path, overlay: str, *options: str) -> list[str]:
    pairs = [f"{name}={value}" for name, value in settings(bundle).items()]
    given = [part for pair in pairs for part in ("--set", pair)]
    return [bundle, "--datalist", str(datalist), "--overlay", overlay, "--workers", "1",
            *given, *options]  # fmt: skip


def fill(arguments: list[str], dies_at: int = 0) -> None:
    """To be called in a process of its own, which is killed while it makes that scan."""
    torch.set_num_threads(1)
    load, read = LoadScand.__call__, []

    def deadly(self: LoadScand, data: Any) -> Any:
        read.append(data["image"])
        if len(read) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return load(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoadScand, "__call__", deadly)
        sys.exit(main(arguments))


def filled_by_training(bundle: str, datalist: Path, overlay: str) -> None:
    """Reads every sample, as a training does."""
    overrides = {**settings(bundle), "data_list": str(datalist)}
    config = ConfigParser(merged_config(config_files(bundle, "train", [overlay]), overrides))
    for part in ("train", "validate"):
        dataset = config.get_parsed_content(f"{part}::dataset")
        for index in range(len(dataset)):
            dataset[index]


def entries(folder: Path) -> dict[str, bytes]:
    """Whatever a reader of the cache finds."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.parts)
    }


@pytest.mark.parametrize(
    ("bundle", "overlay"),
    [(BOXES, "patch_cache"), (VOXELS, "patch_cache"), (RISK, "disk_cache")],
)
def test_four_shards_at_once_are_what_the_training_makes(
    bundle: str,
    overlay: str,
    own_datalist: Path,
    at_once: Callable[..., list[int | None]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = own_datalist.with_name(
        own_datalist.name + {"p": ".patches", "d": ".cache"}[overlay[0]]
    )
    filled_by_training(bundle, own_datalist, overlay)
    made = entries(folder)
    assert len({name.split("/")[0] for name in made}) == 6
    shutil.rmtree(folder)

    calls = [command(bundle, own_datalist, overlay, "--shard", f"{index}/4") for index in range(4)]
    # Shard 1 has a scan of each part, and does not come to the second.
    codes = at_once(fill, [(calls[0],), (calls[1], 2), (calls[2],), (calls[3],)])
    assert codes == [0, -signal.SIGKILL, 0, 0]
    assert 0 < len({name.split("/")[0] for name in entries(folder)}) < 6
    capsys.readouterr()
    assert main(calls[1]) == 0
    assert "training: 1 of 4 scans kept, shard 1/4" in capsys.readouterr().out
    assert entries(folder) == made

    # Neither the training nor the command, done again, makes a scan.
    monkeypatch.setattr(LoadScand, "__call__", None)
    filled_by_training(bundle, own_datalist, overlay)
    assert main(command(bundle, own_datalist, overlay)) == 0
    assert entries(folder) == made


def test_a_bad_scan_costs_only_itself(
    own_datalist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = sorted((own_datalist.parent / "images").iterdir())[0]
    bad.write_bytes(bad.read_bytes()[:2000])
    assert main(command(BOXES, own_datalist, "patch_cache")) == 1
    said = capsys.readouterr()
    assert "training: 3 of 4 scans kept\nvalidation: 2 of 2 scans kept\n" in said.out
    assert said.err.endswith("error: 1 failed, listed above; all else is done\n")
    assert said.err.count(bad.name) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--overlay", "given_lungs"],
            "must be on disk, as with --overlay patch_cache or disk_cac",
        ),
        (["--overlay", "patch_cache", "--workers", "0"], "workers must be 1 or more, got 0"),
        (
            ["--overlay", "patch_cache", "--shard", "3"],
            "shard must be i/n, counted from 0, such as",
        ),
        (["--overlay", "patch_cache", "--set", "spacing=1"], "an override must name a setting"),
    ],
)
def test_wrong_commands_are_one_sentence(
    options: list[str],
    message: str,
    own_datalist: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([BOXES, "--datalist", str(own_datalist), *options]) == 1
    assert message in capsys.readouterr().err


def test_a_half_written_file_of_the_cache_is_made_anew(own_datalist: Path) -> None:
    """As a killed process leaves it in MONAI's way, where it is not the cache's own folder."""
    folder = own_datalist.with_name(own_datalist.name + ".cache")
    assert main(command(RISK, own_datalist, "disk_cache")) == 0
    made = entries(folder)
    path = folder / next(iter(made))
    path.write_bytes(made[path.name][:-100])
    assert main(command(RISK, own_datalist, "disk_cache")) == 0
    assert entries(folder) == made
