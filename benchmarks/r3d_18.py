"""The encoder of r3d_18, a peer to measure against."""

from __future__ import annotations

import torch
from monai.networks.nets.resnet import ResNet
from torch import nn


class R3d18(nn.Module):
    """Image to feature map as r3d_18 does without its last layer (arXiv:1711.11248).

    The encoder that Sybil starts from (doi:10.1200/JCO.22.01345). torchvision, which has it ready
    made, is no dependency of ours: MONAI's ResNet takes the published shapes. Weights are random.

    Shape:
        ``(B, 1, H, W, D)`` to ``(B, 512, H / 16, W / 16, D / 8)``, each rounded up. Inside, the
        depth comes first and the one channel is given three times, as Sybil does it.
    """

    def __init__(self) -> None:
        super().__init__()
        network = ResNet(
            block="basic",
            layers=[2, 2, 2, 2],
            block_inplanes=[64, 128, 256, 512],
            n_input_channels=3,
            # MONAI's annotation knows one entry; the code takes one for each axis.
            conv1_t_size=(3, 7, 7),  # type: ignore[arg-type]
            conv1_t_stride=(1, 2, 2),  # type: ignore[arg-type]
            no_max_pool=True,
            feed_forward=False,
            bias_downsample=False,
        )
        self.stem = nn.Sequential(network.conv1, network.bn1, network.act)
        self.stages = nn.Sequential(network.layer1, network.layer2, network.layer3, network.layer4)
        self.out_channels = network.in_planes

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        depth_first = image.movedim(-1, 2).expand(-1, 3, -1, -1, -1)
        return self.stages(self.stem(depth_first)).movedim(2, -1)
