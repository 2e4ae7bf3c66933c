"""An ONNX file opened by one of the programs that run it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.utils.module import optional_import
from numpy.typing import NDArray

Array = NDArray[np.float32]


class NetworkFile(NamedTuple):
    """What an ONNX file says of itself, and its network.

    Attributes:
        metadata: what its writer noted.
        image_axes: sizes of the input ``(B, C, *spatial)``, None where any will do; empty where
            the file has not just one input.
        output_names: of the tensors that ``run`` returns.
        run: image to the outputs.
    """

    metadata: Mapping[str, str]
    image_axes: Sequence[int | None]
    output_names: Sequence[str]
    run: Callable[[Array], Sequence[Array]]


def open_network(path: Path, runtime: str) -> NetworkFile:
    """The network of an ONNX file, in float32 on the CPU with as many threads as torch has.

    Args:
        path: the file.
        runtime: ``onnxruntime`` or ``openvino``.

    Raises:
        ValueError: an unknown runtime or one that is not installed, or a file that it cannot read.
    """
    if runtime not in _RUNTIMES:
        raise ValueError(f"runtime must be one of {', '.join(_RUNTIMES)}, got {runtime}")
    extra, opener = _RUNTIMES[runtime]
    if importlib.util.find_spec(runtime) is None:
        raise ValueError(
            f"runtime must be an installed package, got {runtime}, which is not; "
            f"pip install -e '.[{extra}]' brings it"
        )
    if not path.is_file():
        raise ValueError(
            f"{path}: must be an exported network, got no such file; "
            "python -m bundles.export writes it"
        )
    try:
        return opener(path)
    except Exception as error:  # each runtime has its own
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{path}: must be a readable ONNX file, got {reason}") from error


def _open_with_onnxruntime(path: Path) -> NetworkFile:
    onnxruntime, _ = optional_import("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()

    def run(image: Array) -> Sequence[Array]:
        return session.run(None, {inputs[0].name: image})

    return NetworkFile(
        metadata=session.get_modelmeta().custom_metadata_map,
        image_axes=_axes([one.shape for one in inputs]),
        output_names=[output.name for output in session.get_outputs()],
        run=run,
    )


def _open_with_openvino(path: Path) -> NetworkFile:
    openvino, _ = optional_import("openvino")
    core = openvino.Core()
    model = core.read_model(path)
    settings = {
        # On processors that know bfloat16 it would take that by itself.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(model, "CPU", settings)

    def run(image: Array) -> Sequence[Array]:
        found = compiled([image])
        return [found[index] for index in range(len(compiled.outputs))]

    shapes = [
        [None if axis.is_dynamic else axis.get_length() for axis in one.partial_shape]
        for one in model.inputs
    ]
    noted = "framework"  # where OpenVINO puts what an ONNX file notes
    return NetworkFile(
        metadata=model.get_rt_info(noted).value if model.has_rt_info(noted) else {},
        image_axes=_axes(shapes),
        output_names=[output.any_name for output in model.outputs],
        run=run,
    )


def _axes(shapes: Sequence[Sequence[Any]]) -> list[int | None]:
    """Axes of the one input there should be; onnxruntime gives a free one by its name."""
    if len(shapes) != 1:
        return []
    return [axis if isinstance(axis, int) else None for axis in shapes[0]]


#: The extra that brings a runtime, and what opens a file with it.
_RUNTIMES: dict[str, tuple[str, Callable[[Path], NetworkFile]]] = {
    "onnxruntime": ("export", _open_with_onnxruntime),
    "openvino": ("openvino", _open_with_openvino),
}
