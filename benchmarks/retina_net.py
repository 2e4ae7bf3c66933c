"""The network of MONAI's lung nodule detector, a peer to measure against."""

from __future__ import annotations

from collections import OrderedDict

import torch
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
from monai.networks.nets.resnet import ResNet
from torch import nn

#: An image must have multiples of this many voxels along its axes.
SIZE_DIVISIBLE = (16, 16, 8)
_FEATURE_CHANNELS = 256
_ANCHORS = 3


def retina_net() -> RetinaNet:
    """MONAI's RetinaNet (arXiv:1708.02002) with the shapes of its model zoo's nodule detector.

    That is the bundle ``lung_nodule_ct_detection``: ResNet-50 of which the first two stages are
    returned, feature pyramid of width 256, and two heads of four convolutions 256 to 256, 3x3x3,
    each with a group norm, for one class and three anchors per cell. All are MONAI's modules; only
    the body between them is put together here, from the published shapes, because MONAI's way to
    it imports torchvision, whose wheel does not import beside a CPU build of torch. Weights are
    random.

    Shape:
        image ``(B, 1, H, W, D)``, each a multiple of :data:`SIZE_DIVISIBLE`, to a dict of lists
        over three levels of strides (4, 4, 2), (8, 8, 4) and (16, 16, 8): ``classification``
        ``(B, 3, *feature)``, logits, and ``box_regression`` ``(B, 18, *feature)``.
    """
    return RetinaNet(
        spatial_dims=3,
        num_classes=1,
        num_anchors=_ANCHORS,
        feature_extractor=_BodyWithPyramid(),
        size_divisible=SIZE_DIVISIBLE,
    )


class _BodyWithPyramid(nn.Module):
    """Image to the three maps that the heads see.

    The third stage and what follows it are left out, as nothing returned depends on them.
    """

    def __init__(self) -> None:
        super().__init__()
        resnet = ResNet(
            block="bottleneck",
            layers=[3, 4, 0, 0],
            block_inplanes=[64, 128, 256, 512],
            n_input_channels=1,
            # MONAI's annotations know one entry; the code takes one for each axis.
            conv1_t_size=(7, 7, 7),  # type: ignore[arg-type]
            conv1_t_stride=(2, 2, 1),  # type: ignore[arg-type]
            feed_forward=False,
        )
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.act, resnet.maxpool)
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.pyramid = FeaturePyramidNetwork(
            spatial_dims=3,
            in_channels_list=[256, 512],
            out_channels=_FEATURE_CHANNELS,
            extra_blocks=LastLevelMaxPool(3),
        )
        self.out_channels = _FEATURE_CHANNELS

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        fine = self.layer1(self.stem(image))
        maps = self.pyramid(OrderedDict(fine=fine, middle=self.layer2(fine)))
        return list(maps.values())
