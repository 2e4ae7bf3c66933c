"""Batches split into input and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import PrepareBatch


class PrepareTargets(PrepareBatch):
    """Splits a batch into the network's input and the named targets, on the engine's device.

    Args:
        target_keys: keys of the targets; empty for inference.
        with_attention: whether the network is asked for its attention scores too; False for
            networks that know no such argument.

    Returns of a call:
        ``(image, targets, (), {"with_attention": True} or {})``. ``image`` stays a MetaTensor;
        targets are plain tensors, since their geometry is the feature grid's and no one reads it
        from there. ``risk`` and ``risk_known`` are float ``(B, Y)``, one year or more; lists such
        as ``patient_id`` pass unchanged.

    Raises:
        ValueError: the batch lacks the image or a target.
    """

    def __init__(self, target_keys: Sequence[str], with_attention: bool = True) -> None:
        if isinstance(target_keys, str):
            raise ValueError(f"target_keys must be a list of keys, got the string {target_keys!r}")
        self.target_keys = tuple(target_keys)
        self.with_attention = with_attention

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, Any], tuple[()], dict[str, bool]]:
        missing = [key for key in ("image", *self.target_keys) if key not in batchdata]
        if missing:
            raise ValueError(
                f"the batch must hold {', '.join(missing)}, got only {', '.join(batchdata)}"
            )

        def moved(value: torch.Tensor) -> torch.Tensor:
            return value.to(device=device, non_blocking=non_blocking, **kwargs)

        targets: dict[str, Any] = {}
        for key in self.target_keys:
            value = batchdata[key]
            if isinstance(value, MetaTensor):
                value = value.as_tensor()
            targets[key] = moved(value) if isinstance(value, torch.Tensor) else value
        for key in {"risk", "risk_known"} & targets.keys():
            yearly = torch.as_tensor(targets[key], dtype=torch.float32)
            targets[key] = moved(yearly).reshape(len(yearly), -1)
        asked = {"with_attention": True} if self.with_attention else {}
        return moved(batchdata["image"]), targets, (), asked
