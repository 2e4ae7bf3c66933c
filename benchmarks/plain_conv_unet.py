"""The network of nnU-Net for lung tumours, a peer to measure against."""

from __future__ import annotations

from torch import nn

#: An image must have multiples of this many voxels along each axis.
SIZE_DIVISIBLE = 32
LEVELS = 6
_CHANNELS = (32, 64, 128, 256, 320, 320)
# It names timm and with it torchvision as needed, which this network is not built of and whose
# wheel does not import beside a CPU build of torch.
_INSTALL = "pip install --no-deps dynamic-network-architectures==0.4.4"


def plain_conv_unet(levels: int = LEVELS) -> nn.Module:
    """nnU-Net's PlainConvUNet with its full-resolution plan for MSD Task06, lung tumours.

    Six levels of two convolutions each way, instance norms and leaky ReLUs, one class beside the
    background as two logits (doi:10.1038/s41592-020-01008-z). Weights are random, drawn as nnU-Net
    draws them.

    Args:
        levels: 2 to 6, the coarsest left out where a patch is too small for them.

    Raises:
        ValueError: if ``levels`` is out of its range.
        ImportError: if nnU-Net's networks are not installed; Locus itself needs none of them.
    """
    try:
        from dynamic_network_architectures.architectures.unet import PlainConvUNet
    except ImportError as error:
        raise ImportError(
            f"this benchmark needs the networks of nnU-Net, to be had by: {_INSTALL}"
        ) from error
    if not 2 <= levels <= LEVELS:
        raise ValueError(f"levels must be 2 to {LEVELS}, got {levels}")
    network = PlainConvUNet(
        input_channels=1,
        n_stages=levels,
        features_per_stage=_CHANNELS[:levels],
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=[1] + [2] * (levels - 1),
        n_conv_per_stage=2,
        num_classes=2,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    return network.apply(network.initialize)
