"""AutoAugment's policy for CIFAR-10 (Cubuk, Zoph, Mane, Vasudevan, Le 2019, table 7), a batch at a time.

The operations are those of the Python imaging library on 8-bit images, as in the paper, on images [N, C, H, W] of
float32 whole numbers 0..255 with a strength [N] each, wherever they lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import conv2d

# Two operations each: name, probability, magnitude 0..9 (where the operation has none: 0).
POLICY = (
    (("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
    (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
)


def _blend(there: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """From `there` towards x, as far as `factor` says: 1 is x."""
    return (there + factor.view(-1, 1, 1, 1) * (x - there)).clamp(0, 255).floor()


def _grey(x: Tensor) -> Tensor:
    """ITU-R 601 luma [N, 1, H, W] of colours, other images' channels as they are."""
    if x.shape[1] != 3:
        return x
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32, device=x.device).view(1, 3, 1, 1)
    return (((x.int() * weights).sum(1, keepdim=True) + 0x8000) >> 16).to(x.dtype)


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Towards black at 0."""
    return _blend(torch.zeros_like(x), x, factor)


def color(x: Tensor, factor: Tensor) -> Tensor:
    """Towards grey at 0."""
    return _blend(_grey(x).expand_as(x), x, factor)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Towards the mean grey of the image at 0."""
    mean = (_grey(x).mean((1, 2, 3), keepdim=True) + 0.5).floor()
    return _blend(mean.expand_as(x), x, factor)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Towards the image smoothed by 3 x 3 pixels, the middle one five times, at 0."""
    kernel = x.new_ones(x.shape[1], 1, 3, 3)
    kernel[..., 1, 1] = 5
    smooth = x.clone()  # at the edges, where the kernel does not fit, images stay
    if min(x.shape[-2:]) > 2:
        smooth[..., 1:-1, 1:-1] = (conv2d(x, kernel, groups=x.shape[1]) / 13 + 0.5).floor()
    return _blend(smooth, x, factor)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Only the highest `bits` of 8."""
    step = 2 ** (8 - bits.view(-1, 1, 1, 1))
    return (x / step).floor() * step


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """The negative from `threshold` on."""
    return torch.where(x < threshold.view(-1, 1, 1, 1), x, 255 - x)


def invert(x: Tensor, _: Tensor) -> Tensor:
    """The negative."""
    return 255 - x


def autocontrast(x: Tensor, _: Tensor) -> Tensor:
    """Each channel stretched to 0..255."""
    low, high = x.amin((2, 3), keepdim=True).double(), x.amax((2, 3), keepdim=True).double()
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)  # a number over a tensor rounds twice
    stretched = (x * scale - low * scale).clamp(0, 255).floor().to(x.dtype)
    return torch.where(high > low, stretched, x)


def equalize(x: Tensor, _: Tensor) -> Tensor:
    """Each channel's levels spread so that all are about as frequent."""
    planes = x.flatten(2).long()  # [N, C, H W]
    counts = torch.zeros(*planes.shape[:2], 256, dtype=torch.long, device=x.device)
    counts.scatter_add_(2, planes, torch.ones_like(planes))
    brightest = counts.gather(2, planes.amax(2, keepdim=True))
    step = (planes.shape[2] - brightest) // 255
    table = ((counts.cumsum(2) - counts + step // 2) // step.clamp(min=1)).clamp(max=255)
    return torch.where((step > 0)[..., None], table.gather(2, planes).view_as(x).to(x.dtype), x)


def rotation(degrees: Tensor, height: int, width: int) -> dict[str, Tensor]:
    """Around the middle, against the clock."""
    cos, sin = torch.cos(degrees * math.pi / 180), torch.sin(degrees * math.pi / 180)
    x, y = width / 2, height / 2
    return {"xx": cos, "xy": -sin, "x1": x - cos * x + sin * y, "yx": sin, "yy": cos, "y1": y - sin * x - cos * y}


COLOURS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "Brightness": (brightness, lambda m, sign: (10 + sign * m) / 10),
    "Color": (color, lambda m, sign: (10 + sign * m) / 10),
    "Contrast": (contrast, lambda m, sign: (10 + sign * m) / 10),
    "Sharpness": (sharpness, lambda m, sign: (10 + sign * m) / 10),
    "Posterize": (posterize, lambda m, _: (8 - m * 4 / 9).round()),
    "Solarize": (solarize, lambda m, _: 256 - m * 256 / 9),
    "Invert": (invert, lambda m, _: m),
    "AutoContrast": (autocontrast, lambda m, _: m),
    "Equalize": (equalize, lambda m, _: m),
}
"""An operation on colours and its strength, from the magnitude and a random sign."""

MOVES: dict[str, tuple[Callable[[Tensor, int, int], Mapping[str, Tensor]], float]] = {
    "ShearX": (lambda s, height, width: {"xy": s}, 0.3),
    "ShearY": (lambda s, height, width: {"yx": s}, 0.3),
    "TranslateX": (lambda s, height, width: {"x1": s * width}, 150 / 331),
    "TranslateY": (lambda s, height, width: {"y1": s * height}, 150 / 331),
    "Rotate": (rotation, 30.0),
}
"""Where a move takes pixels from, see `moved`, and its strength at magnitude 9."""


def moved(x: Tensor, entries: Mapping[str, Tensor], fill: Tensor) -> Tensor:
    """Each pixel from where a matrix takes its middle, the nearest there.

    Args:
        entries: of the matrix, where it is not the identity, [N] each: "x1" is what the 1 of (x, y, 1) adds to x.
        fill: [C, 1], beyond the edges.
    """
    height, width = x.shape[-2:]
    matrix = torch.eye(2, 3, device=x.device).repeat(len(x), 1, 1)
    for name, value in entries.items():
        matrix[:, "xy".index(name[0]), "xy1".index(name[1])] = value
    rows, cols = torch.meshgrid(*(torch.arange(n, device=x.device) + 0.5 for n in (height, width)), indexing="ij")
    col, row = (matrix @ torch.stack([cols, rows, torch.ones_like(rows)]).flatten(1)).floor().long().unbind(1)
    inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
    index = torch.where(inside, row * width + col, 0)[:, None].expand(-1, x.shape[1], -1)
    return torch.where(inside[:, None], x.flatten(2).gather(2, index), fill).view_as(x)


def apply(name: str, x: Tensor, magnitude: Tensor, sign: Tensor, fill: Tensor) -> Tensor:
    """The operation called `name` at a magnitude 0..9 for each image [N], `sign` 1 or -1: which way it goes."""
    if name in COLOURS:
        operation, strength = COLOURS[name]
        return operation(x, strength(magnitude, sign))
    entries, most = MOVES[name]
    return moved(x, entries(sign * magnitude * most / 9, *x.shape[-2:]), fill)


def autoaugment(x: Tensor, fill: tuple[float, ...], generator: torch.Generator) -> Tensor:
    """Images [B, C, H, W] in 0..1, each changed by one of the policy's 25 pairs of operations.

    Two translations in the same direction can leave next to nothing of an image, about one in a hundred.

    Args:
        fill: what is left where an image was moved away, in 0..1, one value a channel.
    """
    names, chances, magnitudes = zip(*(zip(*pair, strict=True) for pair in POLICY), strict=True)
    x = (x * 255).round()
    edge = x.new_tensor(fill).mul(255).round().view(-1, 1)
    chosen = torch.randint(len(POLICY), (len(x),), generator=generator, device=generator.device).tolist()
    for k in range(2):
        luck, side = torch.rand((2, len(x)), generator=generator, device=generator.device).tolist()
        due: dict[str, list[int]] = {}
        for n, pair in enumerate(chosen):
            if luck[n] < chances[pair][k]:
                due.setdefault(names[pair][k], []).append(n)
        for name, images in due.items():
            magnitude = x.new_tensor([magnitudes[chosen[n]][k] for n in images])
            sign = x.new_tensor([1.0 if side[n] < 0.5 else -1.0 for n in images])
            x[images] = apply(name, x[images], magnitude, sign, edge)
    return x / 255
