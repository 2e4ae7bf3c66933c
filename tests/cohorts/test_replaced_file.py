from __future__ import annotations

from pathlib import Path

import pytest

from cohorts import write_datalist
from cohorts.replaced_file import replaced_file


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with replaced_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [OSError, KeyboardInterrupt])
def test_a_block_cut_short_leaves_the_old_file_alone(
    stop: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(stop), replaced_file(path) as part:
        part.write_text("ne")
        raise stop
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_datalist_that_cannot_take_its_place_leaves_no_part(tmp_path: Path) -> None:
    (tmp_path / "datalist.json").mkdir()
    with pytest.raises(OSError, match=r"datalist\.json"):
        write_datalist({"world_frame": "RAS", "box_mode": "cccwhd"}, tmp_path / "datalist.json")
    assert [file.name for file in tmp_path.iterdir()] == ["datalist.json"]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    full = OSError(28, "No space left on device")
    with (
        pytest.raises(OSError, match=r"left on device: .*a\.csv"),
        replaced_file(tmp_path / "a.csv"),
    ):
        raise full
