from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.retina_net import SIZE_DIVISIBLE, retina_net


@pytest.fixture(scope="module")
def measured():
    torch.manual_seed(0)
    network = retina_net().eval()
    # The cost of a voxel is that of any image with these multiples.
    image = torch.rand(1, 1, *(2 * size for size in SIZE_DIVISIBLE))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        outputs = network(image)
    return network, image, outputs, counter.get_total_flops()


def test_size_and_cost_are_those_published(measured):
    network, image, _, flops = measured
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(
        20.9, abs=0.05
    )
    assert flops / 1e9 / (image.numel() / 1e6) == pytest.approx(1208, abs=0.5)


def test_three_anchors_a_cell_on_three_levels(measured):
    _, _, outputs, _ = measured
    grids = [(8, 8, 8), (4, 4, 4), (2, 2, 2)]  # strides (4, 4, 2), (8, 8, 4), (16, 16, 8)
    assert [level.shape for level in outputs["classification"]] == [(1, 3, *grid) for grid in grids]
    assert [level.shape for level in outputs["box_regression"]] == [
        (1, 3 * 6, *grid) for grid in grids
    ]
