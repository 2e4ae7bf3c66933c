from __future__ import annotations

import os
from pathlib import Path

from cohorts.scan_hash import scan_hash


def test_the_hash_is_of_the_item_and_of_its_files(tmp_path: Path) -> None:
    image = tmp_path / "scan.nii.gz"
    image.write_bytes(b"one")
    item = {"image": str(image), "risk": 1, "boxes": [[1.0, 2, 3, 4, 5, 6]], "side": "left"}
    first = scan_hash(item)
    assert scan_hash(dict(item)) == first
    assert scan_hash({**item, "risk": 0}) != first
    image.write_bytes(b"another")
    other = scan_hash(item)
    assert other != first
    os.utime(image, ns=(0, 0))
    assert scan_hash(item) not in (first, other)


def test_an_item_without_a_file_has_a_hash() -> None:
    assert scan_hash({"image": "nowhere.nii.gz"}) == scan_hash({"image": "nowhere.nii.gz"})
    assert scan_hash({}) != scan_hash({"image": "nowhere.nii.gz"})


def test_the_data_of_a_header_and_the_slices_of_a_folder_count(tmp_path: Path) -> None:
    header, data = tmp_path / "a[1].mhd", tmp_path / "a[1].raw"
    series = tmp_path / "series"
    series.mkdir()
    for path in (header, data, series / "1.dcm"):
        path.write_bytes(b"one")
    item = {"image": str(header), "source": str(series)}
    hashes = {scan_hash(item)}
    data.write_bytes(b"another")
    hashes.add(scan_hash(item))
    (series / "1.dcm").write_bytes(b"another")
    hashes.add(scan_hash(item))
    (series / "2.dcm").write_bytes(b"one")
    hashes.add(scan_hash(item))
    assert len(hashes) == 4
