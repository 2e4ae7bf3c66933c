"""``python -m benchmarks.exported_networks``: the default segmenter from its ONNX file.

A forward pass of a batch of tiles by onnxruntime and by OpenVINO, if it is installed, against the
network itself, in turns in one process.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from torch import nn

from benchmarks.report import Row, write_report
from benchmarks.wall_and_cpu import wall_and_cpu_s
from bundles.bundle_config import bundle_configs, merged_config
from networks import OnnxNetwork
from networks.export_onnx import OPSET, export_onnx

TILE_SHAPE = (192, 192, 96)
BATCH_SIZE = 2
RUNTIMES = ("onnxruntime", "openvino")
EAGER = "eager"
_NOTES = (
    "Ours is the default network of lung_ct_nodule_segmentation run from its ONNX file, in "
    f"float32; the peer is the same network in torch, as inference has it: a batch of {BATCH_SIZE} "
    "tiles, the channels of a voxel side by side. All have as many threads as torch.",
    "Weights are random, norms have the statistics of the tiles, which are noise: neither changes "
    "the work.",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exported_networks")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    rounds: int = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"--rounds must be 1 or more, got {rounds}")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    installed = [name for name in RUNTIMES if importlib.util.find_spec(name) is not None]
    for name in sorted(set(RUNTIMES) - set(installed)):
        print(f"{name} is not installed and was left out")
    rows, spread = measured(installed, TILE_SHAPE, rounds)
    versions = ", ".join(f"{name} {version(name)}" for name in installed)
    timing = f"Medians of {rounds} passes, in turns, after one of each. {versions}, opset {OPSET}."
    write_report("exported_networks", rows, notes=(*_NOTES, spread, timing))


def measured(
    runtimes: Sequence[str], tile_shape: Sequence[int], rounds: int
) -> tuple[list[Row], str]:
    """Rows of each runtime against the network, and a sentence on its logits."""
    torch.manual_seed(0)
    image = torch.rand(BATCH_SIZE, 1, *tile_shape)
    network = _segmenter(image)
    with TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "model.onnx"
        _write(network, path)
        networks: dict[str, nn.Module] = {EAGER: network}
        networks |= {name: OnnxNetwork(path, runtime=name) for name in runtimes}
        logits = {name: one(image) for name, one in networks.items()}
        seconds = {
            name: np.median(taken, axis=0)
            for name, taken in _in_turns(networks, image, rounds).items()
        }
    what = f"{BATCH_SIZE} tiles of {' x '.join(map(str, tile_shape))}"
    rows = []
    for name in runtimes:
        (wall, cpu), (eager_wall, eager_cpu) = seconds[name].tolist(), seconds[EAGER].tolist()
        difference = float((logits[name] - logits[EAGER]).abs().max())
        rows += [
            Row(f"{name}, {what}", wall, eager_wall, "s"),
            Row(f"{name}, {what}: CPU time", cpu, eager_cpu, "s"),
            Row(f"{name}: largest difference of the logits", difference, None, ""),
        ]
    low, high = (float(bound) for bound in logits[EAGER].aminmax())
    return rows, f"The logits lie between {low:.3g} and {high:.3g}."


def _in_turns(
    networks: Mapping[str, nn.Module], image: torch.Tensor, rounds: int
) -> dict[str, list[NDArray[np.float64]]]:
    taken: dict[str, list[NDArray[np.float64]]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, network in networks.items():
            start = wall_and_cpu_s()
            network(image)
            taken[name].append(wall_and_cpu_s() - start)
            print(f"{name}: {taken[name][-1][0]:.3g} s", flush=True)
    return taken


def _segmenter(image: torch.Tensor) -> nn.Module:
    """The bundle's network on a CPU, its norms set by the image, and its logits not all alike."""
    config = ConfigParser(
        merged_config([bundle_configs("lung_ct_nodule_segmentation") / "common.yaml"])
    )
    config["device"] = "$torch.device('cpu')"
    network: nn.Module = config.get_parsed_content("network")
    nn.init.normal_(network.get_submodule("head").get_parameter("weight"))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = 1.0
        network.train()(image)
    return network.eval()


def _write(network: nn.Module, path: Path) -> None:
    export_onnx(network, path, image_shape=(2, 1, 32, 48, 16), metadata={})


if __name__ == "__main__":
    main()
