from __future__ import annotations

import pytest
import torch

from networks import PooledSegmenter
from networks.receptive_field import receptive_field


def _network(spatial_dims: int, *, out_channels: int = 1) -> PooledSegmenter:
    torch.manual_seed(0)
    return PooledSegmenter(
        spatial_dims=spatial_dims,
        in_channels=1,
        out_channels=out_channels,
        channels=[4, 4, 6],
        strides=[[2] * (spatial_dims - 1) + [1], 1, 2],
    ).eval()


@pytest.mark.parametrize(
    "shape", [(2, 1, 16, 12, 8), (1, 1, 9, 13, 7), (2, 1, 24, 16), (1, 1, 5, 9)]
)
def test_logits_have_the_images_grid_at_any_size(shape: tuple[int, ...]) -> None:
    logits = _network(len(shape) - 2, out_channels=3)(torch.randn(shape))
    assert logits.shape == (shape[0], 3, *shape[2:])


def test_voxels_lie_between_the_centres_of_the_cells() -> None:
    """A naive interpolation along the axes, one after the other."""
    network, image = _network(2), torch.randn(1, 1, 12, 7)
    cells = network.head(network.encoder(image))[0, 0].detach().double()
    assert cells.shape == (3, 4)
    for axis, stride in enumerate((4, 2)):
        lines = []
        for voxel in range(image.shape[2 + axis]):
            place = min(max((voxel + 0.5) / stride - 0.5, 0), cells.shape[axis] - 1)
            low = int(place)
            high = min(low + 1, cells.shape[axis] - 1)
            a, b = cells.select(axis, low), cells.select(axis, high)
            lines.append(a + (b - a) * (place - low))
        cells = torch.stack(lines, axis)
    torch.testing.assert_close(network(image)[0, 0].double(), cells, rtol=1e-4, atol=1e-5)


def test_a_larger_image_has_the_same_cells() -> None:
    """What lies beyond its own margin: 9 voxels are three cells of 4, and not of 3."""
    network, image = _network(2), torch.randn(1, 1, 128, 8)
    reach = max(receptive_field(network, (1, 1, 64, 64)).right)
    short, whole = network(image[:, :, :121]), network(image)
    assert 121 - reach > 40
    torch.testing.assert_close(short[:, :, : 121 - reach - 4], whole[:, :, : 121 - reach - 4])


def test_at_first_a_voxel_is_foreground_with_a_probability_of_one_in_a_hundred() -> None:
    probability = _network(3)(torch.randn(1, 1, 32, 32, 16)).detach().sigmoid()
    assert float(probability.mean()) == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_weight_receives_a_gradient(spatial_dims: int) -> None:
    network = _network(spatial_dims).train()
    network(torch.randn(2, 1, *(16,) * spatial_dims)).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.any(), name


def test_it_sees_its_encoders_field_and_the_neighbouring_cell() -> None:
    network = _network(3)
    shape = (1, 1, 32, 32, 32)
    field, encoder = receptive_field(network, shape), receptive_field(network.encoder, shape)
    assert field.divisor == encoder.divisor == (4, 4, 2) and set(field.stride) == {1}
    cell = network.encoder.stage_strides[-1]
    assert field.size == tuple(n + s for n, s in zip(encoder.size, cell, strict=True))
    assert not field.norm_sees_window


def test_a_scripted_network_gives_the_same_logits() -> None:
    network = _network(3)
    scripted = torch.jit.script(network)
    for shape in ((1, 1, 16, 12, 8), (2, 1, 9, 13, 7)):
        image = torch.randn(shape)
        torch.testing.assert_close(scripted(image), network(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "strides"), [([4, 4], [2, 2, 1]), ([4], [2])])
def test_lists_that_do_not_fit_are_refused(channels: list[int], strides: list[int]) -> None:
    message = f"two levels or more, got {len(channels)} and {len(strides)}"
    with pytest.raises(ValueError, match=message):
        PooledSegmenter(
            spatial_dims=3, in_channels=1, out_channels=1, channels=channels, strides=strides
        )
