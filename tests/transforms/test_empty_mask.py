from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor, list_data_collate

from transforms import CheckGeometryd, EmptyMaskd, ScanError, empty_mask


def _scan(*shape: int) -> MetaTensor:
    affine = torch.diag(torch.tensor([-0.7, 0.7, 2.5, 1.0], dtype=torch.float64))
    meta = {"filename_or_obj": "scan.nii.gz", "original_affine": affine.clone()}
    return MetaTensor(torch.randn(1, *shape), affine, meta)


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5)])
def test_a_scan_without_a_nodule_gets_a_mask_of_its_geometry(shape: tuple[int, ...]) -> None:
    scan = _scan(*shape)
    samples: list[dict[Any, Any]] = [{"image": scan}, {"image": scan, "boxes": []}]
    for sample in map(EmptyMaskd(), samples):
        mask = sample["mask"]
        assert mask.shape == (1, *shape) and mask.dtype == torch.int16 and not mask.any()
        assert torch.equal(mask.affine, scan.affine) and mask.affine is not scan.affine
        CheckGeometryd("mask", "image")(sample)


def test_a_mask_that_is_there_stays() -> None:
    scan = _scan(6, 5, 4)
    mask = empty_mask(scan)
    sample: dict[Any, Any] = {"image": scan, "mask": mask, "boxes": [[0, 0, 0, 1, 1, 1]]}
    assert EmptyMaskd()(sample)["mask"] is mask


def test_it_makes_a_batch_with_masks_from_files() -> None:
    scan = _scan(6, 5, 4)
    read = MetaTensor(torch.ones(1, 6, 5, 4, dtype=torch.int16), scan.affine, dict(scan.meta))
    batch = list_data_collate([{"mask": read}, {"mask": empty_mask(scan)}])
    assert batch["mask"].flatten(1).sum(dim=1).tolist() == [120, 0]


def test_boxes_without_a_mask_are_refused() -> None:
    sentence = r"scan\.nii\.gz: a scan with nodules must have a mask in the datalist, got 2 boxes"
    with pytest.raises(ScanError, match=sentence):
        EmptyMaskd()({"image": _scan(6, 5, 4), "boxes": [[0, 0, 0, 1, 1, 1]] * 2})
