from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from networks import (
    FullyConvolutional,
    NoduleDetector,
    OnnxNetwork,
    PooledSegmenter,
    RiskClassifier,
    UNet,
)
from networks.export_onnx import export_onnx
from networks.onnx_network import BUNDLE, WEIGHTS
from networks.weights_sha256 import weights_sha256

ROOT = Path(__file__).parents[2]

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra export is not installed",
)
pytestmark = needs_onnx


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest) -> str:
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


def _risk(spatial_dims: int, pooling: str, heads: int, years: int | None = None) -> nn.Module:
    return RiskClassifier(
        spatial_dims=spatial_dims,
        in_channels=1,
        channels=[4, 8],
        strides=[2, 2],
        blocks=[1],
        heads=heads,
        hidden_features=8,
        pooling=pooling,
        years=years,
    )


def _detector() -> nn.Module:
    return NoduleDetector(
        spatial_dims=3,
        in_channels=1,
        channels=[4, 4, 8],
        strides=[[2, 2, 1], 2, 2],
        blocks=[1, 1],
        levels=2,
        feature_channels=4,
    )


def _unet() -> nn.Module:
    return UNet(
        spatial_dims=3, in_channels=1, out_channels=2, channels=[4, 8], strides=[[2, 2, 1], 2]
    )


def _fully_convolutional() -> nn.Module:
    return FullyConvolutional(spatial_dims=2, in_channels=2, out_channels=1, channels=[4])


def _pooled() -> nn.Module:
    return PooledSegmenter(
        spatial_dims=3, in_channels=1, out_channels=1, channels=[4, 8], strides=[2, [2, 2, 1]]
    )


# Each network with the shape that its file is written for, and others that it must take.
CASES: Mapping[str, tuple[Callable[[], nn.Module], list[tuple[int, ...]]]] = {
    "attention": (lambda: _risk(3, "attention", 2, 3), [(2, 1, 8, 12, 16), (1, 1, 9, 4, 5)]),
    "gated": (lambda: _risk(2, "gated_attention", 2), [(2, 1, 8, 12), (1, 1, 20, 9), (1, 1, 4, 4)]),
    "average": (lambda: _risk(2, "average", 1), [(2, 1, 8, 12), (1, 1, 9, 20), (1, 1, 1200, 1024)]),
    "detector": (_detector, [(2, 1, 16, 24, 8), (1, 1, 32, 8, 12), (1, 1, 19, 9, 5)]),
    "unet": (_unet, [(2, 1, 8, 12, 4), (1, 1, 16, 4, 6)]),
    "fully_convolutional": (_fully_convolutional, [(2, 2, 8, 12), (1, 2, 5, 7)]),
    "pooled": (_pooled, [(2, 1, 8, 12, 4), (1, 1, 9, 6, 7)]),
}


class Exported:
    """Networks with statistics that are not those of the beginning, each exported once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._networks: dict[str, nn.Module] = {}

    def __call__(self, case: str) -> tuple[nn.Module, Path]:
        path = self.folder / f"{case}.onnx"
        if case not in self._networks:
            make, (shape, *_) = CASES[case]
            network = self._networks[case] = _with_statistics(make())
            noted = {BUNDLE: "lung_ct", WEIGHTS: weights_sha256(network.state_dict())}
            export_onnx(network, path, image_shape=shape, metadata=noted)
        return self._networks[case], path


def _with_statistics(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.normal_(std=0.3)
    return network.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("exported"))


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_the_network_at_every_size(
    exported: Exported, case: str, runtime: str
) -> None:
    network, path = exported(case)
    file = OnnxNetwork(path, runtime=runtime)
    torch.manual_seed(1)
    for shape in CASES[case][1]:
        image = torch.randn(shape)
        asked: dict[str, Any] = {}
        if isinstance(network, RiskClassifier):
            asked = {"with_attention": True}
            torch.testing.assert_close(file(image), network(image), atol=1e-4, rtol=0)
        with torch.no_grad():
            # Compares lists and mappings too, and the tensors' shapes.
            torch.testing.assert_close(
                file(image, **asked), network(image, **asked), atol=1e-4, rtol=0
            )


def test_an_image_with_an_affine_gives_plain_outputs_as_the_file_has_no_grid(
    exported: Exported, runtime: str
) -> None:
    network, path = exported("unet")
    image = torch.rand(1, 1, 8, 8, 4)
    logits = OnnxNetwork(path, runtime=runtime)(MetaTensor(image))
    assert type(logits) is torch.Tensor
    with torch.no_grad():
        torch.testing.assert_close(logits, network(image), atol=1e-4, rtol=0)


def test_outputs_stay_when_the_network_runs_again(exported: Exported, runtime: str) -> None:
    file = OnnxNetwork(exported("fully_convolutional")[1], runtime=runtime)
    first = file(torch.zeros(1, 2, 8, 8))
    before = first.clone()
    file(torch.ones(1, 2, 8, 8))
    assert torch.equal(first, before)


def test_a_file_does_not_tell_where_the_code_lay_and_is_the_same_twice(
    exported: Exported, tmp_path: Path
) -> None:
    network, path = exported("fully_convolutional")
    content = path.read_bytes()
    assert str(ROOT).encode() not in content and b"site-packages" not in content
    noted = {BUNDLE: "lung_ct", WEIGHTS: weights_sha256(network.state_dict())}
    again = tmp_path / "again.onnx"
    export_onnx(network, again, image_shape=(2, 2, 8, 12), metadata=noted)
    assert again.read_bytes() == content


def test_the_checkpoint_must_be_the_files(exported: Exported, tmp_path: Path, runtime: str) -> None:
    network, path = exported("unet")
    weights = network.state_dict()
    checkpoint = tmp_path / "model.pt"
    torch.save(weights, checkpoint)
    OnnxNetwork(path, checkpoint=checkpoint, runtime=runtime)
    torch.save({"network": weights, "epoch": 3}, checkpoint)
    OnnxNetwork(path, checkpoint=checkpoint, runtime=runtime)
    name = next(iter(weights))
    torch.save({**weights, name: weights[name] + 1e-3}, checkpoint)
    with pytest.raises(ValueError, match=r"unet\.onnx: must be exported from .* of lung_ct;"):
        OnnxNetwork(path, checkpoint=checkpoint, runtime=runtime)
    checkpoint.write_text("no weights")
    with pytest.raises(ValueError, match=r"model\.pt: must be readable weights"):
        OnnxNetwork(path, checkpoint=checkpoint, runtime=runtime)
    with pytest.raises(ValueError, match="checkpoint must be an existing file"):
        OnnxNetwork(path, checkpoint=tmp_path / "none.pt", runtime=runtime)


@pytest.mark.parametrize(
    ("shape", "rule"), [((1, 2, 8, 8, 4), "1 channel"), ((1, 1, 8, 8), "3 axes")]
)
def test_an_image_for_another_network_is_refused(
    exported: Exported, shape: Sequence[int], rule: str, runtime: str
) -> None:
    file = OnnxNetwork(exported("unet")[1], runtime=runtime)
    with pytest.raises(ValueError, match=rule):
        file(torch.zeros(*shape))


def test_onnxruntime_refuses_a_size_that_the_network_would(exported: Exported) -> None:
    with pytest.raises(ValueError, match=r"of a shape that .* got \(1, 1, 9, 8, 4\)"):
        OnnxNetwork(exported("unet")[1])(torch.zeros(1, 1, 9, 8, 4))


def test_attention_is_not_made_up(exported: Exported) -> None:
    file = OnnxNetwork(exported("unet")[1])
    with pytest.raises(ValueError, match="must hold attention"):
        file(torch.zeros(1, 1, 8, 8, 4), with_attention=True)


def test_a_file_that_is_none(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match=r"model\.onnx: must be an exported network, got no such"):
        OnnxNetwork(path, runtime=runtime)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"model\.onnx: must be a readable ONNX file"):
        OnnxNetwork(path, runtime=runtime)
    other = nn.Linear(3, 2).eval()
    program = torch.onnx.export(other, (torch.zeros(1, 3),), dynamo=True, verbose=False)
    assert program is not None
    program.save(path)
    with pytest.raises(ValueError, match=r"must be a file that python -m bundles\.export wrote"):
        OnnxNetwork(path, runtime=runtime)


@pytest.mark.parametrize(
    ("package", "extra"), [("onnxruntime", "export"), ("openvino", "openvino")]
)
def test_a_missing_runtime_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, extra: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"got {package}, .*'\.\[{extra}\]'"):
        OnnxNetwork(tmp_path / "model.onnx", runtime=package)
    with pytest.raises(
        ValueError, match=r"got no onnx and onnxscript; pip install -e '\.\[export\]'"
    ):
        export_onnx(_unet().eval(), tmp_path / "a", image_shape=(2, 1, 8, 8, 4), metadata={})


def test_an_unknown_runtime(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of onnxruntime, openvino, got tensorrt"):
        OnnxNetwork(tmp_path / "model.onnx", runtime="tensorrt")


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        export_onnx(_unet(), tmp_path / "a", image_shape=(2, 1, 8, 8, 4), metadata={})
    with pytest.raises(ValueError, match=r"2 or more but for the channels, got \(1, 1, 8, 8, 4\)"):
        export_onnx(_unet().eval(), tmp_path / "a", image_shape=(1, 1, 8, 8, 4), metadata={})
    assert not list(tmp_path.iterdir())


def test_weights_are_known_by_their_numbers() -> None:
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}
    known = weights_sha256(weights)
    assert known == weights_sha256({"b": torch.tensor(3), "a": torch.arange(6.0).view(2, 3)})
    assert known != weights_sha256({**weights, "a": weights["a"].view(3, 2)})
    assert known != weights_sha256({**weights, "b": torch.tensor(4)})
    assert known != weights_sha256({"a": weights["a"], "c": weights["b"]})
    transposed = weights["a"].T.contiguous().T
    assert known == weights_sha256({**weights, "a": transposed})
