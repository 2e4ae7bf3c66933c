from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cohorts.check import main as check
from cohorts.datalist import SPLITS, read_datalist
from cohorts.msd_lung import lesion_instances, main

AFFINE = np.diag([-2.0, 2.0, 2.5, 1.0])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Laid out as Task06_Lung, two labelled scans and one without a label."""
    folder = tmp_path / "Task06_Lung"
    hu = np.full((60, 48, 40), -850, np.int16)
    hu[:, :, :4] = hu[:4] = hu[-4:] = hu[28:32] = hu[:, :4] = hu[:, -4:] = 40
    label = np.zeros(hu.shape, np.uint8)
    label[10:12, 20, 30] = 1  # the smaller part, and one voxel that touches it at a corner
    label[12, 21, 31] = 1
    label[40:46, 20:24, 10:12] = 1
    for name in ("lung_001", "lung_003"):
        save(folder / "imagesTr" / f"{name}.nii.gz", hu)
        save(folder / "labelsTr" / f"{name}.nii.gz", label)
    save(folder / "imagesTs" / "lung_002.nii.gz", hu)
    (folder / "imagesTr" / "._lung_001.nii.gz").write_bytes(b"left by macOS")
    pairs = [
        {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
        for name in ("lung_003", "lung_001")
    ]
    (folder / "dataset.json").write_text(
        json.dumps(
            {"name": "Lung", "labels": {"0": "background", "1": "cancer"}, "numTraining": 2,
             "numTest": 1, "training": pairs, "test": ["./imagesTs/lung_002.nii.gz"]}
        )
    )  # fmt: skip
    return folder


def command(collection: Path) -> int:
    output = collection.parent / "out"
    return main(["--input", str(collection), "--output", str(output), "--workers", "1"])


def items(collection: Path) -> dict[str, dict]:
    datalist = read_datalist(collection.parent / "out" / "datalist.json")
    return {item["patient_id"]: item for split in SPLITS for item in datalist[split]}


def test_labels_become_instances_and_boxes(collection: Path) -> None:
    assert command(collection) == 0
    assert set(items(collection)) == {"lung_001", "lung_003"}
    item = items(collection)["lung_001"]
    # The larger part first: voxels 40 to 46, 20 to 24, 10 to 12; then 10 to 13, 20 to 22, 30 to 32.
    np.testing.assert_allclose(
        item["boxes"], [[-85, 43, 26.25, 12, 8, 5], [-22, 41, 76.25, 6, 4, 5]]
    )
    volumes = [nodule["volume_mm3"] for nodule in item["nodules"]]
    np.testing.assert_allclose(volumes, [48 * 10, 3 * 10])
    mask = nib.nifti1.load(collection.parent / "out" / item["mask"])
    np.testing.assert_allclose(mask.affine, AFFINE)
    values = np.asarray(mask.dataobj)
    assert values[45, 23, 11] == 1
    assert values[12, 21, 31] == 2
    assert item["image"] == "../Task06_Lung/imagesTr/lung_001.nii.gz"
    assert check([str(collection.parent / "out" / "datalist.json"), "--workers", "1"]) == 0


def test_a_run_repeated_keeps_what_is_done(collection: Path) -> None:
    command(collection)
    mask = collection.parent / "out" / "masks" / "lung_001.nii.gz"
    before = mask.stat().st_mtime_ns
    assert command(collection) == 0
    assert mask.stat().st_mtime_ns == before
    label = nib.nifti1.load(collection / "labelsTr" / "lung_001.nii.gz")
    changed = np.asarray(label.dataobj).copy()
    changed[10:13, 20:22, 30:32] = 0
    save(collection / "labelsTr" / "lung_001.nii.gz", changed)
    assert command(collection) == 0
    assert len(items(collection)["lung_001"]["boxes"]) == 1


@pytest.mark.parametrize(
    ("array", "affine", "message"),
    [
        (np.zeros((60, 48, 40), np.uint8), AFFINE, "a label must mark a tumour, got no voxel"),
        (np.full((60, 48, 40), 2, np.uint8), AFFINE, "labels must be 0 and 1, got 2"),
        (np.ones((60, 48, 39), np.uint8), AFFINE, "the shape must be that of"),
        (np.ones((60, 48, 40), np.uint8), AFFINE * 2, "the affine must be that of"),
        (None, AFFINE, "lung_003.nii.gz: the file must exist"),
    ],
)
def test_a_wrong_label_costs_its_scan(
    array: np.ndarray | None, affine: np.ndarray, message: str, collection: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = collection / "labelsTr" / "lung_003.nii.gz"
    path.unlink()
    if array is not None:
        save(path, array, affine)
    assert command(collection) == 1
    assert message in capsys.readouterr().err
    assert list(items(collection)) == ["lung_001"]


@pytest.mark.parametrize("text", ["{", "{}", '{"training": [{"image": "a"}]}', '{"training": [3]}'])
def test_a_wrong_dataset_json_is_named(
    text: str, collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (collection / "dataset.json").write_text(text)
    assert command(collection) == 1
    assert "dataset.json: must list its scans as training" in capsys.readouterr().err


def test_instances_of_an_empty_label() -> None:
    assert not lesion_instances(np.zeros((3, 3, 3), np.uint8)).any()
