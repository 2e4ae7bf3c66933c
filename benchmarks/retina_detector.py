"""MONAI's RetinaNet detector with the settings of its lung nodule bundle, a peer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape

from benchmarks.retina_net import retina_net

# Of the model zoo's lung_nodule_ct_detection: voxels of its own grid, and the grid.
_ANCHOR_SHAPES = ((6, 8, 4), (8, 6, 5), (10, 10, 6))
_FEATURE_MAP_SCALES = (1, 2, 4)
_SPACING_MM = (0.703125, 0.703125, 1.25)
TILE_OVERLAP = 0.25


class AtssRetinaNetDetector(RetinaNetDetector):
    """MONAI's detector with MONAI's ATSS matcher, and no question whether it is another.

    MONAI asks whether it is torchvision's matcher, and without torchvision that question raises.
    """

    def compute_anchor_matched_idxs(
        self,
        anchors: list[torch.Tensor],
        targets: list[dict[str, torch.Tensor]],
        num_anchor_locs_per_level: Sequence[int],
    ) -> list[torch.Tensor]:
        """For each image the box of every anchor, ``(anchors,)``, negative where it has none."""
        return [
            self.proposal_matcher(
                target[self.target_box_key],
                of_image,
                num_anchor_locs_per_level,
                self.num_anchors_per_loc,
            )[1]
            for of_image, target in zip(anchors, targets, strict=True)
        ]


def retina_detector(
    spacing_mm: Sequence[float], tile_shape: Sequence[int]
) -> AtssRetinaNetDetector:
    """:func:`benchmarks.retina_net.retina_net` in MONAI's detector, set up as in the model zoo.

    ATSS matching, hard negatives, box selection and anchors are the bundle's. The anchors keep
    their sizes in mm; other than MONAI's generator, this does not round them to whole voxels,
    which would spoil them on a coarser grid.

    In training ``detector(image, targets)`` gives the two losses, with a list over the batch of
    ``boxes`` ``(N, 6)``, corners in voxels, and ``labels`` ``(N,)``, zeros. In evaluation
    ``detector(image, use_inferer=True)`` gives ``boxes``, ``labels`` and ``labels_scores``.

    Args:
        spacing_mm: of the images.
        tile_shape: voxels of the sliding window.
    """
    voxels = torch.tensor(_ANCHOR_SHAPES) * torch.tensor(_SPACING_MM) / torch.tensor(spacing_mm)
    anchors = AnchorGeneratorWithAnchorShape(_FEATURE_MAP_SCALES, voxels.tolist())
    anchors.cell_anchors = [
        torch.cat((-voxels, voxels), dim=1) * scale / 2 for scale in _FEATURE_MAP_SCALES
    ]
    detector = AtssRetinaNetDetector(retina_net(), anchors)
    detector.set_atss_matcher(num_candidates=4, center_in_gt=False)
    detector.set_hard_negative_sampler(
        batch_size_per_image=64, positive_fraction=0.3, pool_size=20, min_neg=16
    )
    detector.set_box_selector_parameters(
        score_thresh=0.02, topk_candidates_per_level=1000, nms_thresh=0.22, detections_per_img=300
    )
    detector.set_sliding_window_inferer(tile_shape, overlap=TILE_OVERLAP, mode="constant")
    return detector
