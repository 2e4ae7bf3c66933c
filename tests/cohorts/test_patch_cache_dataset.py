from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import SelectItemsd

from cohorts import PatchCacheDataset, fill_cache
from cohorts.scan_hash import scan_hash
from cohorts.write_nifti import write_nifti
from transforms import CachedVolumesd, CropAroundBoxd, LoadScand, ScanError

PATCH = (8, 8, 8)


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, Any]]:
    made = []
    for index in range(3):
        rng = np.random.default_rng(index)
        path = tmp_path / f"{index}.nii.gz"
        write_nifti(rng.integers(-1000, 200, (20, 18, 16), np.int16), np.eye(4), path)
        made.append({"image": str(path), "boxes": []})
    return made


def dataset(items: list[dict[str, Any]], folder: Path, workers: int = 0) -> PatchCacheDataset:
    cache = CachedVolumesd("image", [LoadScand("image")], folder=folder, hash_func=scan_hash)
    steps = [CropAroundBoxd("image", PATCH, 0.0), SelectItemsd(["image"])]
    return PatchCacheDataset(items, cache, steps, num_workers=workers)


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def test_every_scan_is_kept_once_and_gives_many_patches(
    items: list[dict[str, Any]], tmp_path: Path
) -> None:
    patches = dataset(items * 4, tmp_path / "cache")
    assert len(patches) == 12 and len(entries(tmp_path / "cache")) == 3
    drawn = [patches[0]["image"] for _ in range(2)]
    assert drawn[0].shape == (1, *PATCH) and not torch.equal(*drawn)


def test_workers_fill_it_and_read_it(
    items: list[dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    patches = dataset(items, tmp_path / "cache", workers=2)
    assert "patch cache: 100%" in capfd.readouterr().err
    assert len(entries(tmp_path / "cache")) == 3
    batches = list(DataLoader(patches, batch_size=1, num_workers=2))
    for item, batch in zip(items, batches, strict=True):
        place = batch["image"][0].affine[:3, 3].long().tolist()
        whole = LoadScand("image")(item)["image"]
        start = tuple(slice(i, i + 8) for i in place)
        assert torch.equal(batch["image"][0, 0].as_tensor(), whole.as_tensor()[0][start])


def test_a_run_that_was_stopped_goes_on(
    items: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    dataset(items[:2], tmp_path / "cache")
    read: list[str] = []
    load = LoadScand.__call__

    def counted(self: LoadScand, data: dict[str, Any]) -> Any:
        read.append(data["image"])
        return load(self, data)

    monkeypatch.setattr(LoadScand, "__call__", counted)
    dataset(items, tmp_path / "cache")
    assert read == [items[2]["image"]]
    assert "2/3" in capfd.readouterr().err
    dataset(items, tmp_path / "cache")
    assert len(read) == 1 and "patch cache" not in capfd.readouterr().err


def test_a_bad_scan_costs_only_itself(
    items: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for item in items[:2]:
        content = Path(item["image"]).read_bytes()
        Path(item["image"]).write_bytes(content[: len(content) // 2])
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(ScanError, match=r"^/.*0.nii.gz: .*\(and 1 more, .*; all other scans are"),
    ):
        dataset(items, tmp_path / "cache")
    assert "1.nii.gz" in caplog.text
    assert len(entries(tmp_path / "cache")) == 1


def test_a_folder_that_cannot_be_written_stops_it(
    items: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="must be a folder that can be written and has room"):
        dataset(items, tmp_path / "file" / "cache")


def test_a_killed_worker_is_one_sentence(
    items: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise fill_cache.BrokenProcessPool
        yield

    monkeypatch.setattr(fill_cache, "map_in_workers", broken)
    with pytest.raises(OSError, match="must live to its end, got one killed"):
        dataset(items, tmp_path / "cache", workers=2)
