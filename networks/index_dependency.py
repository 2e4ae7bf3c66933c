"""Which indices of its operand an operation reads, along one axis of the image."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from networks.autograd_trace import Operand, Operation, signed

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
        detail: what a table says of it, empty for what leaves the field as it was.
        whole: every output reads every index the window has.
        statistics: a norm takes its mean and variance over the window.
    """

    place: Place | None
    sources: Callable[[IntArray], IntArray] = _same
    scale: Fraction | None = Fraction(1)
    detail: str = ""
    whole: bool = False
    statistics: bool = False


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

    @property
    def out(self) -> Place:
        """The axis in the output of an operation that keeps it where it is."""
        return Place(self.place.dim, self.operation.shape[self.place.dim])

    def saved_dims(self, name: str = "dim") -> tuple[int, ...]:
        return self.operation.saved_dims(name, self.dims)

    def own_dim(self) -> int:
        """The dimension the axis has for itself, counted from the back."""
        if self.place.outer != 1 or self.operand.shape[self.place.dim] != self.place.size:
            self.refuse("the axis shares its dimension with others")
        spatial = re.search(r"(\d)D", self.operation.kind)
        if spatial and self.place.dim < self.dims - int(spatial[1]):
            self.refuse("it takes the axis for batch or channels")
        return self.place.dim - self.dims

    def of_axis(self, name: str) -> int:
        """A saved parameter of a kernel, such as its stride, for this axis."""
        values = self.operation.saved(name)
        return values[0] if len(values) == 1 else values[self.own_dim()]

    def refuse(self, reason: str) -> NoReturn:
        raise ValueError(f"receptive_field cannot follow {self.operation}: {reason}")


def _pointwise(step: _Step) -> Dependency:
    """The same index, or the only one where torch broadcasts."""
    dim = step.place.dim + len(step.operation.shape) - step.dims
    size = step.operation.shape[dim]
    if size == step.operand.shape[step.place.dim]:
        return Dependency(replace(step.place, dim=dim))
    return Dependency(Place(dim, size), _first, None)


def _convolution(step: _Step) -> Dependency:
    if step.operand.slot != 0:
        step.refuse("its weight or bias is made from the image")
    if step.place.dim < 2:
        step.refuse("it takes the axis for batch or channels")
    kernel = step.operation.saved("weight").shape[step.own_dim()]
    return _window(step, kernel, is_transposed=step.operation.saved("transposed"))


def _pool(step: _Step) -> Dependency:
    step.own_dim()
    return _window(step, step.of_axis("kernel_size"))


def _window(step: _Step, kernel: int, is_transposed: bool = False) -> Dependency:
    padding = step.of_axis("padding")
    stride = step.of_axis("stride") if step.operation.saved("stride") else kernel
    is_dilated = not step.operation.kind.startswith("AvgPool")
    dilation = step.of_axis("dilation") if is_dilated else 1
    taps = np.arange(kernel, dtype=np.int64) * dilation
    detail = f"k{kernel} s{stride}" + (f" d{dilation}" if dilation > 1 else "")
    if not is_transposed:
        return Dependency(
            step.out, lambda i: i[:, None] * stride - padding + taps, Fraction(1, stride), detail
        )

    def sources(indices: IntArray) -> IntArray:
        scaled = indices[:, None] + padding - taps
        return np.where(scaled % stride == 0, scaled // stride, GAP)

    return Dependency(step.out, sources, Fraction(stride), f"{detail} transposed")


def _adaptive_pool(step: _Step) -> Dependency:
    old, new = step.place.size, step.operation.shape[step.own_dim()]
    if new == 1:
        return Dependency(step.out, _first, None, "whole window", whole=True)
    taps = np.arange(-(-old // new) + 1, dtype=np.int64)

    def sources(indices: IntArray) -> IntArray:
        start, last = indices * old // new, -(-(indices + 1) * old // new) - 1
        return np.minimum(start[:, None] + taps, last[:, None])

    return Dependency(step.out, sources, Fraction(new, old), f"adaptive {old} to {new}")


def _interpolate(step: _Step) -> Dependency:
    """Index arithmetic of ``interpolate`` in whole numbers, so that no rounding adds a tap."""
    dim, kind = step.own_dim(), step.operation.kind
    old, new = step.place.size, step.operation.shape[dim]
    factor = step.operation.saved("scales" if "1D" in kind else f"scales_{'whd'[-1 - dim]}")
    ratio = Fraction(new, old) if factor is None else Fraction(factor).limit_denominator(4096)
    new_units, old_units = 2 * ratio.numerator, 2 * ratio.denominator
    # The position of index i in the operand is (i * old_units + start) / new_units.
    if "Nearest" in kind:
        taps, start = np.zeros(1, dtype=np.int64), old_units // 2 if "Exact" in kind else 0
    else:
        taps = np.arange(-1, 3) if "Bicubic" in kind else np.arange(2)
        start = (old_units - new_units) // 2
        if step.operation.saved("align_corners"):
            old_units, start, new_units = old - 1, 0, max(new - 1, 1)

    def sources(indices: IntArray) -> IntArray:
        index, rest = np.divmod(indices[:, None] * old_units + start, new_units)
        # A position that falls on a sample reads that sample alone.
        return np.where(rest == 0, index, index + taps)

    return Dependency(step.out, sources, ratio, f"x{float(ratio):g}")


def _pad(step: _Step) -> Dependency:
    pad = step.operation.saved("pad" if step.operation.kind == "ConstantPadNd" else "padding")
    entry = 2 * (step.dims - 1 - step.place.dim)
    if entry >= len(pad):
        return Dependency(step.place)
    step.own_dim()
    left = signed(pad[entry])
    return Dependency(step.out, lambda indices: indices[:, None] - left)


def _slice(step: _Step) -> Dependency:
    if step.saved_dims() != (step.place.dim,):
        return Dependency(step.place)
    step.own_dim()
    stride, start = step.operation.saved("step"), signed(step.operation.saved("start"))
    start = max(start + step.place.size, 0) if start < 0 else start
    return Dependency(step.out, lambda i: i[:, None] * stride + start, Fraction(1, stride))


def _along_other_dim(step: _Step) -> Dependency:
    if step.saved_dims() == (step.place.dim,):
        step.refuse("it joins or splits the axis itself")
    return Dependency(step.place)


def _stack(step: _Step) -> Dependency:
    (dim,) = step.operation.saved_dims("dim", step.dims + 1)
    return Dependency(replace(step.place, dim=step.place.dim + (dim <= step.place.dim)))


def _select(step: _Step) -> Dependency:
    (dim,) = step.saved_dims()
    if dim == step.place.dim:
        step.refuse("it picks one index of the axis")
    return Dependency(replace(step.place, dim=step.place.dim - (dim < step.place.dim)))


def _repeat(step: _Step) -> Dependency:
    repeats = step.operation.saved("repeats")
    dim = step.place.dim + len(repeats) - step.dims
    if repeats[dim] != 1:
        step.refuse("it repeats the axis")
    return Dependency(replace(step.place, dim=dim))


def _permute(step: _Step) -> Dependency:
    order = list(range(step.dims))
    if step.operation.kind == "Permute":
        order = list(step.saved_dims("dims"))
    else:
        is_t = step.operation.kind == "T"
        first, second = (0, 1) if is_t else step.saved_dims("dim0") + step.saved_dims("dim1")
        order[first], order[second] = second, first
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
    return Dependency(Place(dim, 1) if keeps else None, _first, None, "whole window", whole=True)


def _softmax(step: _Step) -> Dependency:
    if step.saved_dims() != (step.place.dim,):
        return Dependency(step.place)
    return Dependency(step.place, detail="whole window", whole=True)


def _matmul(step: _Step) -> Dependency:
    slot = step.operand.slot - (step.operation.kind in ("Addmm", "Baddbmm"))
    if slot < 0:
        return _pointwise(step)
    if step.place.dim == step.dims - (1 if slot == 0 else 2):
        return Dependency(None, _first, None, "whole window", whole=True)
    return Dependency(step.place)


def _norm(step: _Step) -> Dependency:
    if step.operand.slot != 0:
        step.refuse("its weight or bias is made from the image")
    kind, sees = step.operation.kind, True
    if kind == "NativeBatchNorm":
        sees = step.operation.saved("training")
    elif kind == "NativeLayerNorm":
        sees = step.place.dim >= step.dims - len(step.operation.saved("normalized_shape"))
    return Dependency(step.place, statistics=sees)


_RULES: dict[str, Callable[[_Step], Dependency]] = {
    kind: rule
    for rule, kinds in {
        _pointwise: """Abs Add Addcmul Alias Celu Clamp ClampMax ClampMin Clone Div Elu Erf Exp
            Expand Gelu Hardsigmoid Hardswish Hardtanh LeakyRelu Lerp Log Log1P LogSigmoid
            MaskedFill Maximum Minimum Mish Mul NativeDropout Neg Pow Prelu PreluKernel Reciprocal
            Relu Rsqrt Rsub Selu Sigmoid Sign Silu Softplus Sqrt Sub Tanh Threshold ToCopy Where""",
        _convolution: "Convolution",
        _pool: "AvgPool2D AvgPool3D MaxPool2DWithIndices MaxPool3DWithIndices",
        _adaptive_pool: """AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool2D
            AdaptiveMaxPool3D""",
        _interpolate: """UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D
            UpsampleNearestExact1D UpsampleNearestExact2D UpsampleNearestExact3D UpsampleLinear1D
            UpsampleBilinear2D UpsampleTrilinear3D UpsampleBicubic2D""",
        _pad: """ConstantPadNd ReflectionPad1D ReflectionPad2D ReflectionPad3D ReplicationPad1D
            ReplicationPad2D ReplicationPad3D""",
        _norm: "WindowNorm NativeBatchNorm NativeLayerNorm",
        _reduce: "Mean Sum Amax Amin Max Min Var Std",
        _softmax: "Softmax LogSoftmax SafeSoftmax",
        _matmul: "Mm Addmm Bmm Baddbmm",
        _slice: "Slice",
        _select: "Select",
        _repeat: "Repeat",
        _along_other_dim: "Cat Split SplitWithSizes",
        _stack: "Stack Unsqueeze",
        _permute: "Permute Transpose T",
        _reshape: "View UnsafeView ReshapeAlias Squeeze",
    }.items()
    for kind in kinds.split()
}
