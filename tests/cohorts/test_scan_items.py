from __future__ import annotations

from pathlib import Path

import pytest

from cohorts import scan_items


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _sources(scans) -> list[str]:
    items = scan_items(scans)
    assert all(item["image"] == item["source"] for item in items)
    return [item["source"] for item in items]


def test_a_file_and_a_missing_path_stay_items_in_the_given_order(tmp_path):
    scan, missing = tmp_path / "b.nii.gz", tmp_path / "a.nii.gz"
    _touch(scan)
    assert _sources([scan, str(missing)]) == [str(scan), str(missing)]
    assert _sources(str(missing)) == [str(missing)]


def test_a_folder_of_volumes_is_one_scan_each_without_hidden_and_other_files(tmp_path):
    names = ["b.nii.gz", "a.MHD", "c.nii", "d.mha"]
    _touch(*(tmp_path / name for name in (*names, ".hidden.nii", "a.raw", "notes.txt")))
    assert _sources(tmp_path) == sorted(str(tmp_path / name) for name in names)


def test_a_folder_of_other_files_is_one_dicom_series(tmp_path):
    _touch(tmp_path / "IM0001", tmp_path / "IM0002.dcm")
    assert _sources(tmp_path) == [str(tmp_path)]


def test_a_folder_of_folders_is_searched(tmp_path):
    series, volume = tmp_path / "patient" / "series", tmp_path / "volumes" / "x.nii.gz"
    _touch(series / "1.dcm", volume)
    assert _sources(tmp_path) == [str(series), str(volume)]


def test_the_index_file_of_a_cd_does_not_hide_its_series(tmp_path):
    _touch(tmp_path / "DICOMDIR", tmp_path / "DICOM" / "IM1")
    assert _sources(tmp_path) == [str(tmp_path / "DICOM")]


def test_a_series_with_a_folder_beside_its_files_is_one_scan(tmp_path):
    _touch(tmp_path / "IM0001", tmp_path / "thumbnails" / "IM0001.png")
    assert _sources(tmp_path) == [str(tmp_path)]


def test_an_empty_folder_stays_an_item_that_fails_when_it_is_read(tmp_path):
    assert _sources(tmp_path) == [str(tmp_path)]


@pytest.mark.parametrize("scans", [[], "", ["a.nii.gz", ""]])
def test_no_path_is_refused(scans):
    with pytest.raises(ValueError, match="scans must name at least one scan, got"):
        scan_items(scans)
