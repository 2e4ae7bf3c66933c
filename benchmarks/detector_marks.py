"""Submissions of our detector and its peer on the scans of a datalist's testing part."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from monai.data import MetaTensor

from benchmarks.detector_training import Setup
from benchmarks.retina_detector import retina_detector
from handlers.findings import findings
from handlers.luna16_tables import MARK_COLUMNS
from handlers.trained_weights import load_trained_weights
from handlers.write_table import write_table

SUBMISSION = "submission.csv"
Marks = tuple[torch.Tensor, torch.Tensor]
Detect = Callable[[torch.Tensor], Marks]


def submit_ours(setup: Setup, run_dir: Path) -> float:
    """Write a submission into ``run_dir``; median seconds a scan, without reading it from disk."""
    config = setup.config(run_dir, {})
    network = config.get_parsed_content("network").eval()
    load_trained_weights(str(run_dir / "model.pt"), network)
    tiles = config.get_parsed_content("detector")

    def detect(image: torch.Tensor) -> Marks:
        found = tiles(image, network)
        return found["boxes"][0], found["scores"][0]

    return _submit(setup, run_dir, detect)


def submit_peer(setup: Setup, run_dir: Path) -> float:
    """As :func:`submit_ours`, with MONAI's sliding window and box selection.

    A scan that fits into one tile is given as it is: the window would pad it to the tile.
    """
    config = setup.config(run_dir, {})
    detector = retina_detector(config["spacing_mm"], config["tile_shape"]).eval()
    load_trained_weights(str(run_dir / "model.pt"), detector.network)

    def detect(image: torch.Tensor) -> Marks:
        fits = all(map(operator.le, image.shape[2:], config["tile_shape"]))
        found = detector(image, use_inferer=not fits)[0]
        return found["boxes"], found["labels_scores"]

    return _submit(setup, run_dir, detect)


def _submit(setup: Setup, run_dir: Path, detect: Detect) -> float:
    config = setup.config(run_dir, {"validate::scans::split": "testing"})
    rows: list[Sequence[object]] = []
    seconds = []
    for sample in config.get_parsed_content("validate::dataset"):
        image: MetaTensor = sample["image"]
        start = time.perf_counter()
        with torch.inference_mode():
            boxes, scores = detect(image.as_tensor()[None])
        seconds.append(time.perf_counter() - start)
        for mark in findings(boxes, scores, image=image, scan=image):
            rows.append((sample["patient_id"], *mark["centre_lps_mm"], mark["score"]))
    write_table(run_dir / SUBMISSION, MARK_COLUMNS, rows)
    return statistics.median(seconds)
