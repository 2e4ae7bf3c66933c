from __future__ import annotations

import json
from collections import Counter
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cohorts.check import check_datalist_scans
from cohorts.nodule_cubes import CUBE_RATINGS, cube_folds, main, read_cubes


def _arrays(count=12, shape=(9, 8, 7)):
    random = np.random.default_rng(0)
    image = random.random((count, *shape)).astype(np.float16)
    image[:, 0, 0, 0], image[:, 1, 1, 1] = 0.1, 0.7
    mask = np.zeros((count, *shape), np.uint8)
    for cube in range(count):
        mask[cube, 2:4, 3, 1 : 2 + cube % 5] = 1
    # The first two are of one patient.
    names = ["0_nod1_ann0", "0_nod2_ann0", *(f"{2 * n}_nod1_ann0" for n in range(1, count - 1))]
    ratings = {key: random.integers(1, 6, count).astype(np.float32) for key in CUBE_RATINGS}
    return {"image": image, "mask": mask, "name": np.array(names), **ratings}


def _write(folder, **changed):
    path = folder / "cubes.npz"
    np.savez_compressed(path, **{**_arrays(), **changed})
    return path


def _run(path, output):
    return main(["--input", str(path), "--output", str(output)])


def _item(text, path):
    datalist = json.loads(path.read_text())
    items = [item for name in ("training", "validation", "testing") for item in datalist[name]]
    return next(item for item in items if text in item["source"])


def test_a_cube_is_written_in_hu_with_its_slices_turned(tmp_path):
    path, output = _write(tmp_path), tmp_path / "out"
    assert _run(path, output) == 0
    arrays = _arrays()
    item = _item("4_nod1_ann0", output / "fold0.json")
    cube = arrays["name"].tolist().index("4_nod1_ann0")
    hu, mask = (nib.nifti1.load(output / item[key]) for key in ("image", "mask"))
    np.testing.assert_array_equal(hu.affine, np.diag([-1, -1, 1, 1]))
    assert hu.get_data_dtype() == np.int16
    rows, columns, slices = arrays["mask"].shape[1:]
    for row, column, level in np.ndindex(rows, columns, slices):
        value = float(arrays["image"][cube, row, column, level])
        place = column, row, slices - 1 - level
        assert hu.dataobj[place] == round(-1200 + 1600 * value)
        assert mask.dataobj[place] == arrays["mask"][cube, row, column, level]
    # Rows 2 to 3, column 3 and slices 1 to 4, as faces of voxels in RAS.
    low, high = arrays["mask"][cube].nonzero()[2].min(), arrays["mask"][cube].nonzero()[2].max()
    z = [slices - 1 - high - 0.5, slices - 1 - low + 0.5]
    centre = [-3, -2.5, sum(z) / 2]
    assert item["boxes"] == [[*centre, 1, 2, z[1] - z[0]]]
    assert item["nodules"][0] == {
        "instance": 1,
        "voxels": int(arrays["mask"][cube].sum()),
        **{key: float(arrays[key][cube]) for key in CUBE_RATINGS},
    }


def test_the_datalists_pass_their_check_and_say_what_they_are(tmp_path):
    assert _run(_write(tmp_path), tmp_path / "out") == 0
    for fold in range(5):
        path = tmp_path / "out" / f"fold{fold}.json"
        reports, errors = check_datalist_scans(path)
        assert not errors
        assert len(reports) == 12
        assert not [report.errors for report in reports if report.errors]
        content = json.loads(path.read_text())
        assert content["license"] == "CC BY 3.0"
        assert content["knows_cancer"] is False
        assert content["generator"]["intensity"] == {"low_hu": -1200, "high_hu": 400}
        assert "no spacing" in content["description"]


def test_every_patient_is_tested_once_and_never_elsewhere():
    sizes = np.random.default_rng(1).permutation(40)
    items: list[dict[str, Any]] = [
        {"patient_id": f"p{patient % 33}", "nodules": [{"voxels": int(size)}]}
        for patient, size in enumerate(sizes)
    ]
    folds = cube_folds(items)
    tested: Counter[str] = Counter()
    largest = {
        item["patient_id"]: max(
            other["nodules"][0]["voxels"]
            for other in items
            if other["patient_id"] == item["patient_id"]
        )
        for item in items
    }
    fold_of: dict[str, int] = {}
    for fold, splits in enumerate(folds):
        patients = {name: {item["patient_id"] for item in part} for name, part in splits.items()}
        assert sum(map(len, patients.values())) == 33  # so no two share one
        assert sum(map(len, splits.values())) == 40
        assert len(patients["validation"]) >= 3
        tested.update(patients["testing"])
        fold_of |= dict.fromkeys(patients["testing"], fold)
    assert set(tested.values()) == {1}
    by_size = sorted(largest, key=lambda patient: (largest[patient], patient))
    for first in range(0, 30, 5):
        assert {fold_of[patient] for patient in by_size[first : first + 5]} == set(range(5))
    assert cube_folds(items) == folds
    assert cube_folds(items, seed=1) != folds


def test_fewer_than_ten_patients_are_refused():
    items = [{"patient_id": f"p{patient}", "nodules": [{"voxels": 1}]} for patient in range(9)]
    with pytest.raises(ValueError, match="ten patients or more, got 9"):
        cube_folds(items)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("image", np.nan, "values must lie within 0 and 1, got nan to nan in 2_nod1_ann0"),
        ("image", 40, "values must lie within 0 and 1, got 40 to 40 in 2_nod1_ann0"),
        ("mask", 0, "a mask must hold 0 and 1, got [0] in 2_nod1_ann0"),
        ("mask", 2, "a mask must hold 0 and 1, got [2] in 2_nod1_ann0"),
    ],
)
def test_a_bad_cube_is_named_and_the_others_written(tmp_path, capsys, key, value, sentence):
    array = _arrays()[key]
    array[2] = value
    assert _run(_write(tmp_path, **{key: array}), tmp_path / "out") == 1
    assert sentence in capsys.readouterr().err
    reports, errors = check_datalist_scans(tmp_path / "out" / "fold0.json")
    assert (len(reports), errors) == (11, [])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"mask": np.zeros((12, 9, 8, 6), np.uint8)}, "image and mask must be of one shape"),
        ({"malignancy": np.ones(11)}, "malignancy must have one value for each of 12 cubes"),
        ({"name": np.array(["0_nod1_ann0"] * 12)}, "names must be once each of the form"),
        ({"name": np.array([f"patient{n}" for n in range(12)])}, "got 'patient0'"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_cubes(_write(tmp_path, **changed))


def test_a_file_that_is_not_the_cubes_is_refused(tmp_path, capsys):
    assert _run(tmp_path / "none.npz", tmp_path / "out") == 1
    assert "none.npz: the cubes must exist, got no file" in capsys.readouterr().err
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    assert _run(text, tmp_path / "out") == 1
    assert "must be a npz with image, mask, name and ratings" in capsys.readouterr().err
    np.savez(tmp_path / "other.npz", image=np.zeros(3))
    assert _run(tmp_path / "other.npz", tmp_path / "out") == 1
    assert "must be a npz with image, mask, name and ratings" in capsys.readouterr().err


def test_the_real_cubes_have_the_window_that_is_assumed(shared_data):
    cubes = read_cubes(shared_data / "lidc-nodules" / "nodules67_51cube.npz")
    names = cubes["name"].tolist()
    # The only two of slices 2 mm apart: halfway between two slices lies half a HU.
    for name in ("68_nod2_ann0", "81_nod5_ann0"):
        values = cubes["image"][names.index(name)].astype(float)
        fine = values[(values > 0.126) & (values < 0.249)]  # float16 has steps of 1/8192 there
        steps = fine * 2 * 1600
        assert np.abs(steps - np.round(steps)).max() < 3200 / 8192 / 2 + 1e-9
    hu = -1200 + 1600 * cubes["image"].astype(np.float32)
    counts, edges = np.histogram(hu, bins=np.arange(-1200, 401, 10))
    middles = (edges[1:] + edges[:-1]) / 2

    def mode(low, high):
        part = (middles > low) & (middles < high)
        return middles[part][counts[part].argmax()]

    assert mode(-1000, -600) == pytest.approx(-865, abs=15)  # lung
    assert mode(-200, -40) == pytest.approx(-100, abs=15)  # fat
    assert mode(-40, 200) == pytest.approx(40, abs=15)  # muscle and blood
    assert len({name.partition("_")[0] for name in names}) == 67
    masks = cubes["mask"].astype(bool)
    assert masks.any(axis=(1, 2, 3)).all()
    assert not masks[:, [0, -1]].any() and not masks[:, :, [0, -1]].any()
    assert not masks[..., [0, -1]].any()
