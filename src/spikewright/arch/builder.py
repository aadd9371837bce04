"""From tokens to an `nn.Sequential` with readable names, checking every size on the way."""

from __future__ import annotations

import math

from torch import nn

from spikewright.arch.notation import BatchNorm, Conv, Dense, Dropout, GlobalPool, Input, Pool, Spec, Token
from spikewright.arch.parts import Parts, Shape
from spikewright.errors import ConfigError

__all__ = ["build"]

UNKNOWN: Shape = (None, None, None)
POOLS: dict[str, type[nn.Module]] = {"AP": nn.AvgPool2d, "MP": nn.MaxPool2d}


def build(spec: Spec, parts: Parts, shape: Shape | None = None, num_classes: int | None = None) -> nn.Sequential:
    """Lay out a parsed network.

    Args:
        spec: the tokens.
        parts: which neuron, pool, bias, norm and dropout to put in.
        shape: the input, `(C, H, W)` or `(features,)`; None leaves what depends on it to lazy modules.
        num_classes: the last layer must be a multiple of it; None: not checked.

    Raises:
        ConfigError: tokens in an order that makes no network, or sizes that do not fit together.
    """
    shape, tokens = _split_input(spec, shape)
    output = _output_layer(spec, tokens, num_classes)
    layout = _Layout(spec, parts, shape)
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        match token:
            case Conv() | Dense():
                norm = isinstance(following, BatchNorm) or (parts.batch_norm and isinstance(token, Conv))
                layout.weights(token, norm=norm, neuron=token is not output or parts.neuron_at_output)
            case Pool():
                layout.pool(token)
            case GlobalPool():
                layout.global_pool(token)
            case Dropout():
                layout.add("drop", parts.dropout(token.rate))
    layout.flatten()
    return layout.net


class _Layout:
    """A network under construction: its children so far, and the shape that reaches the next one."""

    def __init__(self, spec: Spec, parts: Parts, shape: Shape) -> None:
        self.spec = spec
        self.parts = parts
        self.source = shape
        self.shape = shape
        self.layer = 0
        self.net = nn.Sequential()
        if (normalize := parts.new_normalize(shape)) is not None:
            self.net.add_module("normalize", normalize)

    def add(self, kind: str, module: nn.Module) -> None:
        """Append a child named by its kind and its layer: "pool1", and "pool1_2" for a second one."""
        taken = dict(self.net.named_children())
        name, nth = f"{kind}{self.layer}", 2
        while name in taken:
            name, nth = f"{kind}{self.layer}_{nth}", nth + 1
        self.net.add_module(name, module)

    def weights(self, token: Conv | Dense, *, norm: bool, neuron: bool) -> None:
        """A convolution or dense layer, its batch norm and its neuron."""
        if isinstance(token, Conv):
            self._conv(token)
        else:
            self._dense(token)
        if norm:
            self.add(
                "bn", nn.BatchNorm2d(token.channels) if isinstance(token, Conv) else nn.BatchNorm1d(token.features)
            )
        if neuron:
            self.add("neuron", self.parts.new_neuron())

    def _conv(self, token: Conv) -> None:
        before = self.shape[0]
        self.shape = (token.channels, *self._window(token, token.padding))
        self.layer += 1
        kernel, stride, padding, bias = token.kernel, token.stride, token.padding, self.parts.bias is not False
        if before is None:
            self.add("conv", nn.LazyConv2d(token.channels, kernel, stride, padding, bias=bias))
        else:
            self.add("conv", nn.Conv2d(before, token.channels, kernel, stride, padding, bias=bias))

    def _dense(self, token: Dense) -> None:
        self.flatten()
        (before,) = self.shape
        self.shape = (token.features,)
        self.layer += 1
        bias = self.parts.bias is not False
        if before is None:
            self.add("fc", nn.LazyLinear(token.features, bias=bias))
        else:
            self.add("fc", nn.Linear(before, token.features, bias=bias))

    def pool(self, token: Pool) -> None:
        self.shape = (self.shape[0], *self._window(token))
        pool = POOLS.get(token.kind) or self.parts.pool or nn.AvgPool2d
        self.add("pool", pool(token.kernel) if token.stride == token.kernel else pool(token.kernel, token.stride))

    def global_pool(self, token: Token) -> None:
        self._require_image(token)
        self.shape = (self.shape[0], 1, 1)
        self.add("gap", nn.AdaptiveAvgPool2d(1))

    def flatten(self) -> None:
        """`[N, C, H, W] -> [N, C·H·W]`, once, before the first dense layer or at the end."""
        if "flatten" not in dict(self.net.named_children()):
            self.net.add_module("flatten", nn.Flatten())
            self.shape = (_product(self.shape),)

    def _window(self, token: Conv | Pool, padding: int = 0) -> tuple[int | None, int | None]:
        """Height and width after a sliding window; checks that the window fits."""
        self._require_image(token)
        _, height, width = self.shape
        reached = min((size for size in (height, width) if size is not None), default=None)
        if reached is not None and reached + 2 * padding < token.kernel:
            raise self.spec.error(
                token,
                f"needs at least {token.kernel}x{token.kernel}, but what reaches it is {height}x{width}"
                f"{f' with padding {padding}' if padding else ''} (input {_text(self.source)}); "
                "use a smaller kernel, more padding or less pooling, or a larger input",
            )
        after = (None if n is None else (n + 2 * padding - token.kernel) // token.stride + 1 for n in (height, width))
        height, width = after
        return height, width

    def _require_image(self, token: Token) -> None:
        if len(self.shape) != 3:
            raise self.spec.error(
                token,
                f"needs an image, but what reaches it is flat, {self.shape[0]} features; put it before dense layers",
            )


def _split_input(spec: Spec, shape: Shape | None) -> tuple[Shape, tuple[Token, ...]]:
    """The input's shape from data and from the notation, which must agree, and the tokens of the layers."""
    first, rest = spec.tokens[0], spec.tokens[1:]
    if isinstance(first, Input):
        declared = (first.channels, first.height, first.width)
        if shape is None:
            return declared, rest
        if len(shape) != 3 or any(d is not None and d != found for d, found in zip(declared, shape, strict=True)):
            raise spec.error(
                first, f"declares the input, but the data is {_text(shape)}; leave it out or take data of that size"
            )
        return shape, rest
    if isinstance(first, Dense) and first.plain:
        if shape is None:
            return (first.features,), rest
        if rest and first.features == _product(shape):
            return shape, rest
    return shape or UNKNOWN, spec.tokens


def _output_layer(spec: Spec, tokens: tuple[Token, ...], num_classes: int | None) -> Conv | Dense:
    """The last layer with weights, whose features are the scores; checks the order of the tokens."""
    previous: Token | None = None
    for token in tokens:
        if isinstance(token, BatchNorm) and not isinstance(previous, Conv | Dense):
            raise spec.error(
                token, "is a batch norm that follows no layer; put it right after a convolution or dense one"
            )
        previous = token
    layers = [token for token in tokens if isinstance(token, Conv | Dense)]
    ending = [token for token in tokens if not isinstance(token, BatchNorm)]
    if not layers or not isinstance(ending[-1], Dense | GlobalPool):
        last = spec.tokens[-1]
        if layers:
            found = f"it ends with token {last.position}, {last.text!r}"
        else:
            found = "no layer with weights comes after the input" if len(tokens) < len(spec.tokens) else "it has none"
        raise ConfigError(
            f"architecture {spec.label!r} has no final dense layer: {found}; "
            f"end it with the number of classes ('-{num_classes or 10}'), or with that many channels and GAP"
        )
    output = layers[-1]
    scores = output.channels if isinstance(output, Conv) else output.features
    if num_classes is not None and scores % num_classes:
        raise spec.error(
            output,
            f"is the last layer with {scores} outputs, but the data has {num_classes} classes; "
            f"make it {num_classes} or a multiple of it",
        )
    return output


def _product(shape: Shape) -> int | None:
    known = [size for size in shape if size is not None]
    return math.prod(known) if len(known) == len(shape) else None


def _text(shape: Shape) -> str:
    """`(C, H, W)` as the notation writes it, "28x28x1"."""
    channels, *size = ("?" if n is None else str(n) for n in shape)
    return "x".join([*size, channels])
