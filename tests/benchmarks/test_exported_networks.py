from __future__ import annotations

import pytest

from benchmarks.exported_networks import measured

pytest.importorskip("onnxscript", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra export is not installed")


def test_a_file_is_timed_against_the_network_and_gives_its_logits() -> None:
    rows, spread = measured(["onnxruntime"], (32, 32, 16), 1)
    wall, cpu, difference = rows
    assert wall.what == "onnxruntime, 2 tiles of 32 x 32 x 16" and wall.unit == cpu.unit == "s"
    assert wall.ratio is not None and cpu.ratio is not None
    assert 0 < difference.ours < 1e-4 and difference.peer is None
    low, high = (float(word.rstrip(".")) for word in spread.split()[-3::2])
    assert high - low > 1
