"""Logits that the place alone gives, on whatever grid a network's input has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers.inferer import Inferer
from scipy.ndimage import binary_erosion

from benchmarks.wall_and_cpu import wall_and_cpu_s
from transforms.segment_lungs import segment_lungs

_STEEPNESS = 4.0
_REACH = 3.0  # radii; beyond it a sphere adds less than 0.4 % of what it adds on its surface


class LogitField(NamedTuple):
    """Smooth logits in world mm, above 0 in spheres, about 4 in their middle and -4 far away.

    Attributes:
        centres_mm: of each sphere in RAS mm.
        radii_mm: of each sphere.
    """

    centres_mm: tuple[tuple[float, float, float], ...]
    radii_mm: tuple[float, ...]

    def on_grid(self, shape: Sequence[int], affine: np.ndarray) -> torch.Tensor:
        """Float32 ``shape`` at the voxel centres of a grid with a 4x4 affine to RAS mm."""
        logits = np.full(tuple(shape), -_STEEPNESS, np.float32)
        to_voxel = np.linalg.inv(affine)
        for centre_mm, radius_mm in zip(self.centres_mm, self.radii_mm, strict=True):
            centre = (to_voxel @ [*centre_mm, 1.0])[:3]
            # A ball of 1 mm reaches this many voxels along each axis, whatever the grid's turn.
            reach = _REACH * radius_mm * np.linalg.norm(to_voxel[:3, :3], axis=1)
            start = np.ceil(centre - reach).clip(0, shape).astype(int)
            stop = (np.floor(centre + reach) + 1).clip(0, shape).astype(int)
            near = tuple(map(slice, start.tolist(), stop.tolist()))
            away_mm = np.moveaxis(np.mgrid[near], 0, -1) - centre
            away_mm = away_mm @ affine[:3, :3].T
            squared_radii = (away_mm**2).sum(axis=-1) / radius_mm**2
            # A Gaussian that is 1 on the surface, 2 in the middle.
            gaussian = 2 ** (1 - squared_radii)
            logits[near] += _STEEPNESS * np.where(squared_radii < _REACH**2, gaussian, 0)
        return torch.from_numpy(logits)


class FieldInferer(Inferer):
    """Gives an engine a field's logits where a network's would come from.

    Args:
        field: the logits.
        as_prediction: the logits ``(H, W, D)`` and the engine's input ``(1, C, H, W, D)`` to what
            the engine takes for a prediction.

    Attributes:
        seconds: wall and CPU seconds that the field has taken, no part of a measurement.
    """

    def __init__(
        self, field: LogitField, as_prediction: Callable[[torch.Tensor, MetaTensor], Any]
    ) -> None:
        super().__init__()
        self.field = field
        self.as_prediction = as_prediction
        self.seconds = np.zeros(2)

    def __call__(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(inputs, MetaTensor) or len(inputs) != 1:
            raise ValueError(
                f"the input must be a MetaTensor of one scan, got {type(inputs).__name__} of "
                f"shape {tuple(inputs.shape)}"
            )
        start = wall_and_cpu_s()
        affine = inputs.affine.reshape(4, 4).cpu().double().numpy()
        prediction = self.as_prediction(self.field.on_grid(inputs.shape[2:], affine), inputs)
        self.seconds += wall_and_cpu_s() - start
        return prediction


def spheres_in_lungs(scan: MetaTensor, diameters_mm: Sequence[float]) -> LogitField:
    """Spheres of these diameters spread over the lungs of a CT ``(1, H, W, D)`` in HU.

    Raises:
        ValueError: no lungs are found.
    """
    lungs = segment_lungs(scan)
    inner = np.argwhere(binary_erosion(lungs.as_tensor()[0].numpy() > 0, iterations=2))
    if len(inner) < len(diameters_mm):
        raise ValueError(f"the scan must show lungs, got {len(inner)} coarse voxels of them")
    places = np.linspace(0, len(inner) - 1, len(diameters_mm) + 2)[1:-1].astype(int)
    affine = lungs.affine.double().numpy()
    centres_mm = inner[places] @ affine[:3, :3].T + affine[:3, 3]
    return LogitField(
        tuple((x, y, z) for x, y, z in centres_mm.tolist()),
        tuple(diameter_mm / 2 for diameter_mm in diameters_mm),
    )
