from __future__ import annotations

import pytest
import torch

from networks import RiskClassifier

HEADS = {"attention": 2, "gated_attention": 2, "average": 1, "max": 1}
each_pooling = pytest.mark.parametrize("pooling", HEADS)
each_output = pytest.mark.parametrize("years", [None, 6])


def _network(
    spatial_dims: int, pooling: str = "attention", years: int | None = None
) -> RiskClassifier:
    torch.manual_seed(0)
    return RiskClassifier(
        spatial_dims=spatial_dims,
        in_channels=1,
        channels=[4, 8],
        strides=[2, 2],
        blocks=[1],
        heads=HEADS[pooling],
        hidden_features=8,
        pooling=pooling,
        years=years,
    )


@each_output
@each_pooling
@pytest.mark.parametrize(
    "shape", [(1, 1, 16, 12, 8), (2, 1, 16, 12, 8), (1, 1, 9, 5), (2, 1, 9, 5)]
)
def test_one_tensor_of_logits_unless_attention_is_asked_for(
    shape: tuple[int, ...], pooling: str, years: int | None
) -> None:
    network = _network(len(shape) - 2, pooling, years).eval()
    image = torch.randn(shape)
    logits = network(image)
    outputs = network(image, with_attention=True)
    assert logits.shape == (shape[0], years or 1)
    assert outputs["scores"].shape == (shape[0], HEADS[pooling], *(-(-n // 4) for n in shape[2:]))
    torch.testing.assert_close(outputs["logits"], logits)


@each_output
@each_pooling
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_weight_receives_a_gradient(
    spatial_dims: int, pooling: str, years: int | None
) -> None:
    network = _network(spatial_dims, pooling, years)
    network(torch.randn(2, 1, *(16,) * spatial_dims)).sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
        # The softmax does not see the bias of the plain scores.
        assert name == "pool.score.bias" or weight.grad.any(), name


@each_output
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("spatial", [(11, 7), (5, 3, 2)])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_class_activation_is_the_last_logit_of_each_cell_by_itself(
    pooling: str, spatial: tuple[int, ...], batch: int, years: int | None
) -> None:
    network = _network(len(spatial), pooling, years).eval()
    image = torch.randn(batch, 1, *(4 * n for n in spatial))
    scores = network(image, with_attention=True)["scores"]
    features = network.norm(network.encoder(image))
    for b in range(batch):
        for cell in torch.cartesian_prod(*(torch.arange(n) for n in spatial)).tolist():
            z = features[(b, slice(None), *cell)]
            torch.testing.assert_close(scores[(b, 0, *cell)], network.classifier(z[None])[0, -1])


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_constant_features_give_every_cell_the_logit_of_the_image(pooling: str) -> None:
    network = _network(3, pooling, years=3).eval()
    torch.nn.init.zeros_(network.norm.weight)
    torch.nn.init.normal_(network.norm.bias)
    outputs = network(torch.randn(2, 1, 8, 8, 8), with_attention=True)
    expected = outputs["logits"][:, -1].view(2, 1, 1, 1, 1).expand_as(outputs["scores"])
    torch.testing.assert_close(outputs["scores"], expected)


def test_class_activation_runs_in_chunks_and_only_when_asked_for() -> None:
    network = _network(2, "average").eval()
    rows: list[int] = []
    network.classifier.register_forward_hook(lambda _, inputs, output: rows.append(len(output)))
    image = torch.randn(2, 1, 1200, 1024)
    with torch.no_grad():
        network(image)
        assert rows == [2]
        scores = network(image, with_attention=True)["scores"]
        assert rows[2:] == [2 * 65_536, 2 * (300 * 256 - 65_536)]
        features = network.norm(network.encoder(image))
        whole = network.classifier(features.movedim(1, -1).flatten(0, 2))
    torch.testing.assert_close(scores, whole.view(2, 1, 300, 256))


def test_weights_from_before_there_were_poolings_still_fit() -> None:
    expected = ["pool.score.weight", "pool.score.bias"]
    expected += [f"classifier.{i}.{name}" for i in (1, 3) for name in ("weight", "bias")]
    keys = [key for key in _network(3).state_dict() if key.startswith(("pool", "classifier"))]
    assert keys == expected


@each_output
@each_pooling
def test_torchscript_gives_the_same_numbers(pooling: str, years: int | None) -> None:
    network = _network(3, pooling, years).eval()
    scripted = torch.jit.script(network)
    image = torch.randn(2, 1, 16, 12, 8)
    torch.testing.assert_close(scripted(image), network(image))
    torch.testing.assert_close(
        scripted(image, with_attention=True), network(image, with_attention=True)
    )


def test_unknown_pooling_is_refused() -> None:
    rule = "pooling must be attention, gated_attention, average or max, got mean"
    with pytest.raises(ValueError, match=rule):
        _refused(pooling="mean")


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_several_heads_without_attention_are_refused(pooling: str) -> None:
    with pytest.raises(ValueError, match=f"heads must be 1 with pooling {pooling}, got 4"):
        _refused(pooling=pooling, heads=4)


def _refused(*, pooling: str, heads: int = 1) -> None:
    RiskClassifier(
        spatial_dims=3,
        in_channels=1,
        channels=[4, 8],
        strides=[2, 2],
        blocks=[1],
        heads=heads,
        hidden_features=8,
        pooling=pooling,
    )
