"""Which weights a file holds, however it was written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch


def weights_sha256(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of a state dict's names, types, shapes and numbers, in hexadecimal digits.

    Two checkpoints with the same weights differ as files: in the optimiser beside them, say.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
