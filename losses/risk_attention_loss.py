"""Risk and attention in one loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from losses.attention_loss import AttentionLoss
from losses.yearly_risk_loss import yearly_risk_loss

BOX_HEAD, SIDE_HEAD = 0, 1


class RiskAttentionLoss(nn.Module):
    """``L_risk + lambda_box * L_box + lambda_side * L_side``.

    ``L_risk`` is `yearly_risk_loss`; ``L_box`` asks head 0 to look at the radiologists' boxes, and
    ``L_side`` asks head 1 to look at the lung that is known to carry the cancer. A head whose
    weight is zero is left free. A scan without a mask adds nothing to a term; one whose boxes a
    crop has all lost falls back to its side mask for the box term.

    Args:
        lambda_box: weight of the box term, 0 or more.
        lambda_side: weight of the side term, 0 or more; above 0 needs a network with two heads.
        per_lesion: whether the box term asks for every lesion or for any part of their union.

    Shape:
        outputs: ``{"logits": (B, Y), "scores": (B, heads, *feature)}``.
        targets: ``{"risk": (B, Y), "risk_known": (B, Y), "box_mask": (B, L, *feature),
        "lost_boxes": (B,)}`` and, for organs with two sides, ``"side_mask": (B, 1, *feature)``.
    """

    def __init__(self, lambda_box: float, lambda_side: float, *, per_lesion: bool = False) -> None:
        super().__init__()
        # Written so that a NaN fails too.
        if not (lambda_box >= 0 and lambda_side >= 0):
            raise ValueError(
                f"lambda_box and lambda_side must be 0 or more, got {lambda_box} and {lambda_side}"
            )
        self.lambda_box = lambda_box
        self.lambda_side = lambda_side
        self.box_loss = AttentionLoss(head=BOX_HEAD, per_lesion=per_lesion)
        self.side_loss = AttentionLoss(head=SIDE_HEAD)

    def terms(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Each term before its weight, their weighted sum as ``loss``, and what they supervised.

        All are batch means. ``box_share`` and ``side_share`` are the share of the scans that the
        term supervised, ``fallback_share`` of those that the box term supervised by their side.
        The side term and its share are left out where there is no side mask or no second head.
        """
        scores = outputs["scores"]
        boxes, fell_back = _with_fallback(targets)
        terms = {
            "risk_loss": yearly_risk_loss(
                outputs["logits"], targets["risk"], targets["risk_known"]
            ),
            "box_loss": self.box_loss(scores, boxes),
            "box_share": _is_marked(boxes).float().mean(),
            "fallback_share": fell_back.float().mean(),
        }
        loss = terms["risk_loss"]
        # Not `0 * box`: a term that is switched off must not cost a backward pass.
        if self.lambda_box > 0:
            loss = loss + self.lambda_box * terms["box_loss"]
        side = targets.get("side_mask")
        if side is not None and scores.shape[1] > SIDE_HEAD:
            terms["side_loss"] = self.side_loss(scores, side)
            terms["side_share"] = _is_marked(side).float().mean()
        elif self.lambda_side > 0:
            raise ValueError(
                f"lambda_side must be 0 without a second head or a side mask, got "
                f"{self.lambda_side} with {scores.shape[1]} heads and targets {list(targets)}"
            )
        if self.lambda_side > 0:
            loss = loss + self.lambda_side * terms["side_loss"]
        _check_finite(loss, outputs, targets)
        return {"loss": loss, **terms}

    def forward(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return self.terms(outputs, targets)["loss"]


def _check_finite(
    loss: torch.Tensor,
    outputs: Mapping[str, torch.Tensor],
    targets: Mapping[str, torch.Tensor],
) -> None:
    if bool(loss.isfinite()):
        return
    finite = torch.stack(
        [outputs[name].flatten(1).isfinite().all(dim=1) for name in ("logits", "scores")]
    ).all(dim=0)
    patients = targets.get("patient_id", range(len(finite)))
    wrong = [patient for patient, is_finite in zip(patients, finite, strict=True) if not is_finite]
    raise ValueError(f"the loss must be finite, got {loss.item()} with scans {wrong or patients}")


def _with_fallback(targets: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The box masks, the side's in place of boxes that a crop lost, and ``(B,)`` where it is."""
    boxes, side = targets["box_mask"], targets.get("side_mask")
    fell_back = (targets["lost_boxes"] > 0) & ~_is_marked(boxes)
    if side is None:
        return boxes, torch.zeros_like(fell_back)
    fell_back &= _is_marked(side)
    if not fell_back.any():
        return boxes, fell_back
    boxes = boxes.clone()
    boxes[fell_back, 0] = side[fell_back, 0].to(boxes.dtype)
    return boxes, fell_back


def _is_marked(masks: torch.Tensor) -> torch.Tensor:
    return masks.flatten(1).amax(dim=1) > 0
