"""One passage of a body over a block of steps: a chain of layers is walked here, any other module is called as it is.

What a plain `nn.Sequential` allows, with the same result:
- a constant current (direct encoding) passes the layers before the first neuron once, not T times, and in float32;
- an average pool behind a neuron is done inside the neuron's kernel, so its spikes never reach memory;
- images travel channels-last, which convolutions and pooled neurons like best.

A layer with a hook on it is called as it is, so that whoever watches it sees every step. Batch norm in training sees a
constant current once as well: mean and variance are those of the T equal copies, but Bessel's correction in the running
variance counts B samples instead of T*B.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from spikewright.clock import Clock, Temporal

__all__ = ["passage"]

SAMPLEWISE = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Linear,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
    nn.ReLU,
)
"""Layers that do the same with equal samples (one of another library says so by an attribute `samplewise = True`)."""


def passage(body: nn.Module, current: Tensor, clock: Clock) -> Tensor:
    """Run a body over a block of steps: current [T, B, ...] -> [T*B, ...]. `current` itself stays untouched."""
    constant = clock.steps > 1 and current.stride(0) == 0
    x = current[0] if constant else current.flatten(0, 1)
    if x.untyped_storage().data_ptr() == current.untyped_storage().data_ptr():
        x = x.clone()  # a layer that works in place must not reach the caller's tensor
    if not _walkable(body):
        return body(_repeated(x, clock) if constant else x)
    x, constant = _walk(body, _channels_last(x), constant, clock)
    return _repeated(x, clock) if constant else x


def _walk(chain: nn.Sequential, x: Tensor, constant: bool, clock: Clock) -> tuple[Tensor, bool]:
    """x [B, ...] if it is constant in time, else [T*B, ...]; the same for what comes out."""
    layers = list(chain)
    while layers:
        layer = layers.pop(0)
        if _walkable(layer):
            x, constant = _walk(layer, x, constant, clock)
        elif isinstance(layer, Temporal) and type(layer).forward is Temporal.forward and _unwatched(layer):
            how = {}
            if x.dim() == 4 and layers and (pool := _pool_of(layer, layers[0])):
                how["pool"] = pool
                layers.pop(0)
            if x.requires_grad and x.dim() == 4:  # a loop over steps stacks its gradients in the other order
                x.register_hook(_channels_last)
            block = x.expand(clock.steps, *x.shape) if constant else clock.fold(layer, x)
            x = clock.advance(layer, block, **how).flatten(0, 1)
            constant = False
        elif constant and _samplewise(layer) and _unwatched(layer):
            if torch.is_autocast_enabled(x.device.type):  # which would have taken an image of another precision
                x = x.to(next((p.dtype for p in layer.parameters()), x.dtype))
            with torch.autocast(x.device.type, enabled=False):  # once a sample: no need to round the image
                x = layer(x)
        else:
            x, constant = layer(_repeated(x, clock) if constant else x), False
    return x, constant


def _pool_of(neuron: nn.Module, layer: nn.Module) -> int:
    """k if the layer is an average pool over k x k that the neuron before it can do, else 0."""
    if type(layer) is not nn.AvgPool2d or not (isinstance(neuron, Temporal) and neuron.pools):
        return 0
    sizes = {*_pair(layer.kernel_size), *_pair(layer.stride)}
    plain = len(sizes) == 1 and set(_pair(layer.padding)) == {0} and not layer.ceil_mode and not layer.divisor_override
    return sizes.pop() if plain and _unwatched(layer) else 0


def _pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return size if isinstance(size, tuple) else (size, size)


def _walkable(module: nn.Module) -> TypeGuard[nn.Sequential]:
    return type(module) is nn.Sequential and _unwatched(module)


def _samplewise(module: nn.Module) -> bool:
    return type(module) in SAMPLEWISE or getattr(module, "samplewise", False)


def _unwatched(module: nn.Module) -> bool:
    """Whether calling its parts, or doing its work elsewhere, escapes nobody's notice."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or hooks._global_forward_hooks
        or hooks._global_forward_pre_hooks
        or hooks._global_backward_hooks
        or hooks._global_backward_pre_hooks
        or "forward" in vars(module)  # somebody put another one in its place
    )


def _repeated(x: Tensor, clock: Clock) -> Tensor:
    """A constant [B, ...] at every step: [T*B, ...], images channels-last as they came."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).expand(clock.steps, -1, -1, -1, -1).flatten(0, 1).permute(0, 3, 1, 2)
    return x.expand(clock.steps, *x.shape).flatten(0, 1)


def _channels_last(x: Tensor) -> Tensor:
    if x.dim() != 4:
        return x
    if x.shape[1] == 1:  # the same memory, but torch asks the strides which of the two layouts is meant
        return x.flatten(1).unflatten(1, (*x.shape[2:], 1)).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)
