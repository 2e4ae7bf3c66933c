"""The attention rung: scan to cancer risk, by way of attention maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Norm
from torch import nn

from networks.attention_pool import AttentionPool
from networks.resnet_encoder import ResNetEncoder


class RiskClassifier(nn.Module):
    """CNN, several attention heads, and a small network on what they pooled.

    ``network(x)`` returns the logits alone, as exporters and ``monai.bundle`` expect.
    ``network(x, with_attention=True)`` also returns the scores, from which the attention
    weights follow as ``softmax(scores)`` over all voxels.

    Args:
        spatial_dims: 2 (mammography) or 3 (CT).
        in_channels: channels of the image.
        channels: channels of the encoder's stem and stages.
        strides: strides of the encoder's stem and stages; with a product of 4 a 512x512x200
            scan has 128x128x50 features.
        blocks: residual blocks of each stage.
        heads: number of attention heads.
        hidden_features: width of the layer between the pooled features and the logit.

    Shape:
        image ``(B, in_channels, *spatial)``, logits ``(B, 1)``, scores
        ``(B, heads, *feature)`` before the softmax.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int | Sequence[int]],
        blocks: Sequence[int],
        heads: int,
        hidden_features: int,
    ) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=channels,
            strides=strides,
            blocks=blocks,
        )
        features = self.encoder.out_channels
        # Centred, so that what a head picks out stands against the average of the scan. On the
        # positive features that a ReLU leaves, all pooled vectors look alike: the first steps move
        # every hidden feature the same way, and the risk is a constant from then on.
        self.norm = Norm[Norm.BATCH, spatial_dims](features)
        self.pool = AttentionPool(spatial_dims=spatial_dims, in_channels=features, heads=heads)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(heads * features, hidden_features),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_features, 1),
        )

    def forward(
        self, image: torch.Tensor, with_attention: bool = False
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        pooled, scores = self.pool(self.norm(self.encoder(image)))
        logits = self.classifier(pooled)
        return {"logits": logits, "scores": scores} if with_attention else logits
