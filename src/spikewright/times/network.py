"""Dense networks of spike times from the papers' notation."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from spikewright.arch.notation import Dense as DenseToken
from spikewright.arch.notation import parse
from spikewright.arch.parts import Data, shape_and_classes

__all__ = ["dense"]


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
