"""Scans predicted by four shards at once, one of them killed, and by one run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from bundles import merge_predictions
from bundles.__main__ import main
from bundles.bundle_config import bundle_names, config_files, merged_config, trained_keys
from handlers import ScanWriter
from handlers.scan_report import ScanReport, ScanResult

TABLES = {"lung_ct_nodule_detection": "findings.csv", "lung_ct_nodule_segmentation": "nodules.csv"}
TILES = {"tile_shape": [32, 32, 32], "tile_margin": [8, 8, 8]}
SMALL: dict[str, dict[str, Any]] = {
    "lung_ct_cancer_risk": {"network_def::channels": [4, 4, 8, 8]},
    "lung_ct_nodule_detection": {
        **TILES,
        "tile_stride": [8, 8, 8],
        "network_def::channels": [4, 4, 8, 8],
        "network_def::strides": [1, 2, 2, 2],
        "network_def::feature_channels": 8,
    },
    "lung_ct_nodule_segmentation": {
        **TILES,
        "tile_stride": [2, 2, 2],
        "network_def::channels": [4, 8],
        "network_def::strides": [1, 2],
    },
}


@pytest.fixture(scope="module")
def scans(datalist: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Eight: phantoms, two of which have one name, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("scans")
    images = sorted((datalist.parent / "images").iterdir())
    for number, image in enumerate(images[:7]):
        shutil.copy(image, folder / f"{number}.nii.gz")
    (folder / "again").mkdir()
    shutil.copy(images[7], folder / "again" / "0.nii.gz")
    (folder / "2.nii.gz").write_bytes(b"no scan")
    return [str(folder), str(folder / "again")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of small networks, untrained, which find this and that."""
    root = tmp_path_factory.mktemp("runs")

    def run(bundle: str) -> Path:
        folder = root / bundle
        if not folder.exists():
            folder.mkdir()
            settings = {**SMALL[bundle], "spacing_mm": [6, 6, 6]}
            config = merged_config(config_files(bundle, "inference", []), settings)
            kept = {key: value for key, value in config.items() if key in trained_keys(bundle)}
            (folder / "trained.yaml").write_text(yaml.safe_dump(kept))
            torch.manual_seed(0)
            network = ConfigParser(config).get_parsed_content("network_def")
            weights = network.state_dict()
            for name, values in weights.items():
                if name.endswith("bias"):
                    values.clamp_(min=0)  # else it would find nothing
                elif name == "head.weight":
                    values.normal_()
            torch.save(weights, folder / "model.pt")
        return folder

    return run


def command(bundle: str, run: Path, scans: list[str], output: Path, *options: str) -> list[str]:
    pictures = [] if bundle == "lung_ct_cancer_risk" else ["--set", "max_pictures=1"]
    return ["predict", bundle, "--run", str(run), "--scans", *scans, "--output", str(output),
            *pictures, *options]  # fmt: skip


class Deadly:
    """A report after so many scans of which the process is killed, their files written."""

    def __init__(self, report: ScanReport, left: int) -> None:
        self.report, self.left = report, left
        self.table, self.start = report.table, report.start

    def __call__(self, *arguments: Any, **settings: Any) -> ScanResult:
        result = self.report(*arguments, **settings)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def predict(arguments: list[str], dies_at: int = 0) -> None:
    """To be called in a process of its own, which is killed at that scan."""
    torch.set_num_threads(1)
    attach = ScanWriter.attach

    def attach_deadly(writer: ScanWriter, engine: Any) -> None:
        writer.report = Deadly(writer.report, dies_at)
        attach(writer, engine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScanWriter, "attach", attach_deadly)
        sys.exit(main(arguments))


def results(folder: Path) -> dict[str, Any]:
    """``predictions.json`` without what depends on the clock."""
    content = json.loads((folder / "predictions.json").read_text())
    for entry in content["scans"]:
        del entry["seconds"]
    return content


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.name != "predictions.json"
    }


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("bundle", bundle_names())
def test_four_shards_at_once_equal_one_run(
    bundle: str,
    scans: list[str],
    runs: Callable[[str], Path],
    tmp_path: Path,
    at_once: Callable[..., list[int | None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, four = tmp_path / "one", tmp_path / "four"
    with pytest.raises(SystemExit, match="1 of 8 scans failed"):
        main(command(bundle, runs(bundle), scans, one))
    calls = [
        command(bundle, runs(bundle), scans, four, "--shard", f"{index}/4") for index in range(4)
    ]
    codes = at_once(predict, [(calls[0], 2), (calls[1],), (calls[2],), (calls[3],)])
    assert codes == [-signal.SIGKILL, 0, 1, 0]
    assert merge_predictions.main([str(four)]) == 1
    assert "done to its end, got none of 0/4" in capsys.readouterr().err
    kept = {path: path.stat().st_mtime_ns for path in (four / "records").iterdir()}
    assert len(kept) == 6  # without the one that cannot be read, and that of the kill
    assert main(calls[0]) == 0
    assert "1 of 2 scans were done before and are kept" in capsys.readouterr().out
    assert kept.items() <= {p: p.stat().st_mtime_ns for p in (four / "records").iterdir()}.items()
    assert merge_predictions.main([str(four)]) == 1
    assert "2.nii.gz" in capsys.readouterr().err
    assert results(four) == results(one)
    assert files(four) == files(one)
    names = {record.stem for record in (one / "records").iterdir()}
    assert names == {"0", "0-2", "1", "3", "4", "5", "6"}
    if bundle in TABLES:
        assert (one / TABLES[bundle]).read_text().count("\n") > 1


BUNDLE = "lung_ct_nodule_detection"


@pytest.fixture
def predicted(scans: list[str], runs: Callable[[str], Path], tmp_path: Path) -> list[str]:
    """The command of a prediction that was done, of two scans."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("0", "1"):
        shutil.copy(f"{scans[0]}/{name}.nii.gz", folder / f"{name}.nii.gz")
    arguments = command(BUNDLE, runs(BUNDLE), [str(folder)], tmp_path / "out")
    assert main(arguments) == 0
    return arguments


def redone(arguments: list[str], output: Path) -> set[str]:
    """Names of the scans that the command does once more."""
    before = {path: path.stat().st_mtime_ns for path in (output / "records").iterdir()}
    assert main(arguments) == 0
    return {path.stem for path, time in before.items() if path.stat().st_mtime_ns != time}


def test_what_is_done_is_kept(predicted: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, tables = results(out), files(out)
    assert redone(predicted, out) == set()
    assert (results(out), files(out)) == (first, tables)
    # A lost file, and a scan that was replaced.
    (out / "0_findings.json").unlink()
    assert redone(predicted, out) == {"0"}
    os.utime(tmp_path / "in" / "1.nii.gz", (1, 1))
    assert redone(predicted, out) == {"1"}
    assert (results(out), files(out)) == (first, tables)
    # Only one of the two, as after a kill.
    (out / "records" / "1.json").write_text('{"entry": ')
    assert redone(predicted, out) == {"1"}
    assert (results(out), files(out)) == (first, tables)


@pytest.mark.parametrize("change", ["setting", "overlay", "header", "weights"])
def test_other_settings_and_weights_do_all_anew(
    change: str, predicted: list[str], tmp_path: Path
) -> None:
    weights = torch.load(Path(predicted[3]) / "model.pt", weights_only=True)
    torch.save({key: value * 1.01 for key, value in weights.items()}, tmp_path / "other.pt")
    (tmp_path / "overlay.yaml").write_text("top_k: 7\n")
    more = {
        "setting": ["--set", "top_k=7"],
        "overlay": ["--overlay", str(tmp_path / "overlay.yaml")],
        "header": ["--set", "min_finding_score=0.2"],
        "weights": ["--set", f"checkpoint={tmp_path / 'other.pt'}"],
    }
    assert redone([*predicted, *more[change]], tmp_path / "out") == {"0", "1"}
    assert redone([*predicted, *more[change]], tmp_path / "out") == set()


def test_where_it_runs_and_which_part_are_no_other_settings(
    predicted: list[str], tmp_path: Path
) -> None:
    """So that shards go on with what a whole run did, and machines may differ."""
    more = ["--shard", "1/2", "--set", "memory_format=$torch.contiguous_format"]
    assert redone([*predicted, *more], tmp_path / "out") == set()


def test_a_stale_shard_is_named(
    predicted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    for shard in ("0/2", "1/2"):
        main([*predicted, "--shard", shard])
    (tmp_path / "out" / "1_findings.json").unlink()
    assert merge_predictions.main([out]) == 1
    assert "those of 1 changed or lost since; do shard 1/2 again" in capsys.readouterr().err
    main([*predicted, "--shard", "1/2", "--set", "top_k=7"])
    assert merge_predictions.main([out]) == 1
    assert "got 0/2 of another than 1/2, the newest; do them again" in capsys.readouterr().err
    main([*predicted, "--shard", "0/2", "--set", "top_k=7"])
    assert merge_predictions.main([out]) == 0


def test_a_wrong_shard_and_one_without_a_fingerprint_are_refused(
    predicted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*predicted, "--shard", "2/2"]) == 1
    assert "error: shard must be i/n, counted from 0: i from 0 to n - 1, got 2/2" in (
        capsys.readouterr().err
    )
    assert main([*predicted, "--shard", "0/2", "--set", "fingerprint=null"]) == 1
    assert "a shard must have a fingerprint, got 0/2 without" in capsys.readouterr().err
