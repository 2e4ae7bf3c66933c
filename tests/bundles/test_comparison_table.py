from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from bundles.comparison_picture import draw_comparison
from bundles.comparison_table import markdown, terminal_lines


@pytest.fixture
def content() -> dict[str, Any]:
    """What comparison.json holds, as far as the table and the picture read it."""
    plain = {"value": 0.5, "low": 0.41, "high": 0.59, "seed_values": [0.4, 0.6], "seed_sd": 0.1414}
    gain = {"difference": 0.25, "difference_low": -0.001, "difference_high": 0.5}
    taught = {**plain, "value": 0.75, "low": None, "high": None, "seed_sd": None, **gain}
    none = {**plain, "value": None, "low": None, "high": None, "seed_values": [None]}
    return {
        "intended_use": "Research use only.",
        "bundle": "some_bundle",
        "command": "python -m bundles compare some_bundle",
        "date": "2026-01-02",
        "datalist": {
            "name": "cohort",
            "sha256": "0123456789abcdef",
            "synthetic": True,
            "scans": {"training": 5, "validation": 3, "testing": 2},
        },
        "max_epochs": 7,
        "seeds": [0, 1],
        "reference": "plain",
        "notes": ["Heads are judged as they are."],
        "arms": {"plain": {}, "taught": {}, "lost": {}},
        "runs": [{"training_seconds": 90.0}, {"training_seconds": 30.0}],
        "failed": [{"run": "lost-seed0", "error": "no memory", "log": "lost-seed0/log.txt"}],
        "measures": {
            "auroc": {
                "title": "AUROC",
                "decimals": 2,
                "scans": 2,
                "arms": {"plain": plain, "taught": taught},
            },
            "hit": {
                "title": "hit",
                "decimals": 1,
                "scans": 0,
                "arms": {
                    "plain": none,
                    "taught": {**none, **dict.fromkeys(gain)},
                },
            },
        },
    }


def test_the_page_has_values_differences_and_what_made_them(content: dict[str, Any]) -> None:
    text = markdown(content)
    assert text.startswith("**Synthetic phantoms, not patients. Research use only.**")
    assert "```sh\npython -m bundles compare some_bundle\n```" in text
    assert "5 training, 3 validation, 2 testing; SHA-256 0123456789ab…" in text
    assert "2 trainings (epochs: 7; seeds: 0, 1) of 2 minutes together, 2026-01-02" in text
    rows = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    assert rows == [
        "| arm | AUROC (2 scans) | hit (0 scans) |",
        "| plain | 0.50 ± 0.14 [0.41, 0.59] | not measured |",
        "| taught | 0.75 | not measured |",
        "| lost | not measured | not measured |",
        "| arm | AUROC (2 scans) | hit (0 scans) |",
        "| taught | +0.25 [-0.00, +0.50] | not measured |",
        "| lost | not measured | not measured |",
    ]
    assert "Not in the table: lost-seed0 failed: no memory (see lost-seed0/log.txt)." in text


def test_real_scans_are_not_called_phantoms(content: dict[str, Any]) -> None:
    content["datalist"]["synthetic"] = False
    assert markdown(content).startswith("**Scans of patients. Research use only.**")
    content["datalist"]["synthetic"] = None
    assert markdown(content).startswith("**Research use only.**")


def test_one_arm_alone_has_no_differences(content: dict[str, Any]) -> None:
    content["arms"] = {"plain": {}}
    assert "Difference" not in markdown(content)


def test_the_terminal_shows_the_same_numbers(content: dict[str, Any]) -> None:
    lines = [" ".join(line.split()) for line in terminal_lines(content)]
    assert "plain 0.50 ± 0.14 [0.41, 0.59]" in lines
    assert "taught 0.75 difference +0.25 [-0.00, +0.50]" in lines


def test_the_picture_is_drawn_with_and_without_intervals(
    content: dict[str, Any], tmp_path: Path
) -> None:
    draw_comparison(content, tmp_path / "comparison.png")
    picture = matplotlib.image.imread(tmp_path / "comparison.png")
    assert picture.shape[1] > 1000 and picture[..., :3].std() > 0.05
