"""``python -m benchmarks.attention_loss``: the attention loss against its textbook form.

On the feature grid of a 512 x 512 x 200 scan, 128 x 128 x 50 cells: the error against float64, the
gradient where a wrong cell is far ahead, and the time forward and backward.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from benchmarks.report import Row, interleaved_cpu_s, write_report
from losses import attention_loss, lesion_attention_loss

GRID = (128, 128, 50)
AHEAD = 120.0
ROUNDS = 200
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def naive_loss(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``-log((softmax(scores) * A).sum())`` for each sample, as the formula reads."""
    weights = scores.flatten(1).softmax(dim=1)
    return -(weights * mask.flatten(1)).sum(dim=1).log()


def widened_naive_loss(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The naive form on scores brought to float32 first."""
    return naive_loss(scores.float(), mask)


def naive_lesion_loss(scores: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The mean of the naive form over the lesions ``(B, L, *spatial)``, its floor left in."""
    weights = scores.flatten(1).softmax(dim=1)[:, None]
    return -(weights * masks.flatten(2)).sum(dim=2).log().mean(dim=1)


def loss_with_epsilon(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The naive form with ``1e-8`` inside the logarithm against infinity."""
    weights = scores.flatten(1).softmax(dim=1)
    return -((weights * mask.flatten(1)).sum(dim=1) + 1e-8).log()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attention_loss", description=__doc__
    )
    parser.parse_args()
    torch.set_num_threads(1)
    naive_far = far_ahead(naive_loss)
    rows = [
        *error_rows(),
        Row(
            f"Error of the gradient, a wrong cell {AHEAD:g} logits ahead, peer log(p + 1e-8)",
            abs(far_ahead(attention_loss)[1] + 1),
            abs(far_ahead(loss_with_epsilon)[1] + 1),
            "of 1",
        ),
        *time_rows(),
    ]
    cells = " x ".join(map(str, GRID))
    write_report(
        "attention_loss",
        rows,
        notes=(
            f"Scores of {cells} cells, normal with a deviation of 3; a lesion of 4 x 3 x 2 cells, "
            "as a uint8 mask. Error is against the same scores in float64.",
            "The peer is -log((softmax(scores) * A).sum()), all in the scores' type unless said.",
            f"Where a wrong cell is {AHEAD:g} logits ahead, that form gives a loss of "
            f"{naive_far[0]:g} and a gradient of {naive_far[1]:g}.",
            f"Times are CPU seconds of one thread, medians of {ROUNDS} in turns. With three "
            "lesions the peer is the mean of the naive form over them.",
        ),
    )


def error_rows() -> list[Row]:
    mask = lesion_mask()
    rows = []
    for name, dtype in _DTYPES.items():
        scores = random_scores(dtype)
        exact = naive_loss(scores.double(), mask)
        ours, peer = (
            abs(float(loss(scores, mask).double() - exact)) for loss in (attention_loss, naive_loss)
        )
        rows.append(Row(f"Error, {name} scores", ours, peer, "nats"))
    return rows


def time_rows() -> list[Row]:
    mask = lesion_mask()
    rows = [
        timed(f"{name} scores", attention_loss, naive_loss, mask, dtype)
        for name, dtype in _DTYPES.items()
    ]
    for name in ("bfloat16", "float16"):
        what = f"{name} scores, peer in float32"
        rows.append(timed(what, attention_loss, widened_naive_loss, mask, _DTYPES[name]))
    masks = torch.stack([mask.roll(20 * k, dims=1) for k in range(3)], dim=1)
    what = "three lesions each for itself"
    rows.append(timed(what, lesion_attention_loss, naive_lesion_loss, masks, torch.float32))
    return rows


def timed(what: str, ours: Loss, peer: Loss, mask: torch.Tensor, dtype: torch.dtype) -> Row:
    scores = random_scores(dtype)
    times = interleaved_cpu_s(step(ours, scores, mask), step(peer, scores, mask), rounds=ROUNDS)
    return Row(f"Forward and backward, {what}", *times, "s")


def step(loss: Loss, scores: torch.Tensor, mask: torch.Tensor) -> Callable[[], object]:
    """One forward and backward pass, with a gradient to the scores."""

    def call() -> None:
        leaf = scores.detach().requires_grad_()
        loss(leaf, mask).sum().backward()

    return call


def far_ahead(loss: Loss) -> tuple[float, float]:
    """Loss, and gradient at the lesion's only cell (exactly -1), where another is far ahead."""
    scores, mask = torch.zeros(1, *GRID), torch.zeros(1, *GRID)
    scores[0, 0, 0, 0] = AHEAD
    mask[0, 64, 64, 25] = 1
    scores.requires_grad_()
    value = loss(scores, mask)
    (gradient,) = torch.autograd.grad(value.sum(), scores)
    return float(value.detach()), float(gradient[0, 64, 64, 25])


def random_scores(dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(1, *GRID, generator=generator)).to(dtype)


def lesion_mask() -> torch.Tensor:
    mask = torch.zeros(1, *GRID, dtype=torch.uint8)
    mask[:, 60:64, 40:43, 20:22] = 1
    return mask


if __name__ == "__main__":
    main()
