"""Dense networks of spike times from the papers' notation."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from spikewright.arch.notation import Dense as DenseToken
from spikewright.arch.notation import parse
from spikewright.arch.parts import Data, shape_and_classes
from spikewright.errors import ConfigError

__all__ = ["Uniform", "dense"]


@dataclass(frozen=True)
class Uniform:
    """First weights of a layer, from U(low, high); those of neighbouring pixels alike, if asked for.

    Neurons that begin as white noise keep most of it, where learning moves weights little; smooth ones do not tell
    images apart by single pixels.

    Args:
        low, high: of the uniform distribution.
        smooth: side of the square of pixels over which weights are averaged around their mean, images continued beyond
            their edges from the other side, and then multiplied by `smooth`, which gives them back U's variance.
        shape: [channels, height, width] of the inputs, where smooth is above 1.

    Raises ConfigError if smooth is above 1 and the inputs are no images as large as the square.
    """

    low: float
    high: float
    smooth: int = 1
    shape: tuple[int, ...] = ()

    def __call__(self, neurons: int, inputs: int, generator: torch.Generator | None = None) -> Tensor:
        """Weights [neurons, inputs]."""
        drawn = torch.empty(neurons, inputs).uniform_(self.low, self.high, generator=generator)
        if self.smooth == 1 or not neurons:
            return drawn
        if self.smooth < 1 or len(self.shape) != 3 or self.smooth > min(self.shape[1:]):
            raise ConfigError(f"weights smooth over {self.smooth} pixels need images of at least that height and width")
        mean, around = (self.low + self.high) / 2, (self.smooth // 2, (self.smooth - 1) // 2) * 2
        images = pad((drawn - mean).view(neurons, *self.shape), around, mode="circular")
        return (avg_pool2d(images, self.smooth, 1) * self.smooth + mean).flatten(1)


def dense(spec: str, data: Data, layer: Callable[[int, int], nn.Module], inputs: int | None = None) -> nn.Sequential:
    """ "400-10" -> flatten, fc1, fc2: a layer(inputs, neurons) for every number.

    Args:
        spec: numbers of neurons; the input's size may stand in front.
        data: a data set or shape, from which the inputs and the number of classes are taken.
        inputs: inputs of the first layer, where they are not the data's values.

    Raises ConfigError for tokens other than dense layers, or a last layer that is no multiple of the classes.
    """
    shape, classes = shape_and_classes(data, None)
    parsed = parse(spec)
    size = inputs if inputs is not None or shape is None else math.prod(length or 1 for length in shape)
    tokens = list(parsed.tokens)
    if len(tokens) > 1 and isinstance(tokens[0], DenseToken) and tokens[0].plain and tokens[0].features == size:
        tokens.pop(0)
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for k, token in enumerate(tokens, start=1):
        if not isinstance(token, DenseToken):
            raise parsed.error(token, "networks of spike times are dense: expected numbers of neurons, like 400-10")
        layers.append((f"fc{k}", layer(size or 1, token.features)))
        size = token.features
    if classes and size and size % classes:
        raise parsed.error(tokens[-1], f"the last layer must be a multiple of the {classes} classes")
    return nn.Sequential(OrderedDict(layers))
