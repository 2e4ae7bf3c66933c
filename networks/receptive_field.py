"""Which input voxels an output voxel of a network can see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from torch import nn
from torch.nn.modules.conv import _ConvNd

from networks.autograd_trace import Operation, trace_network
from networks.index_dependency import GAP, Dependency, IntArray, Place, depend

_EVERYTHING = np.int64(2**62)


@dataclass(frozen=True)
class Layer:
    """One operation that widens the field or changes the grid, and the field after it.

    ``detail`` has one entry per axis, such as ``"k3 s2"`` for kernel 3 and stride 2.
    """

    name: str
    operation: str
    detail: tuple[str, ...]
    stride: tuple[Fraction, ...]
    size: tuple[int, ...]


@dataclass(frozen=True)
class ReceptiveField:
    """Field of the voxels of a network's output, one entry per spatial axis (H, W, D).

    Args:
        size: extent in input voxels, first to last, of the output phase that sees furthest.
        size_min: the same of the phase that sees least; 0 if some phase sees nothing.
        left: furthest reach below input index ``floor(output index * stride)``, over phases.
        right: furthest reach above it.
        stride: input voxels from one output voxel to the next, 1/2 for an output twice as fine.
        divisor: input sizes that are multiples of it pass every stride without remainder.
        whole_window: the output sees all of the window it is given, as after a global pool;
            ``size``, ``left`` and ``right`` are then those of ``window``.
        norm_sees_window: a norm takes statistics over the window, in the network's present mode.
            This is beside ``size``, which follows the network with such statistics held fixed.
        window: spatial part of the input shape.
        size_mm: ``size`` in millimetres, None if no spacing was given.
        layers: from input to output.
    """

    size: tuple[int, ...]
    size_min: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    stride: tuple[Fraction, ...]
    divisor: tuple[int, ...]
    whole_window: tuple[bool, ...]
    norm_sees_window: bool
    window: tuple[int, ...]
    size_mm: tuple[float, ...] | None
    layers: tuple[Layer, ...]

    def __str__(self) -> str:
        table = [("layer", "operation", "kernel", "stride", "field")]
        table += [
            (x.name, x.operation, _across(x.detail, " / "), _across(x.stride), _across(x.size))
            for x in self.layers
        ]
        widths = [max(len(row[i]) for row in table) for i in range(5)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        summary = {
            "receptive field": f"{_across(self.size)} voxels",
            "least phase": f"{_across(self.size_min)} voxels",
            "reach": f"{_across(self.left)} left, {_across(self.right)} right",
            "total stride": _across(self.stride),
            "size divides by": _across(self.divisor),
            "sees whole window": _across([_yes(w) for w in self.whole_window]),
            "norm sees window": _yes(self.norm_sees_window),
        }
        if self.size_mm is not None:
            summary["in millimetres"] = _across([f"{mm:g}" for mm in self.size_mm])
        lines += ["", *(f"{name:<18} {value}" for name, value in summary.items())]
        return "\n".join(lines)


def receptive_field(
    network: nn.Module, input_shape: Sequence[int], spacing_mm: Sequence[float] | None = None
) -> ReceptiveField:
    """Exact receptive field of a network, from index arithmetic over its autograd graph.

    Which indices an operation reads is a matter of one axis at a time, so every axis is followed
    on its own: each index of each tensor carries the first and the last input index it depends
    on, and branches that meet take the union (compare distill.pub/2019/computing-receptive-fields,
    which has single-path networks and formulas). Indices are unbounded, as if the image went on
    beyond its borders, so the size depends on the window only where the network does, by a
    global pool or by interpolation with ``align_corners``.

    Gradients are what is followed: a detached branch or an index does not count. No weight is
    read, so one that happens to be zero counts.

    Args:
        network: one tensor to one tensor, in the mode (train or eval) that is asked about. It
            is neither moved nor changed.
        input_shape: ``(B, C, *spatial)``, or ``(C, *spatial)`` if the network has convolutions.
        spacing_mm: voxel size along each axis.

    Raises:
        ValueError: if the network cannot run on this shape, holds an operation without a rule
            (named in the message), or has branches that meet on different grids.
    """
    shape = _with_batch(network, input_shape)
    axes = len(shape) - 2
    if spacing_mm is not None and [0 < mm < math.inf for mm in spacing_mm] != [True] * axes:
        raise ValueError(f"spacing_mm must be {axes} positive numbers, got {list(spacing_mm)}")
    operations = trace_network(network, shape)
    fields = [_follow_axis(operations, axis) for axis in range(axes)]
    sizes = [field.sizes(-1) for field in fields]
    size = tuple(int(s.max()) for s in sizes)
    left, right = zip(*(field.reach() for field in fields), strict=True)
    return ReceptiveField(
        size=size,
        size_min=tuple(int(s.min()) for s in sizes),
        left=left,
        right=right,
        stride=tuple(field.stride(-1) for field in fields),
        divisor=tuple(_divisor(field.rates) for field in fields),
        whole_window=tuple(field.spans[-1].is_whole for field in fields),
        norm_sees_window=any(r.statistics for f in fields for reads in f.reads for _, r in reads),
        window=shape[2:],
        size_mm=None if spacing_mm is None else tuple(map(float, np.multiply(size, spacing_mm))),
        layers=_layers(operations, fields),
    )


def _with_batch(network: nn.Module, input_shape: Sequence[int]) -> tuple[int, ...]:
    convolutions = (m for m in network.modules() if isinstance(m, _ConvNd))
    dims = {len(convolution.kernel_size) for convolution in convolutions}
    shape = tuple(input_shape)
    return (1, *shape) if dims == {len(shape) - 1} else shape


#: For each operation, the operations it reads and how.
_Reads = list[list[tuple[int, Dependency]]]


@dataclass(frozen=True)
class _Spans:
    """First and last input index read by the tensor's indices ``start``, ``start + 1``, ..."""

    start: int
    low: IntArray
    high: IntArray

    @property
    def is_whole(self) -> bool:
        return bool((self.low == -_EVERYTHING).any())


@dataclass(frozen=True)
class _AxisField:
    """All operations along one axis: what they read, samples per input voxel, and spans."""

    window: int
    reads: _Reads
    rates: list[Fraction | None]
    spans: list[_Spans]

    def sizes(self, operation: int) -> IntArray:
        spans = self.spans[operation]
        sizes = np.maximum(spans.high - spans.low + 1, 0)
        return np.where(spans.low == -_EVERYTHING, self.window, sizes)

    def stride(self, operation: int) -> Fraction:
        """Input voxels per sample; a tensor without a grid has one sample for the window."""
        rate = self.rates[operation]
        return Fraction(self.window) if rate is None else 1 / rate

    def reach(self) -> tuple[int, int]:
        spans, stride = self.spans[-1], self.stride(-1)
        if spans.is_whole:
            return self.window - 1, self.window - 1
        seen = spans.low <= spans.high
        index = spans.start + np.arange(len(seen))[seen]
        centre = index * stride.numerator // stride.denominator
        return int((centre - spans.low[seen]).max()), int((spans.high[seen] - centre).max())


def _divisor(rates: list[Fraction | None]) -> int:
    return math.lcm(*(rate.denominator for rate in rates if rate is not None))


def _follow_axis(operations: list[Operation], axis: int) -> _AxisField:
    window = operations[0].shape[axis + 2]
    reads: _Reads = [[]]
    places: list[Place | None] = [Place(axis + 2, window)]
    rates: list[Fraction | None] = [Fraction(1)]
    for operation in operations[1:]:
        reads.append(
            [(o.producer, depend(operation, o, places[o.producer])) for o in operation.operands]
        )
        found = {read.place for _, read in reads[-1] if read.place is not None}
        if len(found) > 1:
            raise ValueError(
                f"receptive_field cannot follow {operation}: "
                f"its operands hold axis {axis} in different dimensions"
            )
        grids = {
            rate * read.scale
            for rate, read in ((rates[producer], read) for producer, read in reads[-1])
            if rate is not None and read.scale is not None
        }
        if len(grids) > 1:
            strides = " and ".join(str(1 / rate) for rate in sorted(grids))
            raise ValueError(
                f"branches must meet on one grid, got strides {strides} along axis {axis} at "
                f"{operation}; choose an input_shape that every stride divides"
            )
        places.append(next(iter(found), None))
        rates.append(next(iter(grids), None))
    demand = _demand(reads, places, _output_rows(places[-1], rates))
    return _AxisField(window, reads, rates, _spans(reads, demand))


def _output_rows(place: Place | None, rates: list[Fraction | None]) -> int:
    """All indices of the output, and at least one period of its phases."""
    if place is None:
        return 1
    rate = rates[-1]
    return place.size if rate is None else max(place.size, int(_divisor(rates) * rate))


def _demand(reads: _Reads, places: list[Place | None], rows: int) -> list[tuple[int, int]]:
    """First and last index of each tensor that the first ``rows`` output indices need."""
    demand = [(0, 0)] * len(reads)
    needed: list[list[int]] = [[] for _ in reads]
    needed[-1] = [0, rows - 1]
    for i in reversed(range(len(reads))):
        if needed[i]:
            demand[i] = min(needed[i]), max(needed[i])
        indices = np.arange(demand[i][0], demand[i][1] + 1)
        for producer, read in reads[i]:
            place = places[producer]
            if read.whole and place is not None:
                needed[producer] += [0, place.size - 1]
                continue
            sources = read.sources(indices)
            sources = sources[sources != GAP]
            if sources.size:
                needed[producer] += [int(sources.min()), int(sources.max())]
    return demand


def _spans(reads: _Reads, demand: list[tuple[int, int]]) -> list[_Spans]:
    indices = np.arange(demand[0][0], demand[0][1] + 1)
    spans = [_Spans(demand[0][0], indices, indices)]
    for dependencies, (first, last) in zip(reads[1:], demand[1:], strict=True):
        indices = np.arange(first, last + 1)
        low, high = np.full(len(indices), _EVERYTHING), np.full(len(indices), -_EVERYTHING)
        for producer, read in dependencies:
            if read.whole:
                low[:], high[:] = -_EVERYTHING, _EVERYTHING
                continue
            operand, sources = spans[producer], read.sources(indices)
            gap = sources == GAP
            rows = np.where(gap, 0, sources - operand.start)
            low = np.minimum(low, np.where(gap, _EVERYTHING, operand.low[rows]).min(axis=1))
            high = np.maximum(high, np.where(gap, -_EVERYTHING, operand.high[rows]).max(axis=1))
        spans.append(_Spans(first, low, high))
    return spans


def _layers(operations: list[Operation], fields: list[_AxisField]) -> tuple[Layer, ...]:
    layers = []
    for i, operation in enumerate(operations):
        detail = tuple(", ".join({r.detail: None for _, r in f.reads[i]}) for f in fields)
        if any(detail):
            layers.append(
                Layer(
                    name=operation.module,
                    operation=operation.layer,
                    detail=detail,
                    stride=tuple(field.stride(i) for field in fields),
                    size=tuple(int(field.sizes(i).max()) for field in fields),
                )
            )
    return tuple(layers)


def _across(values: Sequence[object], separator: str = " x ") -> str:
    """One entry if all axes agree, else all of them."""
    texts = [str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else separator.join(texts)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
