"""``python -m bundles.export``: the network of a trained bundle as an ONNX file, checked."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser
from torch import nn

from bundles.bundle_config import bundle_configs, bundle_names
from bundles.exit_code import exit_code
from bundles.flat_config import flat_config
from bundles.packed_weights import trained_network
from bundles.run_folders import last_run
from cohorts.replaced_file import replaced_file
from networks.export_onnx import OPSET, export_onnx, named_outputs
from networks.onnx_network import BUNDLE, WEIGHTS, OnnxNetwork
from networks.weights_sha256 import weights_sha256

TOLERANCE = 1e-4


def export_bundle(bundle: str, run_dir: Path, output: Path, checkpoint: Path) -> float:
    """Write the network of a run to ``output``, once the file was seen to give the same outputs.

    Args:
        bundle: name of a folder of ``bundles/``.
        run_dir: a run of it, with ``config.yaml`` and ``trained.yaml``.
        output: the file, replaced if there is one; its folder is made if needed.
        checkpoint: the weights.

    Returns:
        the largest difference between the outputs of file and network, of a batch of noise whose
        shape is another than the one the file was written with.

    Raises:
        ValueError: the run is of another bundle, the weights of another network, a package is
            missing, or the outputs differ by more than 1e-4.
        OSError: a file is missing or cannot be written.
    """
    _check_bundle(bundle, run_dir)
    config = flat_config(bundle, "inference", run_dir)
    network = trained_network(config, checkpoint).eval()
    noted = {BUNDLE: bundle, WEIGHTS: weights_sha256(network.state_dict())}
    output.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(output) as partial:
        export_onnx(network, partial, image_shape=_image_shape(config, 2), metadata=noted)
        difference = largest_difference(
            OnnxNetwork(partial, checkpoint=checkpoint), network, _image_shape(config, 3)
        )
        if not difference <= TOLERANCE:
            raise ValueError(
                f"an exported network must give its outputs within {TOLERANCE:g}, got a "
                f"difference of {difference:.2g}"
            )
    return difference


def largest_difference(
    exported: OnnxNetwork, network: nn.Module, image_shape: Sequence[int]
) -> float:
    """Of all outputs of the two for an image of noise, the same at every call."""
    image = torch.rand(tuple(image_shape), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, expected = exported.named_outputs(image), named_outputs(network, image)
        return max(float((found[name] - expected[name]).abs().max()) for name in expected)


def _check_bundle(bundle: str, run_dir: Path) -> None:
    bundle_configs(bundle)
    found = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8")).get("experiment")
    if found != bundle and found in bundle_names():
        raise ValueError(f"{run_dir}: must be a run of {bundle}, got one of {found}")


def _image_shape(config: dict[str, Any], cells: int) -> list[int]:
    """A batch whose axes have ``cells`` of the coarsest cells, or one or two more."""
    parser = ConfigParser(config)
    stride = parser.get_parsed_content("tile_stride" if "tile_stride" in config else "strides")
    channels = parser.get_parsed_content("network_def::in_channels")
    return [cells, channels, *((cells + axis) * step for axis, step in enumerate(stride))]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bundles.export", description=__doc__)
    parser.add_argument("bundle", help="name of the bundle, such as lung_ct_cancer_risk")
    parser.add_argument("--run", type=Path, help="folder of a training run; else the last")
    parser.add_argument("--checkpoint", type=Path, help="weights other than its model.pt")
    parser.add_argument(
        "--output", type=Path, metavar="ONNX", help="the file; else beside the weights"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 after one sentence on the rule that was broken."""
    options = _parser().parse_args(arguments)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torchvision is not there

    def work() -> None:
        run_dir = options.run or last_run(options.bundle)
        checkpoint = options.checkpoint or run_dir / "model.pt"
        output = options.output or checkpoint.with_suffix(".onnx")
        difference = export_bundle(options.bundle, run_dir, output, checkpoint)
        print(f"written: {output}, opset {OPSET}, outputs within {difference:.1e} of the network's")

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
