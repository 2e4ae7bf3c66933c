from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data.utils import pickle_hashing
from monai.transforms import Compose, Orientationd, RandFlipd, ScaleIntensityRanged, Spacingd

from transforms import (
    CachedVolumesd,
    CropAroundBoxd,
    EmptyMaskd,
    LoadMaskd,
    LoadScand,
    ResampleMaskd,
    ScanError,
)

AFFINE = np.diag([-0.7, -0.8, 2.5, 1.0])


def file_hash(item: Any) -> bytes:
    """As cohorts.scan_hash, of the files' content."""
    names = [value for value in item.values() if isinstance(value, str)]
    return pickle_hashing([item, [Path(n).read_bytes() for n in names if Path(n).is_file()]])


def write(path: Path, array: np.ndarray) -> str:
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    return str(path)


@pytest.fixture
def item(tmp_path: Path) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    hu = rng.normal(-700, 150, (60, 50, 30)).astype(np.int16)
    mask = np.zeros(hu.shape, np.uint8)
    mask[30:36, 20:25, 10:14] = 2
    # Voxel i spans half a voxel to both sides of its centre.
    centre = (AFFINE @ [32.5, 22, 11.5, 1])[:3]
    box = [*centre, 6 * 0.7, 5 * 0.8, 4 * 2.5]
    return {
        "image": write(tmp_path / "image.nii.gz", hu),
        "mask": write(tmp_path / "mask.nii.gz", mask),
        "boxes": [box],
        "patient_id": "one",
    }


def steps(spacing_mm: float = 1.0) -> list[Any]:
    return [
        LoadScand("image"),
        LoadMaskd("mask", allow_missing_keys=True),
        EmptyMaskd(),
        Orientationd("image", axcodes="RAS", labels=None),
        Spacingd("image", pixdim=[spacing_mm] * 3, mode="bilinear", padding_mode="border"),
        ResampleMaskd(),
    ]


def cached(folder: Path, *, spacing_mm: float = 1.0) -> CachedVolumesd:
    return CachedVolumesd(["image", "mask"], steps(spacing_mm), folder=folder, hash_func=file_hash)


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_patches_are_those_of_the_volumes_in_memory(item: dict[str, Any], tmp_path: Path) -> None:
    crop = CropAroundBoxd(["image", "mask"], (16, 12, 10), 0.5)
    cache = cached(tmp_path / "cache")
    whole = Compose(steps())(item)
    crop.set_random_state(0)
    expected = [crop(whole) for _ in range(30)]
    crop.set_random_state(0)
    for one in expected:
        other = crop(cache(item))
        assert other["boxes"] == item["boxes"] and other["patient_id"] == "one"
        assert float((one["image"] - other["image"]).abs().max()) <= 0.5
        assert torch.equal(one["mask"].as_tensor(), other["mask"].as_tensor())
        for key in ("image", "mask"):
            assert one[key].dtype == other[key].dtype
            assert torch.equal(one[key].affine, other[key].affine)
            assert other[key].meta["filename_or_obj"] == item[key]
    assert 0.3 < np.mean([bool(one["mask"].any()) for one in expected]) < 0.9


def test_a_scan_without_a_nodule_has_an_empty_mask(item: dict[str, Any], tmp_path: Path) -> None:
    bare = {"image": item["image"], "boxes": []}
    crop = CropAroundBoxd(["image", "mask"], (16, 12, 10), 1.0)
    assert not crop(cached(tmp_path / "cache")(bare))["mask"].any()


def test_a_second_run_computes_nothing(
    item: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(tmp_path / "cache")(item)
    monkeypatch.setattr(LoadScand, "__call__", lambda *_: pytest.fail("the scan was read again"))
    again = cached(tmp_path / "cache")
    assert again.holds(item)
    assert again(item)["image"].whole().any()
    assert not again.holds({**item, "patient_id": "another"})


def test_another_source_or_setting_is_another_entry(item: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = cached(folder)(item)["image"]
    coarse = cached(folder, spacing_mm=2.0)(item)["image"]
    assert len(entries(folder)) == 2
    assert coarse.shape[1:] < first.shape[1:]
    other = np.full((60, 50, 30), -900, np.int16)
    other[0] = 40
    write(Path(item["image"]), other)
    changed = cached(folder)(item)["image"].whole()
    assert len(entries(folder)) == 3
    assert float(changed.median()) == -900
    assert cached(folder).entry_key(item) in entries(folder)


def test_another_process_finds_the_same_entry(item: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    cached(folder)(item)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "import test_cached_volumes as t\n"
        "print(t.cached(Path(sys.argv[2]))._settings.hex())"
    )
    place = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, place, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [cached(folder)._settings.hex()]


def test_a_damaged_volume_is_made_anew(item: dict[str, Any], tmp_path: Path) -> None:
    volume = cached(tmp_path / "cache")(item)["image"]
    expected = volume.whole()
    content = bytearray(volume.path.read_bytes())
    content[len(content) // 2] ^= 16
    volume.path.write_bytes(content)
    again = cached(tmp_path / "cache")
    assert not again.holds(item)
    assert torch.equal(again(item)["image"].whole(), expected)


def test_no_random_transform_is_kept(tmp_path: Path) -> None:
    flip = Compose([RandFlipd("image", prob=0.5)])
    with pytest.raises(ValueError, match=r"must hold no random one, .* got RandFlipd"):
        CachedVolumesd("image", [*steps(), flip], folder=tmp_path, hash_func=file_hash)


def test_a_window_before_the_cache_is_refused(item: dict[str, Any], tmp_path: Path) -> None:
    window = ScaleIntensityRanged("image", a_min=-1000, a_max=400, b_min=0, b_max=1, clip=True)
    cache = CachedVolumesd(
        "image", [LoadScand("image"), window], folder=tmp_path / "cache", hash_func=file_hash
    )
    with pytest.raises(ScanError, match=r"image.nii.gz: a CT to store .* before any intensity"):
        cache(item)
    assert not entries(tmp_path / "cache")
