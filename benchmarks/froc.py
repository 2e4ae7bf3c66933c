"""``python -m benchmarks.froc``: the FROC with its bootstrap, beside the official way to it.

The peer is not LUNA16's own script but :mod:`benchmarks.luna16_loops`, a re-implementation of its
loops, because that script is not ours to ship.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import luna16_loops
from benchmarks.report import Row, write_report
from metrics.froc_curve import FALSE_POSITIVES_PER_SCAN, froc_intervals, froc_sensitivities
from metrics.luna16_csv import read_findings, read_marks, read_series
from metrics.match_marks import match_marks

_SCANS, _NODULES, _EXCLUDED, _MARKS, _RESAMPLES = 888, 1186, 35192, 50_000, 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.froc", description=__doc__)
    parser.add_argument(
        "--peer-resamples",
        type=int,
        default=50,
        help="resamples the peer is timed on; its time is scaled to 1000",
    )
    peer_resamples = parser.parse_args().peer_resamples
    with tempfile.TemporaryDirectory() as folder:
        paths = _write_tables(Path(folder))
        ours = [_time_ours(paths) for _ in range(2)]
        peer = _time_peer(paths, peer_resamples)
        ours += [_time_ours(paths) for _ in range(3)]
    _check_equal(ours[0][1], peer[2])
    match_s, resampling_s = peer[:2]
    scaled_s = match_s + resampling_s * _RESAMPLES / peer_resamples
    ours_s = float(np.median([seconds for seconds, _ in ours]))
    write_report(
        "froc",
        [Row(f"FROC, {_SCANS} scans, {_MARKS} marks, 1000 resamples", ours_s, scaled_s, "CPU s")],
        notes=(
            "CPU seconds of one process, from the four CSV files to the intervals; "
            "ours is the median of five runs, before and after the peer's one.",
            "The peer re-implements the loops of LUNA16's official evaluation; it is not that "
            "script. Both give the same sensitivities.",
            f"The peer read and matched in {match_s:.1f} s and took {resampling_s:.1f} s for "
            f"{peer_resamples} resamples, scaled here to {_RESAMPLES}.",
            "The cohort is random, of LUNA16's size: "
            f"{_NODULES} nodules and {_EXCLUDED} excluded findings.",
        ),
    )


def _write_tables(folder: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    series = [f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{10**29 + scan}" for scan in range(_SCANS)]
    paths = {name: folder / f"{name}.csv" for name in ("series", "nodules", "excluded", "marks")}
    paths["series"].write_text("\n".join(series) + "\n")

    def write(name: str, column: str, scan: np.ndarray, centre: np.ndarray, value: list) -> None:
        with paths[name].open("w") as file:
            file.write(f"seriesuid,coordX,coordY,coordZ,{column}\n")
            for s, (x, y, z), v in zip(scan, centre, value, strict=True):
                file.write(f"{series[s]},{x:.4f},{y:.4f},{z:.4f},{v:.6g}\n")

    def points(count: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(_SCANS, size=count), rng.uniform(-150, 150, (count, 3))

    nodules, excluded = points(_NODULES), points(_EXCLUDED)
    write("nodules", "diameter_mm", *nodules, list(rng.uniform(3, 30, _NODULES)))
    write("excluded", "diameter_mm", *excluded, [-1.0] * _EXCLUDED)
    found = rng.random(_NODULES) < 0.95
    near = nodules[1][found] + rng.normal(0, 0.5, (found.sum(), 3))
    others = points(_MARKS - len(near))
    write(
        "marks",
        "probability",
        np.concatenate((nodules[0][found], others[0])),
        np.concatenate((near, others[1])),
        [*rng.beta(5, 2, len(near)), *rng.beta(1, 5, len(others[0]))],
    )
    return paths


def _time_ours(paths: dict[str, Path]) -> tuple[float, np.ndarray]:
    start = time.process_time()
    series = read_series(paths["series"])
    marks = match_marks(
        read_marks(paths["marks"], series),
        read_findings(paths["nodules"], series),
        read_findings(paths["excluded"], series),
        len(series),
    )
    sensitivities = froc_sensitivities(marks)
    froc_intervals(marks, resamples=_RESAMPLES)
    return time.process_time() - start, sensitivities


def _time_peer(paths: dict[str, Path], resamples: int) -> tuple[float, float, np.ndarray]:
    """CPU seconds for reading, matching and the curve; for the resamples; and the sensitivities."""
    start = time.process_time()
    series = paths["series"].read_text().split()
    outcome = luna16_loops.evaluate(paths["nodules"], paths["excluded"], series, paths["marks"])
    curve = luna16_loops.whole_curve(outcome, len(series))
    matched = time.process_time()
    luna16_loops.band(luna16_loops.resampled_curves(outcome, series, resamples, seed=0))
    done = time.process_time()
    return matched - start, done - matched, np.interp(FALSE_POSITIVES_PER_SCAN, *curve)


def _check_equal(ours: np.ndarray, peer: np.ndarray) -> None:
    if not np.allclose(ours, peer, rtol=1e-12):
        raise RuntimeError(f"the sensitivities must be those of the loops, got {ours} and {peer}")


if __name__ == "__main__":
    main()
