"""Risk over several years, of people followed for different times."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


def yearly_risk_loss(logits: torch.Tensor, risk: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy on cumulative yearly logits, over the years that are known.

    A year that a person was not followed for adds nothing, whatever its entries hold. The sum is
    divided by all ``B * Y`` entries, not by the known ones, so that the loss of a batch is the
    mean of the losses of its parts, on one device or on many, and that each scan's share does not
    hang on how long the others were followed. With one year, all known, it is plain cross entropy.

    Args:
        logits: ``(B, Y)``, that the cancer is found within year 1 ... Y.
        risk: ``(B, Y)``, 1 where it was, else 0.
        known: ``(B, Y)``, above zero where ``risk`` is known.

    Returns:
        Scalar in nats, float32 or wider.

    Raises:
        ValueError: if the shapes differ.
    """
    if not logits.shape == risk.shape == known.shape:
        raise ValueError(
            f"logits, risk and known must have one shape, got {tuple(logits.shape)}, "
            f"{tuple(risk.shape)} and {tuple(known.shape)}"
        )
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    is_known = known > 0
    # Replaced, not multiplied by zero: a NaN would survive that.
    zero = wide.new_zeros(())
    entries = binary_cross_entropy_with_logits(
        torch.where(is_known, wide, zero),
        torch.where(is_known, risk.to(wide.dtype), zero),
        reduction="none",
    )
    return torch.where(is_known, entries, zero).mean()
