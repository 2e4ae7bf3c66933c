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
