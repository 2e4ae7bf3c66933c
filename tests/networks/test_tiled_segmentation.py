from __future__ import annotations

import itertools

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.data.meta_tensor import MetaTensor
from torch import nn

from networks import TiledSegmentation
from networks.receptive_field import receptive_field


class _Network(nn.Module):
    """A stem of stride 2, a level of stride 4 and two classes back on the input's grid."""

    def __init__(self, spatial_dims: int) -> None:
        super().__init__()
        dims = spatial_dims
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        up = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
        norm = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
        self.stem = nn.Sequential(conv(1, 3, 3, 2, 1), norm(3), nn.ReLU())
        self.down = nn.Sequential(conv(3, 4, 3, 2, 1), norm(4), nn.ReLU())
        self.up = up(4, 3, 2, 2)
        self.mix = nn.Sequential(conv(3, 3, 3, 1, 1), nn.ReLU())
        self.head = up(3, 2, 2, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        fine = self.stem(image)
        return self.head(self.mix(fine + self.up(self.down(fine))))


def _network(spatial_dims: int) -> nn.Module:
    torch.manual_seed(0)
    network = _Network(spatial_dims)
    network(torch.randn(2, 1, *(16,) * spatial_dims))
    return network.double().eval()


def _reach(network: nn.Module, spatial_dims: int) -> int:
    field = receptive_field(network, (1, 1, *(32,) * spatial_dims))
    return max(*field.left, *field.right)


def _tiled(spatial_dims: int, tile: int, margin: int, tile_batch: int = 2) -> TiledSegmentation:
    return TiledSegmentation(
        tile_shape=(tile,) * spatial_dims,
        stride=(4,) * spatial_dims,
        margin=(margin,) * spatial_dims,
        tile_batch=tile_batch,
    )


@pytest.mark.parametrize(
    "shape", [(96, 128), (61, 87), (30, 101), (7, 50), (40, 48, 44), (33, 50, 2)]
)
def test_equals_the_network_on_the_whole_scan(shape: tuple[int, ...]) -> None:
    dims = len(shape)
    network = _network(dims)
    scans = torch.randn(2, 1, *shape, dtype=torch.float64)
    # Only what is missing of the last cell may be padded.
    padded = nn.functional.pad(
        scans, [w for n in reversed(shape) for w in (0, -n % 4)], mode="replicate"
    )
    with torch.no_grad():
        expected = network(padded)[(..., *(slice(n) for n in shape))].float()
    reach = _reach(network, dims)
    for tile in (32, 40):
        found = _tiled(dims, tile, reach, tile_batch=5)(scans, network)["logits"]
        assert found.dtype == torch.float32 and found.shape == (2, 2, *shape)
        torch.testing.assert_close(found, expected)
    too_little = _tiled(dims, 16, 0)(scans, network)["logits"]
    assert not torch.allclose(too_little, expected, atol=1e-3)


def test_moves_with_the_grid() -> None:
    """What is shown 8 voxels further, as by another crop, is found there with the same logits."""
    network = _network(2)
    scan = torch.randn(1, 1, 90, 75, dtype=torch.float64)
    inferer = _tiled(2, 32, _reach(network, 2))
    whole = inferer(scan, network)["logits"]
    crop = inferer(scan[..., 8:, 16:], network)["logits"]
    edge = 12
    torch.testing.assert_close(crop[..., edge:, edge:], whole[..., 8 + edge :, 16 + edge :])


def test_each_voxel_is_of_the_tile_in_whose_core_it_lies() -> None:
    seen: list[float] = []

    def network(tiles: torch.Tensor) -> torch.Tensor:
        """Every tile's logits are its number."""
        numbers = torch.arange(len(seen), len(seen) + len(tiles))
        seen.extend(numbers.tolist())
        return numbers.double().reshape(-1, 1, 1, 1).expand(-1, 1, *tiles.shape[2:])

    found = _tiled(2, 16, 4)(torch.zeros(1, 1, 20, 10), network)["logits"]
    # Tiles from row 0 and 4 overlap from 4 to 16 and meet at row 10, rounded up to 12.
    assert found[0, 0, :12].eq(0).all() and found[0, 0, 12:].eq(1).all()


@pytest.mark.parametrize(
    ("columns", "tile_batch", "sizes"),
    [(80, 4, [2, 3]), (96, 4, [3, 3]), (64, 4, [4]), (16, 4, [1]), (48, 1, [1, 1, 1])],
)
def test_batches_are_even(columns: int, tile_batch: int, sizes: list[int]) -> None:
    got: list[int] = []

    def network(tiles: torch.Tensor) -> torch.Tensor:
        got.append(len(tiles))
        return tiles

    scan = torch.randn(1, 1, 16, columns)
    found = _tiled(2, 16, 0, tile_batch)(scan, network)
    assert got == sizes and torch.equal(found["logits"], scan)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("scans", [1, 3])
def test_the_affine_is_that_of_the_loaded_scans(dims: int, scans: int) -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([5.0, 6.0, 7.0])
    values = [torch.randn(1, *(9,) * dims) for _ in range(scans)]
    items = [{"image": MetaTensor(value, affine)} for value in values]
    [batch] = DataLoader(Dataset(items), batch_size=scans)
    kept = [*range(dims), 3]
    for image in (batch["image"], MetaTensor(torch.stack(values), affine)):
        found = _tiled(dims, 8, 0)(image, lambda tiles: tiles)
        assert type(found["affine"]) is type(found["logits"]) is torch.Tensor
        assert found["affine"].dtype == torch.float64
        assert torch.equal(found["affine"], affine[kept][:, kept])
        assert torch.equal(found["logits"], torch.stack(values))


def test_a_plain_tensor_has_the_identity_and_no_gradient_is_kept() -> None:
    found = _tiled(2, 16, 0)(torch.randn(1, 1, 20, 20, dtype=torch.float64), _network(2))
    assert torch.equal(found["affine"], torch.eye(3, dtype=torch.float64))
    assert not found["logits"].requires_grad


def test_a_network_of_half_precision_gives_float32() -> None:
    found = _tiled(2, 16, 0)(torch.ones(1, 1, 20, 20), lambda tiles: tiles.bfloat16())
    assert found["logits"].dtype == torch.float32 and found["logits"].eq(1).all()


def test_the_network_is_given_the_further_arguments() -> None:
    def network(tiles: torch.Tensor, times: float, *, plus: float) -> torch.Tensor:
        return tiles * times + plus

    found = _tiled(2, 16, 0)(torch.ones(1, 1, 20, 20), network, 3.0, plus=1.0)
    assert found["logits"].eq(4).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    scan = torch.zeros(1, 1, 40, 16)
    scan[..., 39, 3] = value
    with pytest.raises(
        ValueError, match=r"logits must be finite, got .* in the tile from voxel \(24, 0\)"
    ):
        _tiled(2, 16, 0)(scan, lambda tiles: tiles)


def test_what_breaks_a_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="tile_shape must be a multiple of the stride 4, got 30"):
        _tiled(2, 30, 0)
    with pytest.raises(ValueError, match="tile_batch must be 1 or more, got 0"):
        _tiled(2, 32, 0, tile_batch=0)
    with pytest.raises(ValueError, match=r"a scan must have 2 axes, got shape \(8, 8, 8\)"):
        _tiled(2, 32, 0)(torch.zeros(1, 1, 8, 8, 8), lambda tiles: tiles)
    with pytest.raises(ValueError, match=r"tile's grid of \(20, 20\) voxels, got \(10, 10\)"):
        _tiled(2, 32, 0)(torch.zeros(1, 1, 20, 20), lambda tiles: tiles[..., ::2, ::2])
    images = [MetaTensor(torch.zeros(1, 8, 8), step * torch.eye(4)) for step in (1, 2)]
    [batch] = DataLoader(Dataset(images), batch_size=2)
    with pytest.raises(ValueError, match="scans of a batch must have one grid, got several"):
        _tiled(2, 32, 0)(batch, lambda tiles: tiles)


def test_a_scan_smaller_than_a_cell() -> None:
    for shape in itertools.product((1, 3), repeat=3):
        found = _tiled(3, 16, 4)(torch.zeros(1, 1, *shape), _network(3).float())
        assert found["logits"].shape == (1, 2, *shape)
