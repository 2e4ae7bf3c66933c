from __future__ import annotations

import pytest
import torch

from networks import ResNetEncoder


def test_the_lectures_grid_for_a_whole_scan() -> None:
    """512x512x200 to 128x128x50, by shape alone."""
    with torch.device("meta"):
        encoder = ResNetEncoder(
            spatial_dims=3,
            in_channels=1,
            channels=[16, 16, 32],
            strides=[2, 1, 2],
            blocks=[1, 1],
        )
        features = encoder(torch.empty(1, 1, 512, 512, 200))
    assert features.shape == (1, 32, 128, 128, 50)


def test_strides_per_axis_and_sizes_that_do_not_divide() -> None:
    encoder = ResNetEncoder(
        spatial_dims=3,
        in_channels=2,
        channels=[4, 6],
        strides=[[2, 2, 1], 2],
        blocks=[2],
    )
    assert encoder(torch.zeros(1, 2, 9, 13, 7)).shape == (1, 6, 3, 4, 4)


def test_the_features_of_every_stage() -> None:
    encoder = ResNetEncoder(
        spatial_dims=3,
        in_channels=1,
        channels=[4, 6, 8],
        strides=[[2, 2, 1], 1, [4, 2, 2]],
        blocks=[1, 2],
    ).eval()
    image = torch.randn(2, 1, 13, 8, 6)
    fine, coarse = encoder.stage_features(image)
    assert encoder.stage_channels == [6, 8]
    assert encoder.stage_strides == [(2, 2, 1), (8, 4, 2)]
    assert fine.shape == (2, 6, 7, 4, 6) and coarse.shape == (2, 8, 2, 2, 3)
    torch.testing.assert_close(fine, encoder.stages[0](encoder.stem(image)))
    torch.testing.assert_close(coarse, encoder(image))


def test_two_dimensions() -> None:
    encoder = ResNetEncoder(
        spatial_dims=2, in_channels=1, channels=[4, 8], strides=[2, 2], blocks=[1]
    )
    assert encoder(torch.zeros(1, 1, 32, 20)).shape == (1, 8, 8, 5)


def test_lists_of_unlike_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry more than blocks, got 2, 3 and 1"):
        ResNetEncoder(spatial_dims=3, in_channels=1, channels=[4, 8], strides=[2, 2, 2], blocks=[1])
    with pytest.raises(ValueError, match=r"a stride must have 2 entries, got \[2, 2, 1\]"):
        ResNetEncoder(
            spatial_dims=2, in_channels=1, channels=[4, 8], strides=[[2, 2, 1], 2], blocks=[1]
        )
