"""Risk and attention in one loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from losses.attention_loss import AttentionLoss


class RiskAttentionLoss(nn.Module):
    """``L_risk + lambda_box * L_box + lambda_side * L_side``.

    ``L_risk`` is the binary cross entropy of the logit; ``L_box`` asks head 0 to look at the
    radiologists' boxes, and ``L_side`` asks head 1 to look at the lung that is known to carry
    the cancer. A head whose weight is zero is left free.

    Args:
        lambda_box: weight of the box term, 0 or more.
        lambda_side: weight of the side term, 0 or more.

    Shape:
        outputs: ``{"logits": (B, 1), "scores": (B, heads, *feature)}``.
        targets: ``{"risk": (B, 1), "box_mask": (B, 1, *feature), "side_mask": the same}``.
    """

    def __init__(self, lambda_box: float, lambda_side: float) -> None:
        super().__init__()
        if lambda_box < 0 or lambda_side < 0:
            raise ValueError(
                f"lambda_box and lambda_side must be 0 or more, got {lambda_box} and {lambda_side}"
            )
        self.lambda_box = lambda_box
        self.lambda_side = lambda_side
        self.box_loss = AttentionLoss(head=0)
        self.side_loss = AttentionLoss(head=1)

    def terms(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Each term before its weight, and their weighted sum as ``loss``: batch means."""
        logits, scores = outputs["logits"].float(), outputs["scores"]
        risk = binary_cross_entropy_with_logits(logits, targets["risk"].float())
        box = self.box_loss(scores, targets["box_mask"])
        side = self.side_loss(scores, targets["side_mask"])
        loss = risk
        # Not `0 * box`: a term that is switched off must not cost a backward pass.
        if self.lambda_box > 0:
            loss = loss + self.lambda_box * box
        if self.lambda_side > 0:
            loss = loss + self.lambda_side * side
        return {"loss": loss, "risk_loss": risk, "box_loss": box, "side_loss": side}

    def forward(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return self.terms(outputs, targets)["loss"]
