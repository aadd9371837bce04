"""The papers' notation for networks, read into tokens: "15C5-P2-40C5-P2-300-10".

Tokens are separated by `-`; letters may be of either case.

========================  ==============================================================================================
`28x28`, `34x34x2`        the input, height x width [x channels]; first token only
`784`                     the input, flattened; first token only
`15C5`                    convolution, 15 channels, kernel 5 (`15C` alone: kernel 3), then a neuron. Padding is 1 for
                          kernel 3, else 0; `15C5p2`, `64C3s2p1` or `15C5(p2)` set padding and stride
`P2`, `AP2`, `MP2`        pooling over 2x2 (`P` alone: 2): the `pool` given, average, maximum; `MP3s2` has a stride
`300`, `300FC`            dense layer, then a neuron
`BN`                      batch norm between the layer before it and that layer's neuron
`DP0.5`, `D0.5`           dropout
`GAP`                     global average pool
========================  ==============================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from spikewright.errors import ConfigError

__all__ = ["BatchNorm", "Conv", "Dense", "Dropout", "GlobalPool", "Input", "Pool", "Spec", "Token", "parse"]

FORMS = (
    "15C5 or 15C5p2s1 (convolution: channels, kernel, padding, stride), P2, AP2 or MP2 (pooling), "
    "300 or 300FC (dense), BN, DP0.5 (dropout), GAP, and as the first 28x28, 34x34x2 or 784 (input)"
)
LARGEST = 1_000_000


@dataclass(frozen=True)
class Token:
    """One word of the notation and where it stands, counted from 1."""

    text: str
    position: int


@dataclass(frozen=True)
class Input(Token):
    height: int
    width: int
    channels: int | None


@dataclass(frozen=True)
class Conv(Token):
    channels: int
    kernel: int
    padding: int
    stride: int


@dataclass(frozen=True)
class Pool(Token):
    kind: str  # "P", "AP" or "MP"
    kernel: int
    stride: int


@dataclass(frozen=True)
class Dense(Token):
    features: int
    plain: bool  # written without "FC": as the first token it may be the input's size


@dataclass(frozen=True)
class BatchNorm(Token):
    pass


@dataclass(frozen=True)
class Dropout(Token):
    rate: float


@dataclass(frozen=True)
class GlobalPool(Token):
    pass


@dataclass(frozen=True)
class Spec:
    """A parsed network: what to call it in messages, and its tokens in order."""

    label: str
    tokens: tuple[Token, ...]

    def error(self, token: Token, problem: str) -> ConfigError:
        """A one-line error that names the network, the token and its position."""
        return _error(self.label, token.text, token.position, problem)


def parse(text: str, label: str | None = None) -> Spec:
    """Read notation into tokens.

    Args:
        text: the notation.
        label: what messages call the network; the notation itself by default.

    Raises:
        ConfigError: nothing in it, a token that is none of the forms above, or a number out of its range.
    """
    label = label or text
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"architecture {text!r} is empty; expected a name or notation such as '15C5-P2-300-10'")
    words = [word.strip() for word in text.split("-")]
    return Spec(label, tuple(_token(word, position, label) for position, word in enumerate(words, start=1)))


def _token(word: str, position: int, label: str) -> Token:
    for pattern, read in _READERS:
        if match := pattern.fullmatch(word):
            try:
                return read(match, word, position)
            except _OutOfRange as problem:
                raise _error(label, word, position, str(problem)) from None
    raise _error(label, word, position, f"is not understood; accepted: {FORMS}")


def _error(label: str, word: str, position: int, problem: str) -> ConfigError:
    return ConfigError(f"architecture {label!r}: token {position}, {word!r}, {problem}")


class _OutOfRange(Exception):
    """A number in a token that cannot be meant; says what was found and expected."""


def _number(digits: str, what: str, least: int = 1) -> int:
    if len(digits) > len(str(LARGEST)) or not least <= int(digits) <= LARGEST:
        raise _OutOfRange(f"has {what} {digits[:12]}; expected a whole number from {least} to {LARGEST}")
    return int(digits)


def _input(match: re.Match[str], word: str, position: int) -> Token:
    if position != 1:
        raise _OutOfRange("is the size of an input; put it first or leave it out")
    height, width, channels = match.groups()
    return Input(
        word,
        position,
        height=_number(height, "height"),
        width=_number(width, "width"),
        channels=_number(channels, "channels") if channels else None,
    )


def _conv(match: re.Match[str], word: str, position: int) -> Token:
    channels, kernel_digits, suffixes = match.groups()
    kernel = _number(kernel_digits or "3", "kernel")
    found = re.findall(r"([ps])(\d+)", suffixes.lower())
    given = dict(found)
    if len(given) != len(found):
        raise _OutOfRange("gives padding or stride twice; keep one p and one s")
    return Conv(
        word,
        position,
        channels=_number(channels, "channels"),
        kernel=kernel,
        padding=_number(given.get("p", "1" if kernel == 3 else "0"), "padding", least=0),
        stride=_number(given.get("s", "1"), "stride"),
    )


def _pool(match: re.Match[str], word: str, position: int) -> Token:
    kind, digits, stride = match.groups()
    kernel = _number(digits or "2", "kernel")
    return Pool(word, position, kind.upper(), kernel, _number(stride, "stride") if stride else kernel)


def _dense(match: re.Match[str], word: str, position: int) -> Token:
    return Dense(word, position, features=_number(match[1], "features"), plain=not match[2])


def _dropout(match: re.Match[str], word: str, position: int) -> Token:
    rate = float(match[1])
    if not 0 <= rate < 1:
        raise _OutOfRange(f"has rate {rate:g}; expected at least 0 and less than 1, such as DP0.5")
    return Dropout(word, position, rate)


def _batch_norm(match: re.Match[str], word: str, position: int) -> Token:
    return BatchNorm(word, position)


def _global_pool(match: re.Match[str], word: str, position: int) -> Token:
    return GlobalPool(word, position)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.ASCII)


_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], str, int], Token]], ...] = (
    (_pattern(r"(\d+)x(\d+)(?:x(\d+))?"), _input),
    (_pattern(r"(\d+)C(\d*)((?:[ps]\d+|\((?:[ps]\d+)+\))*)"), _conv),
    (_pattern(r"(AP|MP|P)(\d*)(?:s(\d+))?"), _pool),
    (_pattern(r"(\d+)(FC)?"), _dense),
    (_pattern(r"D(?:P|ROP)?(\d+|\d*\.\d+)"), _dropout),
    (_pattern(r"BN"), _batch_norm),
    (_pattern(r"GAP"), _global_pool),
)
