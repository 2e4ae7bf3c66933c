"""One sample before batching: reading, checking, masks, lungs and grids."""

from __future__ import annotations

from transforms.attention_to_scan import attention_to_scan
from transforms.box_distance import BoxDistanceMapd, distance_to_boxes
from transforms.boxes_to_mask import BoxesToMaskd, boxes_to_mask
from transforms.boxes_to_voxels import (
    BoxesToVoxelsd,
    boxes_ras_lps,
    boxes_to_voxels,
    boxes_to_world,
)
from transforms.cached_volumes import CachedVolumesd
from transforms.check_boxes import CheckBoxesd, check_boxes
from transforms.check_geometry import CheckGeometryd, check_geometry
from transforms.check_mask import CheckMaskd, check_mask
from transforms.check_side import CheckSided, check_side
from transforms.crop_around_box import CropAroundBoxd
from transforms.crop_to_lungs import CropToLungsd
from transforms.downsample_mask import DownsampleMaskd, downsample_mask
from transforms.empty_mask import EmptyMaskd, empty_mask
from transforms.feature_affine import feature_affine
from transforms.find_lungs import FindLungsd, find_lungs
from transforms.gaussian_noise import RandNoised, gaussian_noise
from transforms.gaussian_smooth import RandSmoothd, gaussian_smooth
from transforms.keep_affine import KeepAffined
from transforms.load_mask import LoadMaskd, load_mask
from transforms.load_scan import LoadScand, load_scan
from transforms.lung_side_mask import LungSideMaskd, lung_side_mask
from transforms.pad_stored import PadStoredd
from transforms.read_stored import ReadStoredd
from transforms.resample_axes import ResampleAxesd, resample_axes
from transforms.resample_mask import ResampleMaskd, resample_mask
from transforms.scale_window import ScaleWindowd, scale_window
from transforms.scan_error import ScanError
from transforms.segment_lungs import segment_lungs
from transforms.share_item import ShareItemd
from transforms.stored_volume import (
    StoredVolume,
    compressed_volume,
    crop_volume,
    stored_regions,
)
from transforms.yearly_risk import YearlyRiskd, yearly_risk

__all__ = [
    "BoxDistanceMapd",
    "BoxesToMaskd",
    "BoxesToVoxelsd",
    "CachedVolumesd",
    "CheckBoxesd",
    "CheckGeometryd",
    "CheckMaskd",
    "CheckSided",
    "CropAroundBoxd",
    "CropToLungsd",
    "DownsampleMaskd",
    "EmptyMaskd",
    "FindLungsd",
    "KeepAffined",
    "LoadMaskd",
    "LoadScand",
    "LungSideMaskd",
    "PadStoredd",
    "RandNoised",
    "RandSmoothd",
    "ReadStoredd",
    "ResampleAxesd",
    "ResampleMaskd",
    "ScaleWindowd",
    "ScanError",
    "ShareItemd",
    "StoredVolume",
    "YearlyRiskd",
    "attention_to_scan",
    "boxes_ras_lps",
    "boxes_to_mask",
    "boxes_to_voxels",
    "boxes_to_world",
    "check_boxes",
    "check_geometry",
    "check_mask",
    "check_side",
    "compressed_volume",
    "crop_volume",
    "distance_to_boxes",
    "downsample_mask",
    "empty_mask",
    "feature_affine",
    "find_lungs",
    "gaussian_noise",
    "gaussian_smooth",
    "load_mask",
    "load_scan",
    "lung_side_mask",
    "resample_axes",
    "resample_mask",
    "scale_window",
    "segment_lungs",
    "stored_regions",
    "yearly_risk",
]
