from __future__ import annotations

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from torch import nn

from networks import GlobalBoxRegressor, NoduleDetector, TiledDetection, decode_boxes
from networks.box_ops import nms
from networks.receptive_field import receptive_field


def _detector(spatial_dims: int) -> NoduleDetector:
    """Of two levels with strides 2 and 4, in float64, as different from cell to cell as can be."""
    torch.manual_seed(0)
    network = NoduleDetector(
        spatial_dims=spatial_dims,
        in_channels=1,
        channels=[3, 4, 4],
        strides=[1, 2, 2],
        blocks=[1, 1],
        levels=2,
        feature_channels=4,
    )
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(2, 1, *(32,) * spatial_dims))
        for head in network.heads:
            output = list(head.children())[-1]
            nn.init.normal_(output.get_parameter("weight"), std=0.7)
            nn.init.constant_(output.get_parameter("bias")[:1], -2.0)
    return network.double().eval()


class _Level(nn.Module):
    def __init__(self, network: NoduleDetector, level: int) -> None:
        super().__init__()
        self.network, self.level = network, level

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image)["logits"][self.level]


def _reach(network: NoduleDetector, spatial_dims: int) -> int:
    fields = [receptive_field(_Level(network, i), (1, 1, *(32,) * spatial_dims)) for i in range(2)]
    return max(max(*field.left, *field.right) for field in fields)


def _tiled(spatial_dims: int, tile: int, margin: int, **changes) -> TiledDetection:
    settings = {"top_k": 300, "min_score": 0.2, "iou_threshold": 0.3, "max_boxes": 100}
    return TiledDetection(
        tile_shape=(tile,) * spatial_dims,
        stride=(4,) * spatial_dims,
        margin=(margin,) * spatial_dims,
        **(settings | changes),
    )


def _in_one_piece(
    network: NoduleDetector, image: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes and scores of one scan whose size divides, by way of the whole scan's maps."""
    [(boxes, scores)] = decode_boxes(
        network(image), network.level_strides, top_k=300, min_score=0.2
    )
    dims = image.dim() - 2
    centre = (boxes[:, :dims] + boxes[:, dims:]) / 2
    inside = ((centre >= 0) & (centre < torch.tensor(image.shape[2:]))).all(1)
    kept = nms(boxes[inside], scores[inside], 0.3, 100)
    return boxes[inside][kept], scores[inside][kept]


@pytest.mark.parametrize(("shape", "tiles"), [((96, 128), (64, 72, 80)), ((64, 60, 56), (52, 56))])
def test_wherever_the_tiles_lie_the_marks_are_those_of_the_whole_scan(
    shape: tuple[int, ...], tiles: tuple[int, ...]
) -> None:
    dims = len(shape)
    network = _detector(dims)
    image = torch.randn(1, 1, *shape, dtype=torch.float64)
    expected, scores = _in_one_piece(network, image)
    assert len(scores) > 30
    reach = _reach(network, dims)
    for tile in tiles:
        inferer = _tiled(dims, tile, reach, tile_batch=3)
        found = inferer(image, network)
        torch.testing.assert_close(found["scores"], [scores])
        torch.testing.assert_close(found["boxes"], [expected], rtol=1e-5, atol=1e-4)
    too_little = _tiled(dims, 32, 0)(image, network)
    assert too_little["scores"][0].tolist() != scores.tolist()


@pytest.mark.parametrize("shape", [(61, 87), (30, 101), (41, 53, 47)])
def test_a_scan_that_does_not_divide_is_padded_to_the_stride_alone(shape: tuple[int, ...]) -> None:
    dims = len(shape)
    network = _detector(dims)
    image = torch.randn(1, 1, *shape, dtype=torch.float64)
    widths = [w for n in reversed(shape) for w in (0, -n % 4)]
    padded = nn.functional.pad(image, widths, mode="replicate")
    seen: list[torch.Tensor] = []

    def watched(tiles: torch.Tensor) -> dict:
        seen.append(tiles)
        return network(tiles)

    whole = _tiled(dims, 104, 0)(image, watched)
    assert len(seen) == 1 and torch.equal(seen[0], padded)
    tiled = _tiled(dims, 48, 20)(image, network)
    assert _reach(network, dims) <= 20 and len(whole["scores"][0]) > 10
    torch.testing.assert_close(tiled["boxes"], whole["boxes"], rtol=1e-5, atol=1e-4)
    low, high = whole["boxes"][0].chunk(2, dim=1)
    assert ((low + high) / 2 < torch.tensor(shape)).all()


def test_a_scan_smaller_than_a_cell() -> None:
    found = _tiled(3, 16, 4, min_score=0.0)(torch.zeros(1, 1, 1, 2, 3), _detector(3).float())
    assert found["boxes"][0].shape[1] == 6


def test_a_batch_is_its_scans_one_by_one() -> None:
    network = _detector(2)
    images = torch.randn(3, 1, 61, 40, dtype=torch.float64)
    images[1] = 0
    for tile_batch in (1, 4):
        together = _tiled(2, 32, 8, tile_batch=tile_batch)(images, network)
        for index, image in enumerate(images):
            alone = _tiled(2, 32, 8)(image[None], network)
            torch.testing.assert_close(together["boxes"][index], alone["boxes"][0])
            torch.testing.assert_close(together["scores"][index], alone["scores"][0])


def test_no_mark_above_the_least_score() -> None:
    found = _tiled(3, 16, 0, min_score=0.999)(torch.zeros(2, 1, 24, 20, 9), _detector(3).float())
    assert [tuple(b.shape) for b in found["boxes"]] == [(0, 6), (0, 6)]
    assert [tuple(s.shape) for s in found["scores"]] == [(0,), (0,)]


def test_the_limits_hold_for_the_scan_and_not_for_each_tile() -> None:
    network = _detector(2)
    image = torch.randn(1, 1, 96, 96, dtype=torch.float64)
    every = _tiled(2, 48, 20, top_k=10_000, iou_threshold=1.0, max_boxes=10_000)(image, network)
    best = _tiled(2, 48, 20, top_k=12, iou_threshold=1.0)(image, network)
    # Of twelve cells, those whose box has its centre in the scan.
    assert 6 <= len(best["boxes"][0]) <= 12
    torch.testing.assert_close(best["boxes"][0], every["boxes"][0][: len(best["boxes"][0])])
    three = _tiled(2, 48, 20, max_boxes=3)(image, network)
    assert len(three["boxes"][0]) == len(three["scores"][0]) == 3
    assert (three["scores"][0].diff() <= 0).all()


def test_equal_scores_keep_one_order() -> None:
    """A flat image has the same score and box in all cells, which overlap their neighbours."""

    def network(tiles: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        cells = torch.zeros(len(tiles), 2, 4, 4)
        return {"logits": [cells[:, :1]], "offsets": [cells], "log_sizes": [cells + 0.5]}

    inferer = _tiled(2, 16, 4, top_k=1000, iou_threshold=0.05)
    found = [inferer(torch.zeros(1, 1, 28, 28), network) for _ in range(2)]
    assert torch.equal(found[0]["boxes"][0], found[1]["boxes"][0])
    centre = found[0]["boxes"][0].unflatten(1, (2, 2)).mean(1)
    assert len(centre) == 16
    torch.testing.assert_close(centre[0], torch.tensor([2.0, 2.0]))


def test_one_box_per_tile_of_the_regressor_of_one_box() -> None:
    torch.manual_seed(0)
    network = GlobalBoxRegressor(
        spatial_dims=2,
        in_channels=1,
        channels=[3, 4],
        strides=[2, 2],
        blocks=[1],
        hidden_features=4,
    ).eval()
    with torch.no_grad():
        for weight in network.regressor.parameters():
            weight.mul_(0.3)
    image = torch.randn(1, 1, 36, 20)
    found = _tiled(2, 16, 4, min_score=0.0, iou_threshold=1.0)(image, network)
    expected = []
    for row in (0, 8, 16, 20):
        for column in (0, 4):
            outputs = network(image[..., row : row + 16, column : column + 16])
            [(boxes, _)] = decode_boxes(outputs, [(16, 16)], top_k=1, min_score=0.0)
            expected.append(boxes[0] + torch.tensor([row, column] * 2))
    got = found["boxes"][0]
    order = torch.stack(expected)
    torch.testing.assert_close(got[got[:, 0].argsort()], order[order[:, 0].argsort()])


def test_metadata_stays_outside_and_no_gradient_is_kept() -> None:
    network = _detector(2)
    image = MetaTensor(torch.randn(1, 1, 40, 40, dtype=torch.float64))
    found = _tiled(2, 32, 8)(image, network)
    plain = _tiled(2, 32, 8)(image.as_tensor(), network)
    assert type(found["boxes"][0]) is torch.Tensor and not found["boxes"][0].requires_grad
    assert torch.equal(found["boxes"][0], plain["boxes"][0])


def test_what_breaks_a_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="tile_shape must be a multiple of the stride 4, got 30"):
        _tiled(2, 30, 0)
    with pytest.raises(ValueError, match="tile_batch must be 1 or more, got 0"):
        _tiled(2, 32, 0, tile_batch=0)
    with pytest.raises(ValueError, match="top_k must be 1 or more, got 0"):
        _tiled(2, 32, 0, top_k=0)
    with pytest.raises(ValueError, match="iou_threshold must lie between 0 and 1, got 2"):
        _tiled(2, 32, 0, iou_threshold=2)
    with pytest.raises(ValueError, match=r"a scan must have 2 axes, got shape \(8, 8, 8\)"):
        _tiled(2, 32, 0)(torch.zeros(1, 1, 8, 8, 8), _detector(3))

    def uneven(tiles: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        cells = torch.zeros(len(tiles), 2, 5, 5)
        return {"logits": [cells[:, :1]], "offsets": [cells], "log_sizes": [cells]}

    with pytest.raises(
        ValueError, match=r"must divide the tile of \[32, 32\] voxels, got \[5, 5\]"
    ):
        _tiled(2, 32, 0)(torch.zeros(1, 1, 64, 64), uneven)
