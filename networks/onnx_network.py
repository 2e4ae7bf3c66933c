"""A network from a file, in the place of the network that it was exported from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from monai.utils.type_conversion import convert_to_tensor
from torch import nn

from networks.network_file import open_network
from networks.weights_sha256 import weights_sha256

#: What ``python -m bundles.export`` notes in a file: the bundle's name, and the weights' SHA-256.
BUNDLE, WEIGHTS = "bundle", "weights_sha256"

_Outputs = dict[str, torch.Tensor | list[torch.Tensor]]


class OnnxNetwork(nn.Module):
    """Runs the ONNX file of a network of ours, with its outputs, on the CPU in float32.

    It has no weights, so nothing is loaded into it, and it cannot be trained.

    Args:
        path: what ``python -m bundles.export`` wrote.
        checkpoint: the weights that the file must have been exported from; None takes any.
        runtime: ``onnxruntime`` or ``openvino``.

    Shape:
        image ``(B, C, *spatial)`` to what the exported network returns for it, on the image's
        device. OpenVINO does not refuse every size that the network would.

    Raises:
        ValueError: a runtime that is not installed, no such file, one of other weights, or an
            image that is not for this network.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        checkpoint: str | Path | None = None,
        runtime: str = "onnxruntime",
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self._file = open_network(self.path, runtime)
        axes, names = self._file.image_axes, self._file.output_names
        if len(axes) not in (4, 5) or not {"logits", "logits_0"} & set(names):
            raise ValueError(
                f"{path}: must be a file that python -m bundles.export wrote, got one with the "
                f"outputs {', '.join(names)}"
            )
        if checkpoint is not None:
            self._check_weights(Path(checkpoint))

    def _check_weights(self, checkpoint: Path) -> None:
        if not checkpoint.is_file():
            raise ValueError(f"a checkpoint must be an existing file, got {checkpoint}")
        try:
            weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
            wanted = weights_sha256(weights.get("network", weights))
        except Exception as error:
            raise ValueError(f"{checkpoint}: must be readable weights, got {error}") from error
        noted = self._file.metadata
        if noted.get(WEIGHTS) != wanted:
            raise ValueError(
                f"{self.path}: must be exported from the weights in {checkpoint}, got other "
                f"weights of {noted.get(BUNDLE, 'no bundle')}; python -m bundles.export writes it "
                "anew"
            )

    def forward(self, image: torch.Tensor, with_attention: bool = False) -> torch.Tensor | _Outputs:
        outputs = _gathered(self.named_outputs(image))
        if with_attention and "scores" not in outputs:
            raise ValueError(f"{self.path}: must hold attention to be asked for it, got none")
        logits = outputs["logits"]
        return logits if isinstance(logits, torch.Tensor) and not with_attention else outputs

    def named_outputs(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every output of the file by its name in it."""
        axes, shape = self._file.image_axes, tuple(image.shape)
        if len(shape) != len(axes) or shape[1] != axes[1]:
            raise ValueError(
                f"an image must have {axes[1]} channel(s) and {len(axes) - 2} axes, as "
                f"{self.path} has, got shape {shape}"
            )
        plain = convert_to_tensor(image, track_meta=False).detach()
        try:
            values = self._file.run(plain.to("cpu", torch.float32).contiguous().numpy())
        except Exception as error:  # each runtime has its own
            raise ValueError(
                f"an image must be of a shape that {self.path} takes, got {shape}"
            ) from error
        return {
            name: torch.from_numpy(value).to(image.device)
            for name, value in zip(self._file.output_names, values, strict=True)
        }


def _gathered(named: Mapping[str, torch.Tensor]) -> _Outputs:
    """Levels, such as ``logits_0`` and ``logits_1``, as one list, in the order of the file."""
    outputs: _Outputs = {}
    for name, value in named.items():
        stem, _, level = name.rpartition("_")
        levels = outputs.setdefault(stem, []) if level.isdecimal() else None
        if isinstance(levels, list):
            levels.append(value)
        else:
            outputs[name] = value
    return outputs
