"""One sample before batching: reading, checking, masks, lungs and grids."""

from __future__ import annotations

from transforms.attention_to_scan import attention_to_scan
from transforms.boxes_to_mask import BoxesToMaskd, boxes_to_mask
from transforms.check_boxes import CheckBoxesd, check_boxes
from transforms.check_geometry import CheckGeometryd, check_geometry
from transforms.crop_to_lungs import CropToLungsd
from transforms.downsample_mask import DownsampleMaskd, downsample_mask
from transforms.feature_affine import feature_affine
from transforms.load_mask import LoadMaskd, load_mask
from transforms.load_scan import LoadScand, load_scan
from transforms.lung_side_mask import LungSideMaskd, lung_side_mask
from transforms.scan_error import ScanError
from transforms.segment_lungs import segment_lungs

__all__ = [
    "BoxesToMaskd",
    "CheckBoxesd",
    "CheckGeometryd",
    "CropToLungsd",
    "DownsampleMaskd",
    "LoadMaskd",
    "LoadScand",
    "LungSideMaskd",
    "ScanError",
    "attention_to_scan",
    "boxes_to_mask",
    "check_boxes",
    "check_geometry",
    "downsample_mask",
    "feature_affine",
    "load_mask",
    "load_scan",
    "lung_side_mask",
    "segment_lungs",
]
