from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from losses import DetectionLoss, RiskAttentionLoss, VoxelLoss
from networks import NoduleDetector, RiskClassifier, UNet, data_parallel
from networks.synced_batch_norm import sync_batch_norms

CPU = torch.device("cpu")
UNEVEN = (slice(0, 3), slice(3, 4))
PATIENTS = ["a", "b", "c", "d"]


def _risk() -> tuple[nn.Module, nn.Module, dict[str, Any], dict[str, Any]]:
    network = RiskClassifier(
        spatial_dims=3,
        in_channels=1,
        channels=[4, 4, 6],
        strides=[2, 1, 2],
        blocks=[1, 1],
        heads=2,
        hidden_features=4,
    )
    masks = torch.zeros(4, 1, 3, 3, 3)
    masks[1, :, 0], masks[2, :, 2] = 1, 1  # one of each rank's two samples
    targets = {
        "risk": torch.tensor([[0.0], [1.0], [1.0], [0.0]]),
        "risk_known": torch.ones(4, 1),
        "box_mask": masks,
        "side_mask": masks.flip(-1),
        "lost_boxes": torch.zeros(4),
    }
    loss = RiskAttentionLoss(lambda_box=0.5, lambda_side=0.1)
    return network, loss, targets, {"with_attention": True}


def _detector() -> tuple[nn.Module, nn.Module, dict[str, Any], dict[str, Any]]:
    network = NoduleDetector(
        spatial_dims=3,
        in_channels=1,
        channels=[4, 4, 6],
        strides=[1, 2, 2],
        blocks=[1, 1],
        levels=2,
        feature_channels=4,
    )
    # All of the first rank's: the second's share of the positive cells is none.
    boxes = torch.zeros(4, 2, 6)
    boxes[0] = torch.tensor([[1.0, 1, 1, 5, 6, 7], [6, 6, 6, 10, 10, 9]])
    boxes[1, 0] = torch.tensor([2.0, 2, 3, 8, 9, 9])
    targets = {"boxes_voxel": boxes, "box_count": torch.tensor([2, 1, 0, 0])}
    return network, DetectionLoss(network.level_strides, over_ranks=True), targets, {}


def _segmenter() -> tuple[nn.Module, nn.Module, dict[str, Any], dict[str, Any]]:
    network = UNet(spatial_dims=3, in_channels=1, out_channels=1, channels=[4, 6], strides=[1, 2])
    targets = {"mask": (torch.rand(4, 1, 12, 12, 12) > 0.8).long()}
    return network, VoxelLoss(nn.BCEWithLogitsLoss()), targets, {}


CASES = {case.__name__: case for case in (_risk, _detector, _segmenter)}


def _step(name: str, samples: slice) -> dict[str, torch.Tensor]:
    """The loss, the gradients and what the norms have kept, in double precision."""
    torch.manual_seed(0)
    network, loss, targets, asked = CASES[name]()
    network.double()
    images = torch.rand(4, 1, 12, 12, 12, dtype=torch.float64)
    own = {key: value[samples] for key, value in {**targets, "patient_id": PATIENTS}.items()}
    of_all = data_parallel(network, CPU)
    value = loss(of_all(images[samples], **asked), own)
    value.backward()
    gradients = {key: part.grad for key, part in network.named_parameters()}
    return {"loss": value.detach(), **gradients, **dict(network.named_buffers())}


def _norm(samples: slice) -> dict[str, torch.Tensor]:
    """A norm's output of its own samples and the gradient of all outputs to them."""
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(2)
    nn.init.uniform_(norm.weight)
    network = nn.Sequential(norm).double()
    sync_batch_norms(network)
    images = (5 + torch.rand(4, 2, 3, 5, dtype=torch.float64))[samples].requires_grad_()
    output = network(images)
    output.pow(3).sum().backward()
    assert images.grad is not None
    return {"output": output.detach(), "gradient": images.grad, **network.state_dict()}


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    halves = (slice(0, 2), slice(2, 4))
    steps = {name: _step(name, halves[rank]) for name in CASES}
    steps["norm"] = _norm(UNEVEN[rank])
    torch.save(steps, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_ranks(
    at_once: Callable[..., list[int | None]], tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, dict[str, torch.Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    assert at_once(_rank, [(rank, str(folder)) for rank in range(2)]) == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_step_as_one_process_with_all_samples(name: str, of_ranks: list[Any]) -> None:
    first, second = (rank[name] for rank in of_ranks)
    expected = _step(name, slice(0, 4))
    assert first["loss"] != second["loss"]
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, expected.pop("loss"))
    assert list(expected) == list(first)[1:]
    for key, value in expected.items():
        torch.testing.assert_close(first[key], value, rtol=1e-9, atol=1e-12, msg=key)
        torch.testing.assert_close(second[key], first[key], rtol=0, atol=0, msg=key)


def test_ranks_may_have_batches_of_different_sizes(of_ranks: list[Any]) -> None:
    expected = _norm(slice(0, 4))
    for rank, samples in zip(of_ranks, UNEVEN, strict=True):
        for name, value in rank["norm"].items():
            whole = expected[name]
            own = whole[samples] if name in ("output", "gradient") else whole
            torch.testing.assert_close(value, own, rtol=1e-9, atol=1e-12, msg=name)


def test_a_network_keeps_its_state_and_its_parameters() -> None:
    network = _segmenter()[0]
    before, parameters = network.state_dict(), list(network.parameters())
    sync_batch_norms(network)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(value.data_ptr() == after[name].data_ptr() for name, value in before.items())
    assert all(new is old for new, old in zip(network.parameters(), parameters, strict=True))
    assert not any(type(module) is nn.BatchNorm3d for module in network.modules())


def test_one_rank_trains_the_network_itself() -> None:
    network = nn.BatchNorm3d(2)
    assert data_parallel(network, CPU) is network
