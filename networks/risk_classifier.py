"""The attention rung: scan to cancer risk, by way of attention maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Norm
from torch import nn

from networks.attention_pool import AttentionPool
from networks.gated_attention_pool import GatedAttentionPool
from networks.global_average_pool import GlobalAveragePool
from networks.global_max_pool import GlobalMaxPool
from networks.resnet_encoder import ResNetEncoder
from networks.yearly_hazards import YearlyHazards


class RiskClassifier(nn.Module):
    """CNN, a pooling over all voxels, and a small network on what was pooled.

    ``network(x)`` returns the logits alone, as exporters and ``monai.bundle`` expect.
    ``network(x, with_attention=True)`` also returns one map of scores for each head. Of the
    attention poolings they are the scores whose ``softmax`` over all voxels weights the features.
    The average and the maximum have none, so the map is the classifier's logit of each voxel's
    features by themselves, for the last year (class activation map, arXiv:1512.04150, with a
    hidden layer); it is computed only when asked for.

    Args:
        spatial_dims: 2 (mammography) or 3 (CT).
        in_channels: channels of the image.
        channels: channels of the encoder's stem and stages.
        strides: strides of the encoder's stem and stages; with a product of 4 a 512x512x200
            scan has 128x128x50 features.
        blocks: residual blocks of each stage.
        heads: number of attention heads, 1 where ``pooling`` is without attention.
        hidden_features: width of the layer between the pooled features and the logits, and of
            the gated layer of ``gated_attention``.
        pooling: ``attention``, ``gated_attention`` (arXiv:1802.04712), ``average`` or ``max``.
        years: number of yearly cumulative logits, which never fall; None for a single logit.
        gradient_checkpointing: train the encoder in less memory and more time.

    Shape:
        image ``(B, in_channels, *spatial)``, logits ``(B, years or 1)``, scores
        ``(B, heads, *feature)``.

    Raises:
        ValueError: if an argument is out of its range, or ``heads`` does not suit ``pooling``.
    """

    __constants__ = ("has_attention",)

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
        pooling: str = "attention",
        years: int | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=channels,
            strides=strides,
            blocks=blocks,
            gradient_checkpointing=gradient_checkpointing,
        )
        features = self.encoder.out_channels
        # Centred, so that what a head picks out stands against the average of the scan. On the
        # positive features that a ReLU leaves, all pooled vectors look alike: the first steps move
        # every hidden feature the same way, and the risk is a constant from then on.
        self.norm = Norm[Norm.BATCH, spatial_dims](features)
        self.has_attention = pooling in ("attention", "gated_attention")
        self.pool = _pool(
            pooling,
            spatial_dims=spatial_dims,
            in_channels=features,
            heads=heads,
            hidden_features=hidden_features,
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(heads * features, hidden_features),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_features, 1)
            if years is None
            else YearlyHazards(hidden_features, years),
        )

    def forward(
        self, image: torch.Tensor, with_attention: bool = False
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        features = self.norm(self.encoder(image))
        if self.has_attention:
            pooled, scores = self.pool(features)
            logits = self.classifier(pooled)
            return {"logits": logits, "scores": scores} if with_attention else logits
        logits = self.classifier(self.pool(features))
        if with_attention:
            return {"logits": logits, "scores": self._class_activation(features)}
        return logits

    def _class_activation(self, features: torch.Tensor) -> torch.Tensor:
        """Last logit of each voxel's features by themselves, ``(B, 1, *feature)``."""
        # In chunks, so that the hidden layer of a whole map is never in memory.
        chunks = features.flatten(2).split(65_536, dim=2)
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript knows the outer one only
            if torch.compiler.is_exporting():  # their number would be fixed
                chunks = (features.flatten(2),)
        scores = []
        for cells in chunks:
            logits = self.classifier(cells.transpose(1, 2).flatten(0, 1))
            scores.append(logits[:, -1].view(len(cells), -1))
        return torch.cat(scores, dim=1).view(features[:, :1].shape)


def _pool(
    pooling: str, *, spatial_dims: int, in_channels: int, heads: int, hidden_features: int
) -> nn.Module:
    if pooling == "attention":
        return AttentionPool(spatial_dims=spatial_dims, in_channels=in_channels, heads=heads)
    if pooling == "gated_attention":
        return GatedAttentionPool(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            heads=heads,
            hidden_features=hidden_features,
        )
    without_attention = {"average": GlobalAveragePool, "max": GlobalMaxPool}
    if pooling not in without_attention:
        raise ValueError(
            f"pooling must be attention, gated_attention, average or max, got {pooling}"
        )
    if heads != 1:
        raise ValueError(f"heads must be 1 with pooling {pooling}, got {heads}")
    return without_attention[pooling]()
