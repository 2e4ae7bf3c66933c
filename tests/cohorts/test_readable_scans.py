from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, EnsureChannelFirstd, Lambdad

from cohorts import ReadableScans


def _read(path: str) -> np.ndarray:
    if "bad" in path:
        raise ValueError(f"{path}: spacing must be above zero, got 0 mm")
    if "odd" in path:
        raise KeyError("rows")
    return np.zeros((2, 3, 4), np.float32)


READ = Compose(
    [
        Compose([Lambdad(keys="image", func=_read)]),
        EnsureChannelFirstd(keys="image", channel_dim="no_channel"),
    ]
)


def _items(*names: str) -> list[dict[str, str]]:
    return [{"image": name, "source": name} for name in names]


def test_bad_scans_are_written_down_and_the_others_still_come(caplog):
    scans = ReadableScans(_items("a", "bad", "b", "odd", "c"), READ)
    with caplog.at_level(logging.ERROR):
        batches = list(DataLoader(scans, batch_size=1, num_workers=0))
    assert [batch["source"][0] for batch in batches] == ["a", "b", "c"]
    assert batches[0]["image"].shape == (1, 1, 2, 3, 4)
    assert scans.failures == [
        {"scan": "bad", "error": "bad: spacing must be above zero, got 0 mm"},
        {"scan": "odd", "error": "KeyError: 'rows'"},
    ]
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("cohorts")]
    assert logged == ["bad: spacing must be above zero, got 0 mm", "odd: KeyError: 'rows'"]


def test_when_all_fail_nothing_comes_and_all_are_written_down():
    scans = ReadableScans(_items("bad1", "bad2"), READ)
    assert list(DataLoader(scans, batch_size=1)) == []
    assert [failure["scan"] for failure in scans.failures] == ["bad1", "bad2"]


def test_a_second_pass_starts_a_new_list_of_failures():
    scans = ReadableScans(_items("a", "bad"), READ)
    for _ in range(2):
        assert len(list(scans)) == 1
        assert len(scans.failures) == 1


def test_items_are_read_one_at_a_time_and_left_unchanged():
    read: list[str] = []
    items = _items("a", "b")

    def transform(item):
        read.append(item.pop("image"))
        return item

    iterator = iter(ReadableScans(items, transform))
    next(iterator)
    assert read == ["a"]
    assert items == _items("a", "b")


def test_an_own_rule_keeps_its_sentence_though_a_library_caused_it():
    def transform(_item):
        try:
            raise OSError("deep inside")
        except OSError as error:
            raise ValueError("x.nii: must be readable and complete") from error

    scans = ReadableScans([{"image": "x.nii"}], transform)
    assert list(scans) == []
    assert scans.failures == [{"scan": "x.nii", "error": "x.nii: must be readable and complete"}]


def test_an_error_of_many_lines_becomes_one_sentence():
    scans = ReadableScans([{"image": "x"}], Compose([_raise_lines]))
    assert list(scans) == []
    assert scans.failures[0]["error"] == "RuntimeError: first second"


def _raise_lines(_item):
    raise RuntimeError("first\n   second")


def test_ctrl_c_passes_through():
    def transform(_item):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(ReadableScans(_items("a"), transform))


def test_workers_and_an_empty_list_are_refused():
    with pytest.raises(ValueError, match="items must hold at least one scan, got an empty list"):
        ReadableScans([], READ)
    with pytest.raises(RuntimeError, match="needs num_workers 0, got 1"):
        list(DataLoader(ReadableScans(_items("a"), READ), num_workers=1))


def test_it_has_no_length_so_that_the_engine_does_not_start_over():
    with pytest.raises(TypeError):
        len(DataLoader(ReadableScans(_items("a", "bad"), READ), batch_size=1))
    assert isinstance(ReadableScans(_items("a"), READ), torch.utils.data.IterableDataset)
