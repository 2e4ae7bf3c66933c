"""A network as an ONNX file."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

#: Version of ONNX's operators that a file is written in.
OPSET = 20
_NEEDED = ("onnx", "onnxscript")


def export_onnx(
    network: nn.Module, path: Path, *, image_shape: Sequence[int], metadata: Mapping[str, str]
) -> None:
    """Write a network to a file that takes any batch and any spatial size the network takes.

    The input is ``image``. The outputs are ``logits``, with ``scores`` of a network that has
    attention; of a detector each level's by itself, ``logits_0``, ``logits_1`` and so on, then
    ``offsets_0`` and ``log_sizes_0``. :class:`networks.OnnxNetwork` puts them together again.
    Nothing is kept of where the code lay on the machine that wrote the file.

    Args:
        network: in evaluation mode, on the CPU.
        path: the file, replaced if there is one.
        image_shape: ``(B, C, *spatial)`` that the network takes, 2 or more but for the channels.
        metadata: noted in the file.

    Raises:
        ValueError: a package that writes ONNX is not installed, the network is in training mode,
            or an axis of the shape is 1, which would become fixed.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"an export must have {' and '.join(_NEEDED)} installed, got no "
            f"{' and '.join(missing)}; pip install -e '.[export]' brings them"
        )
    if network.training:
        raise ValueError("network must be in evaluation mode, got one in training mode")
    free = [axis for axis in range(len(image_shape)) if axis != 1]
    if min(image_shape[axis] for axis in free) < 2:
        raise ValueError(
            f"image_shape must be 2 or more but for the channels, got {tuple(image_shape)}"
        )
    image = torch.zeros(tuple(image_shape))
    with torch.no_grad():
        names = list(named_outputs(network, image))
        program = torch.onnx.export(
            _NamedOutputs(network).eval(),
            (image,),
            input_names=["image"],
            output_names=names,
            opset_version=OPSET,
            dynamic_shapes={"image": {axis: torch.export.Dim.DYNAMIC for axis in free}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model
    # torch notes the lines of code of every operation, with their files' paths.
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    model.metadata_props.update(metadata)
    program.save(path)


def named_outputs(network: nn.Module, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """All that a network returns for an image, each tensor by its name in a file."""
    asked = "with_attention" in inspect.signature(network.forward).parameters
    outputs = network(image, with_attention=True) if asked else network(image)
    if isinstance(outputs, torch.Tensor):
        return {"logits": outputs}
    named: dict[str, torch.Tensor] = {}
    for name, value in outputs.items():
        levels = {name: value} if isinstance(value, torch.Tensor) else _levels(name, value)
        named.update(levels)
    return named


def _levels(name: str, levels: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{name}_{level}": value for level, value in enumerate(levels)}


class _NamedOutputs(nn.Module):
    """A network with the outputs of `named_outputs` as a tuple."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(named_outputs(self.network, image).values())
