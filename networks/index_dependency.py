"""Which indices of its operand an operation reads, along one axis of the image."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from networks.autograd_trace import Operand, Operation

IntArray = NDArray[np.int64]
#: Stands for "no index": a transposed convolution leaves some taps of some outputs unused.
GAP = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Place:
    """Where a tensor holds an axis of the image: ``size`` indices in dimension ``dim``.

    After a flatten the dimension holds more: ``outer`` counts the entries that vary more slowly.
    """

    dim: int
    size: int
    outer: int = 1


def _same(indices: IntArray) -> IntArray:
    return indices[:, None]


def _first(indices: IntArray) -> IntArray:
    return np.zeros((len(indices), 1), dtype=np.int64)


@dataclass(frozen=True)
class Dependency:
    """How the output indices of an operation depend on the indices of one operand.

    Indices are unbounded: a border, padded or not, is not special.

    Args:
        place: where the output holds the axis, None if it no longer does.
        sources: output indices ``(N,)`` to the operand's indices ``(N, T)``, `GAP` where none.
        scale: output samples per operand sample; None if the output has no grid of its own.
        whole: every output reads every index the window has.
        statistics: a norm takes its mean and variance over the window.
        detail: what a table says of it, empty for what leaves the field as it was.
    """

    place: Place | None
    sources: Callable[[IntArray], IntArray] = _same
    scale: Fraction | None = Fraction(1)
    whole: bool = False
    statistics: bool = False
    detail: str = ""


def depend(operation: Operation, operand: Operand, place: Place | None) -> Dependency:
    """Dependency of an operation on the operand that holds the axis at ``place``.

    Raises:
        ValueError: if the operation is unknown or mixes indices in a way that has no rule.
    """
    if place is None:
        return Dependency(None, _first, None)
    step = _Step(operation, operand, place)
    if operation.kind not in _RULES:
        step.refuse("there is no rule for it")
    return _RULES[operation.kind](step)


@dataclass(frozen=True)
class _Step:
    operation: Operation
    operand: Operand
    place: Place

    @property
    def dims(self) -> int:
        return len(self.operand.shape)

    def saved(self, name: str) -> Any:
        return getattr(self.operation.node, f"_saved_{name}")

    def saved_dims(self, name: str = "dim") -> tuple[int, ...]:
        """Saved dimensions, counted from the front; torch keeps -1 as an unsigned number."""
        value = self.saved(name)
        values = (value,) if isinstance(value, int) else value or ()
        dims = max(self.dims, 1)
        return tuple((v - 2**64 if v >= 2**63 else v) % dims for v in values)

    def own_dim(self) -> int:
        """The dimension the axis has for itself, counted from the back."""
        if self.place.outer != 1 or self.operand.shape[self.place.dim] != self.place.size:
            self.refuse("the axis shares its dimension with others")
        return self.place.dim - self.dims

    def of_axis(self, name: str, spatial_dims: int) -> int:
        """A saved parameter of a kernel, such as its stride, for this axis."""
        dim, values = self.own_dim(), self.saved(name)
        if dim < -spatial_dims:
            self.refuse("it takes the axis for batch or channels")
        return values[0] if len(values) == 1 else values[dim]

    def refuse(self, reason: str) -> NoReturn:
        module = f" at {self.operation.module}" if self.operation.module else ""
        raise ValueError(
            f"receptive_field cannot follow {self.operation.node.name()}{module}: {reason}"
        )


def _pointwise(step: _Step) -> Dependency:
    """The same index, or the only one where torch broadcasts."""
    shape = step.operation.shape
    dim = step.place.dim + len(shape) - step.dims
    size = shape[dim]
    if size == step.operand.shape[step.place.dim]:
        return Dependency(replace(step.place, dim=dim))
    return Dependency(Place(dim, size), _first, None)


def _window(step: _Step, kernel: int, stride: int, padding: int, dilation: int) -> Dependency:
    step.own_dim()
    taps = np.arange(kernel, dtype=np.int64) * dilation - padding
    return Dependency(
        Place(step.place.dim, step.operation.shape[step.place.dim]),
        lambda indices: indices[:, None] * stride + taps,
        Fraction(1, stride),
        detail=_describe(kernel, stride, dilation),
    )


def _describe(kernel: int, stride: int, dilation: int) -> str:
    return f"k{kernel} s{stride}" + (f" d{dilation}" if dilation > 1 else "")


def _convolution(step: _Step) -> Dependency:
    if step.operand.slot != 0:
        step.refuse("its weight or bias is made from the image")
    weight = step.saved("weight")
    spatial = weight.dim() - 2
    kernel = weight.shape[step.place.dim - step.dims]
    stride, padding, dilation = (
        step.of_axis(name, spatial) for name in ("stride", "padding", "dilation")
    )
    if not step.saved("transposed"):
        return _window(step, kernel, stride, padding, dilation)
    taps = np.arange(kernel, dtype=np.int64) * dilation

    def sources(indices: IntArray) -> IntArray:
        scaled = indices[:, None] + padding - taps
        return np.where(scaled % stride == 0, scaled // stride, GAP)

    return Dependency(
        Place(step.place.dim, step.operation.shape[step.place.dim]),
        sources,
        Fraction(stride),
        detail=f"{_describe(kernel, stride, dilation)} transposed",
    )


def _pool(step: _Step) -> Dependency:
    spatial = _spatial_dims(step)
    kernel, padding = (step.of_axis(name, spatial) for name in ("kernel_size", "padding"))
    stride = step.of_axis("stride", spatial) if step.saved("stride") else kernel
    is_max = step.operation.kind.startswith("Max")
    return _window(step, kernel, stride, padding, step.of_axis("dilation", spatial) if is_max else 1)


def _spatial_dims(step: _Step) -> int:
    return int(re.findall(r"(\d)D", step.operation.kind)[0])


def _adaptive_pool(step: _Step) -> Dependency:
    dim = step.own_dim()
    place = Place(step.place.dim, step.operation.shape[dim])
    if dim < -_spatial_dims(step):
        return _pointwise(step)
    if place.size == 1:
        return Dependency(place, _first, None, whole=True, detail="whole window")
    old, new = step.place.size, place.size
    taps = np.arange(-(-old // new) + 1, dtype=np.int64)

    def sources(indices: IntArray) -> IntArray:
        start, last = indices * old // new, -(-(indices + 1) * old // new) - 1
        return np.minimum(start[:, None] + taps, last[:, None])

    return Dependency(place, sources, Fraction(new, old), detail=f"adaptive {old} to {new}")


def _interpolate(step: _Step) -> Dependency:
    """Index arithmetic of ``interpolate`` in whole numbers, so that no rounding adds a tap."""
    dim, kind = step.own_dim(), step.operation.kind
    spatial = _spatial_dims(step)
    if dim < -spatial:
        step.refuse("it takes the axis for batch or channels")
    old, new = step.place.size, step.operation.shape[dim]
    factor = step.saved("scales" if spatial == 1 else f"scales_{'whd'[-1 - dim]}")
    ratio = Fraction(new, old) if factor is None else Fraction(factor).limit_denominator(4096)
    p, q = ratio.denominator, ratio.numerator
    if "Nearest" in kind:
        offset = 1 if "Exact" in kind else 0
        # floor((2 * i + offset) * p / (2 * q))
        taps, slope, start, divisor = np.zeros(1, dtype=np.int64), 2 * p, offset * p, 2 * q
    else:
        taps = np.arange(-1, 3) if "Bicubic" in kind else np.arange(2)
        slope, start, divisor = 2 * p, p - q, 2 * q
        if step.saved("align_corners"):
            slope, start, divisor = max(old - 1, 0), 0, max(new - 1, 1)

    def sources(indices: IntArray) -> IntArray:
        index, rest = np.divmod(indices * slope + start, divisor)
        if len(taps) == 1:
            return index[:, None]
        # A position that falls on a sample reads that sample alone.
        return np.where(rest[:, None] == 0, index[:, None], index[:, None] + taps)

    return Dependency(Place(step.place.dim, new), sources, ratio, detail=f"x{float(ratio):g}")


def _pad(step: _Step) -> Dependency:
    pad = step.saved("pad" if step.operation.kind == "ConstantPadNd" else "padding")
    entry = 2 * (step.dims - 1 - step.place.dim)
    if entry >= len(pad):
        return _pointwise(step)
    step.own_dim()
    left = pad[entry]
    place = Place(step.place.dim, step.operation.shape[step.place.dim])
    return Dependency(place, lambda indices: indices[:, None] - left)


def _slice(step: _Step) -> Dependency:
    if step.saved_dims() != (step.place.dim,):
        return Dependency(step.place)
    step.own_dim()
    size, stride, start = step.place.size, step.saved("step"), step.saved("start")
    start = start - 2**64 if start >= 2**63 else start
    start = min(max(start + size if start < 0 else start, 0), size)
    place = Place(step.place.dim, step.operation.shape[step.place.dim])
    return Dependency(place, lambda i: i[:, None] * stride + start, Fraction(1, stride))


def _along_other_dim(step: _Step) -> Dependency:
    if step.saved_dims() == (step.place.dim,):
        step.refuse("it joins or splits the axis itself")
    return Dependency(step.place)


def _stack(step: _Step) -> Dependency:
    # The new dimension is counted in the output, which has one more.
    dim = step.saved("dim")
    dim = dim % len(step.operation.shape) if dim < 2**63 else dim - 2**64 + step.dims + 1
    return Dependency(replace(step.place, dim=step.place.dim + (dim <= step.place.dim)))


def _select(step: _Step) -> Dependency:
    (dim,) = step.saved_dims()
    if dim == step.place.dim:
        step.refuse("it picks one index of the axis")
    return Dependency(replace(step.place, dim=step.place.dim - (dim < step.place.dim)))


def _permute(step: _Step) -> Dependency:
    order = list(range(step.dims))
    if step.operation.kind == "Permute":
        order = list(step.saved_dims("dims"))
    else:
        ends = (0, 1)
        if step.operation.kind == "Transpose":
            ends = (*step.saved_dims("dim0"), *step.saved_dims("dim1"))
        order[ends[0]], order[ends[1]] = ends[1], ends[0]
    return Dependency(replace(step.place, dim=order.index(step.place.dim)))


def _reshape(step: _Step) -> Dependency:
    """A reshape keeps the order of entries, so the axis keeps the number of them before it."""
    old, new, place = step.operand.shape, step.operation.shape, step.place
    moved = place.dim + len(new) - len(old)
    if moved >= 0 and old[place.dim :] == new[moved:]:
        return Dependency(replace(place, dim=moved))
    if old[: place.dim + 1] == new[: place.dim + 1]:
        return Dependency(place)
    if place.size == 1:
        return Dependency(None, _first, None)
    before = math.prod(old[: place.dim]) * place.outer
    for dim in range(len(new)):
        outer, rest = divmod(before, math.prod(new[:dim]))
        if rest == 0 and new[dim] % (outer * place.size) == 0 and outer * place.size <= new[dim]:
            return Dependency(Place(dim, place.size, outer))
    step.refuse("it splits the axis")


def _reduce(step: _Step) -> Dependency:
    """A mean, sum or extreme over some dimensions, or over all of them."""
    node = step.operation.node
    dims = step.saved_dims() if hasattr(node, "_saved_dim") else ()
    dims = dims or tuple(range(step.dims))
    keeps = getattr(node, "_saved_keepdim", False)
    dim = step.place.dim - (0 if keeps else sum(d < step.place.dim for d in dims))
    if step.place.dim not in dims:
        return Dependency(replace(step.place, dim=dim))
    place = Place(dim, 1) if keeps else None
    return Dependency(place, _first, None, whole=True, detail="whole window")


def _softmax(step: _Step) -> Dependency:
    if step.saved_dims() != (step.place.dim,):
        return Dependency(step.place)
    return Dependency(step.place, whole=True, detail="whole window")


def _matmul(step: _Step) -> Dependency:
    slot = step.operand.slot - (step.operation.kind in ("Addmm", "Baddbmm"))
    if slot < 0:
        return _pointwise(step)
    if step.place.dim == step.dims - (1 if slot == 0 else 2):
        return Dependency(None, _first, None, whole=True, detail="whole window")
    return Dependency(step.place)


def _norm(step: _Step) -> Dependency:
    if step.operand.slot != 0:
        step.refuse("its weight or bias is made from the image")
    sees = step.operation.kind == "WindowNorm"
    if step.operation.kind == "NativeLayerNorm":
        sees = step.place.dim >= step.dims - len(step.saved("normalized_shape"))
    return Dependency(step.place, statistics=sees)


_POINTWISE = """Abs Add Addcmul Alias Celu Clamp ClampMax ClampMin Clone Div Elu Erf Exp Expand Gelu
Hardsigmoid Hardswish Hardtanh LeakyRelu Lerp Log Log1P LogSigmoid MaskedFill Maximum Minimum Mish
Mul NativeDropout Neg Pow Prelu PreluKernel Reciprocal Relu Rsqrt Rsub Selu Sigmoid Sign Silu
Softplus Sqrt Sub Tanh Threshold ToCopy Where"""

_RULES: dict[str, Callable[[_Step], Dependency]] = {
    "Convolution": _convolution,
    "ConstantPadNd": _pad,
    "Permute": _permute,
    "Slice": _slice,
    "Select": _select,
    **dict.fromkeys(_POINTWISE.split(), _pointwise),
    **dict.fromkeys(("Transpose", "T"), _permute),
    **dict.fromkeys(("Cat", "Split", "SplitWithSizes"), _along_other_dim),
    **dict.fromkeys(("Stack", "Unsqueeze"), _stack),
    **dict.fromkeys(("View", "UnsafeView", "ReshapeAlias", "Squeeze"), _reshape),
    **dict.fromkeys(("Mean", "Sum", "Amax", "Amin", "Max", "Min", "Var", "Std"), _reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax", "SafeSoftmax"), _softmax),
    **dict.fromkeys(("Mm", "Addmm", "Bmm", "Baddbmm"), _matmul),
    **dict.fromkeys(
        ("NativeBatchNorm", "CudnnBatchNorm", "NativeLayerNorm", "WindowNorm"), _norm
    ),
    **dict.fromkeys(
        ("AvgPool2D", "AvgPool3D", "MaxPool2DWithIndices", "MaxPool3DWithIndices"), _pool
    ),
    **{
        f"Adaptive{kind}Pool{dims}D": _adaptive_pool for kind in ("Avg", "Max") for dims in (2, 3)
    },
    **{f"{mode}Pad{dims}D": _pad for mode in ("Reflection", "Replication") for dims in (1, 2, 3)},
    **{f"UpsampleNearest{exact}{d}D": _interpolate for exact in ("", "Exact") for d in (1, 2, 3)},
    **dict.fromkeys(
        ("UpsampleLinear1D", "UpsampleBilinear2D", "UpsampleTrilinear3D", "UpsampleBicubic2D"),
        _interpolate,
    ),
}
