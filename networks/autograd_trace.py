"""What a network computes, read from its autograd graph without running a weight."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Operand:
    """One tensor an operation reads: its slot, the operation that made it, and its shape."""

    slot: int
    producer: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One node of the autograd graph, with the operands that lead back to the input.

    Args:
        node: the node itself, which keeps the operation's parameters.
        kind: its name without the ``Backward0`` at the end.
        module: path of the leaf module whose output it is, or ``""``.
        layer: class of that module, or ``kind``.
        shape: of its output.
        operands: in the order of their slots.
    """

    node: Any
    kind: str
    module: str
    layer: str
    shape: tuple[int, ...]
    operands: tuple[Operand, ...]

    def saved(self, name: str) -> Any:
        """A parameter that torch kept for the backward pass, such as ``stride``."""
        return getattr(self.node, f"_saved_{name}")

    def saved_dims(self, name: str, dims: int) -> tuple[int, ...]:
        """Saved dimensions of a tensor of ``dims``, counted from the front.

        Torch keeps -1 as an unsigned number, and one dimension or several under one name.
        """
        value = self.saved(name)
        values = (value,) if isinstance(value, int) else value or ()
        return tuple(signed(value) % dims for value in values)

    def __str__(self) -> str:
        name = self.node.name()
        return f"{name} at {self.module} ({self.layer})" if self.module else name


def signed(saved: int) -> int:
    return saved - 2**64 if saved >= 2**63 else saved


def trace_network(network: nn.Module, input_shape: Sequence[int]) -> list[Operation]:
    """Operations between a network's input and its output, producers before consumers.

    A copy of the network without values runs once on the ``meta`` device in the network's own
    mode, train or eval; the network itself is neither moved nor changed. The first entry stands
    for the input, the last one makes the output.

    Args:
        network: takes one tensor and returns one tensor.
        input_shape: ``(B, C, *spatial)``.

    Raises:
        ValueError: if the network cannot run on this shape, returns no single tensor, or its
            output does not depend on its input through differentiable operations.
    """
    modules: dict[Any, tuple[str, str]] = {}
    with torch.inference_mode(False), torch.enable_grad():
        clone = _valueless_copy(network)
        for name, module in clone.named_modules():
            if not any(module.children()):
                module.register_forward_hook(_note_module(modules, name))
        dtypes = [p.dtype for p in clone.parameters() if p.is_floating_point()] or [torch.float32]
        leaf = torch.empty(tuple(input_shape), dtype=dtypes[0], device="meta", requires_grad=True)
        # The clone lets a network begin with an in-place operation, which a leaf forbids.
        image = leaf.clone()
        root = image.grad_fn
        try:
            with torch.device("meta"), _MarkWindowNorms():
                output = clone(image)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ValueError(
                f"input_shape must be one the network can run on, got {tuple(input_shape)}: {error}"
            ) from error
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"the network must return one tensor, got {type(output).__name__}")
    operations = _between(root, output.grad_fn, modules)
    if not operations:
        raise ValueError(
            "the network's output must depend on its input through differentiable operations"
        )
    return operations


def _valueless_copy(network: nn.Module) -> nn.Module:
    """The network with every parameter and buffer on ``meta``, whatever its size."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(
            torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad
        )
        for parameter in network.parameters()
    }
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, memo)


def _note_module(modules: dict[Any, tuple[str, str]], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.grad_fn is not None:
            modules.setdefault(output.grad_fn, (name, type(module).__name__))

    return hook


class WindowNorm(torch.autograd.Function):
    """Stands in the graph for a norm that takes its statistics over the window."""

    @staticmethod
    def forward(_context: Any, image: torch.Tensor, *_affine: torch.Tensor | None) -> torch.Tensor:
        return torch.empty_like(image)


class _MarkWindowNorms(TorchFunctionMode):
    """Runs batch norm in train mode, instance norm and group norm as `WindowNorm`.

    Torch returns instance norm as a view, and an in-place activation on a view hides itself in
    the autograd graph; statistics are also the slowest thing to work out on ``meta``.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        known = kwargs or {}
        if (
            func is F.group_norm
            or (func is F.instance_norm and known["use_input_stats"])
            or (func is F.batch_norm and known["training"])
        ):
            return WindowNorm.apply(args[0], known["weight"], known["bias"])
        return func(*args, **known)


def _between(root: Any, last: Any, modules: dict[Any, tuple[str, str]]) -> list[Operation]:
    """Operations on the paths from ``root`` to ``last``; empty if there is none."""
    position: dict[Any, int] = {root: 0}
    operations = [Operation(root, "Input", "", "Input", _shape(root, 0), ())]
    visited = {root}
    stack = [(last, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            operands = tuple(
                Operand(slot, position[producer], _shape(producer, output))
                for slot, (producer, output) in enumerate(node.next_functions)
                if producer in position
            )
            if operands:
                kind = re.sub(r"Backward\d*$", "", node.name())
                position[node] = len(operations)
                module, layer = modules.get(node, ("", kind))
                operations.append(Operation(node, kind, module, layer, _shape(node, 0), operands))
        elif node is not None and node not in visited:
            visited.add(node)
            stack.append((node, True))
            stack.extend((producer, False) for producer, _ in node.next_functions)
    return operations if last in position else []


def _shape(node: Any, output: int) -> tuple[int, ...]:
    return tuple(node._input_metadata[output].shape)
