"""``python -m benchmarks.whole_scan``: time and memory of one 512x512x200 scan, file to report."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml
from monai.bundle import ConfigParser

from benchmarks.report import Row, write_report
from bundles.bundle_config import BUNDLES_ROOT, merged_config
from cohorts import CohortSettings, ScannerSettings, make_cohort

SHAPE = (512, 512, 200)
SPACING_MM = (0.7, 0.7, 1.5)
CONFIGS = BUNDLES_ROOT / "lung_ct_cancer_risk" / "configs"
NOTES = (
    "The scan is a phantom; the network has the default size and random weights, which cost "
    "what trained ones do.",
    "Wall seconds of whole processes, with their start, and their peak resident memory.",
    "No peer was measured here.",
)
NETWORK_ALONE = """
import torch
from monai.bundle import ConfigParser
parser = ConfigParser()
parser.read_config({config!r})
parser["device"] = "$torch.device('cpu')"
network = parser.get_parsed_content("network").eval()
with torch.inference_mode():
    scores = network(torch.rand(1, 1, *{shape}), with_attention=True)["scores"]
assert scores.shape[2:] == (128, 128, 50), scores.shape
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        datalist = make_cohort(_one_scan(), folder / "phantom", workers=1)
        rows = [Row("make the phantom", time.monotonic() - began, None, "s")]
        config = {**merged_config([CONFIGS / "common.yaml"]), "run_dir": str(folder)}
        network = ConfigParser(config).get_parsed_content("network_def")
        torch.save(network.state_dict(), folder / "model.pt")
        (folder / "place.yaml").write_text(yaml.safe_dump({"run_dir": str(folder)}))
        script = NETWORK_ALONE.format(config=str(CONFIGS / "common.yaml"), shape=SHAPE)
        rows += _measured("network alone, 512x512x200 to 128x128x50", ["-c", script])
        files = [str(CONFIGS / "common.yaml"), str(CONFIGS / "inference.yaml")]
        command = ["-m", "monai.bundle", "run", "--config_file", str([*files, _place(folder)])]
        command += ["--meta_file", str(CONFIGS / "metadata.json")]
        command += ["--logging_file", str(CONFIGS / "logging.conf")]
        command += ["--scans", str(datalist.parent / "images")]
        rows += _measured("file to risk, attention map and picture", command)
    write_report("whole_scan", rows, notes=NOTES)


def _one_scan() -> CohortSettings:
    height_mm, width_mm, depth_mm = (size * mm for size, mm in zip(SHAPE, SPACING_MM, strict=True))
    scanner = ScannerSettings(
        spacing_mm=SPACING_MM, field_of_view_mm=(height_mm, width_mm, depth_mm)
    )
    return CohortSettings(training=0, validation=0, testing=1, scanner=scanner)


def _place(folder: Path) -> str:
    return str(folder / "place.yaml")


def _measured(what: str, arguments: list[str]) -> list[Row]:
    """Seconds and peak memory of a Python process of its own."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=log, stderr=subprocess.STDOUT
        )
        # Unlike `communicate`, this tells the memory of one child and not of all so far.
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            log.seek(0)
            raise RuntimeError(log.read().decode())
    seconds = time.monotonic() - began
    peak_gib = usage.ru_maxrss / 2**20
    return [Row(what, seconds, None, "s"), Row(f"{what}: peak memory", peak_gib, None, "GiB")]


if __name__ == "__main__":
    main()
