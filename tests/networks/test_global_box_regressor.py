from __future__ import annotations

import pytest
import torch

from networks import GlobalBoxRegressor, decode_boxes


def _network(spatial_dims: int) -> GlobalBoxRegressor:
    torch.manual_seed(0)
    return GlobalBoxRegressor(
        spatial_dims=spatial_dims,
        in_channels=1,
        channels=[4, 8],
        strides=[2, 2],
        blocks=[1],
        hidden_features=8,
    )


@pytest.mark.parametrize("shape", [(2, 1, 16, 12, 8), (3, 1, 9, 5)])
def test_one_cell_covers_the_whole_image(shape: tuple[int, ...]) -> None:
    dims = len(shape) - 2
    network = _network(dims).eval()
    outputs = network(torch.randn(shape))
    cell = (1,) * dims
    assert [m.shape for m in outputs["logits"]] == [(shape[0], 1, *cell)]
    assert [m.shape for m in outputs["offsets"]] == [(shape[0], dims, *cell)]
    assert [m.shape for m in outputs["log_sizes"]] == [(shape[0], dims, *cell)]


def test_a_box_by_hand() -> None:
    """Centre a quarter of the image right of the middle, half and a quarter as large."""
    network = _network(2).eval()
    last = network.regressor[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25])
    last.bias.data[3:].log_()
    outputs = network(torch.randn(1, 1, 40, 16))
    [(boxes, scores)] = decode_boxes(outputs, [(40, 16)], top_k=5, min_score=0.1)
    torch.testing.assert_close(boxes, torch.tensor([[20.0, 6.0, 40.0, 10.0]]))
    assert scores.tolist() == [0.5]


def test_every_weight_receives_a_gradient() -> None:
    network = _network(3)
    outputs = network(torch.randn(2, 1, 16, 16, 16))
    sum(level.square().sum() for maps in outputs.values() for level in maps).backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None and weight.grad.any(), name


def test_it_can_be_scripted() -> None:
    network = _network(3).eval()
    image = torch.randn(1, 1, 16, 12, 8)
    outputs = torch.jit.script(network)(image)
    for key, maps in network(image).items():
        torch.testing.assert_close(outputs[key], maps)
