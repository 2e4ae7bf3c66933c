"""MONAI's sliding windows in the place of our tiles, a peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers.inferer import Inferer

from benchmarks.spleen_bundle import sliding_windows
from networks import TiledSegmentation


class WindowSegmentation(Inferer):
    """Logits of a whole scan from windows that overlap by half, as the model zoo's spleen bundle
    has them, in the form of :class:`networks.TiledSegmentation`."""

    def __call__(
        self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        logits = sliding_windows()(inputs, network, *args, **kwargs)
        whole = TiledSegmentation(
            tile_shape=inputs.shape[2:], stride=(1, 1, 1), margin=(0, 0, 0), tile_batch=1
        )
        # The affine that goes with them, and the check of the logits, are those of our tiles.
        return whole(inputs, lambda _image: torch.as_tensor(logits))
