from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers.inferer import SimpleInferer

from benchmarks.spleen_bundle import (
    sliding_windows,
    spleen_evaluator,
    spleen_mask_path,
    spleen_network,
    spleen_preprocessing,
)

# Voxels of 3 x 2 x 1.5 mm; the file's axes run to the patient's front, left and feet.
AFFINE = np.array([[0, -2.0, 0, 9], [3.0, 0, 0, -7], [0, 0, -1.5, 4], [0, 0, 0, 1]])
SHAPE = (16, 24, 32)
BLOCK = (slice(5, 11), slice(6, 18), slice(8, 24))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A block of tissue in air."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[BLOCK] = 164
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(hu, AFFINE), path)
    return path


class _Bright(torch.nn.Module):
    """Foreground where the input is above a half, for sure enough."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logit = 20 * (image - 0.5)
        return torch.cat([-logit / 2, logit / 2], dim=1)


def test_the_input_has_the_bundles_grid_and_values(scan: Path) -> None:
    image = spleen_preprocessing()({"image": str(scan)})["image"]
    assert isinstance(image, MetaTensor)
    # From a first voxel's centre to a last one's, in steps of 1.5, 1.5 and 2 mm.
    assert image.shape == (1, 32, 31, 24)
    np.testing.assert_allclose(np.diag(image.affine)[:3], (1.5, 1.5, 2.0))
    assert (float(image.min()), float(image.max())) == (0, 1)


def test_the_network_is_the_published_one() -> None:
    network = spleen_network().eval()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == pytest.approx(4.8e6, rel=0.005)
    with torch.inference_mode():
        assert network(torch.rand(1, 1, 32, 32, 32)).shape == (1, 2, 32, 32, 32)


def test_windows_overlap_by_a_half() -> None:
    shapes = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(windows.shape))
        return windows

    image = torch.rand(1, 1, 144, 96, 96)
    torch.testing.assert_close(sliding_windows()(image, network), image)
    assert shapes == [(2, 1, 96, 96, 96)]


def test_the_mask_lies_on_the_scan(scan: Path, tmp_path: Path) -> None:
    evaluator = spleen_evaluator(
        scan,
        tmp_path / "masks",
        preprocessing=spleen_preprocessing(),
        network=_Bright(),
        inferer=SimpleInferer(),
    )
    evaluator.run()
    written = nib.nifti1.load(spleen_mask_path(scan, tmp_path / "masks"))
    assert written.get_data_dtype() == np.float32
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-5)
    mask = written.get_fdata()
    assert mask.shape == SHAPE
    assert set(np.unique(mask)) == {0, 1}
    # There and back, the surface moves by a voxel at most.
    block = np.zeros(SHAPE, bool)
    block[BLOCK] = True
    inner = np.zeros(SHAPE, bool)
    inner[tuple(slice(part.start + 1, part.stop - 1) for part in BLOCK)] = True
    outer = np.zeros(SHAPE, bool)
    outer[tuple(slice(part.start - 1, part.stop + 1) for part in BLOCK)] = True
    assert mask[inner].all()
    assert not mask[~outer].any()


def test_a_scan_with_nothing_found_has_an_empty_mask(scan: Path, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full(SHAPE, -1000, np.int16), AFFINE), scan)
    spleen_evaluator(
        scan,
        tmp_path,
        preprocessing=spleen_preprocessing(),
        network=_Bright(),
        inferer=SimpleInferer(),
    ).run()
    assert not nib.nifti1.load(spleen_mask_path(scan, tmp_path)).get_fdata().any()
