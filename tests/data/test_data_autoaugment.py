"""AutoAugment's operations against the imaging library's, image by image, and the policy's odds."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from spikewright.data import Augment
from spikewright.data import autoaugment as parts
from spikewright.data.autoaugment import POLICY, apply, autoaugment
from spikewright.errors import ConfigError

FILL = (10, 20, 30)
AFFINE = {
    "ShearX": lambda s, w, h: (1, s * 0.3, 0, 0, 1, 0),
    "ShearY": lambda s, w, h: (1, 0, 0, s * 0.3, 1, 0),
    "TranslateX": lambda s, w, h: (1, 0, s * w * 150 / 331, 0, 1, 0),
    "TranslateY": lambda s, w, h: (1, 0, 0, 0, 1, s * h * 150 / 331),
}


def by_library(name: str, image: Image.Image, magnitude: int, sign: int) -> Image.Image:
    fill = FILL[: len(image.getbands())]
    filled = {"fillcolor": fill if len(fill) > 1 else fill[0]}
    if name in AFFINE:
        entries = AFFINE[name](sign * magnitude / 9, *image.size)
        return image.transform(image.size, Image.Transform.AFFINE, entries, **filled)
    if name == "Rotate":
        return image.rotate(sign * magnitude * 30 / 9, **filled)
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        return getattr(ImageEnhance, name)(image).enhance(1 + sign * magnitude / 10)
    if name == "Posterize":
        return ImageOps.posterize(image, round(np.linspace(8, 4, 10)[magnitude]))
    if name == "Solarize":
        return ImageOps.solarize(image, 256 - magnitude * 256 / 9)
    return getattr(ImageOps, name.lower())(image)


def images(channels: int) -> Tensor:
    """Noise, dark noise, a smooth slope, one colour, two colours, few grey levels: [6, C, 21, 16]."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (6, channels, 21, 16), generator=g).float()
    x[1] = (x[1] / 5).floor() + 7
    x[2] = (torch.arange(21)[:, None] * 8 + torch.arange(16) * 4 + torch.arange(channels)[:, None, None] * 5).float()
    x[3] = 77
    x[4] = torch.where(x[4] > 200, 90.0, 40.0)
    x[5] = (x[5] / 64).floor() * 20 + 100
    return x


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("magnitude", [0, 3, 8, 9])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", sorted(parts.COLOURS | parts.MOVES))
def test_operations_against_the_library(name: str, channels: int, magnitude: int, sign: int) -> None:
    x = images(channels)
    n = torch.ones(len(x))
    edge = torch.tensor(FILL[:channels]).float().view(-1, 1)
    found = apply(name, x.clone(), n * magnitude, n * sign, edge)
    wanted = torch.empty_like(x)
    for k, image in enumerate(x.byte()):
        array = image.permute(1, 2, 0).squeeze(2) if channels == 1 else image.permute(1, 2, 0)
        out = np.array(by_library(name, Image.fromarray(array.contiguous().numpy()), magnitude, sign))
        wanted[k] = torch.from_numpy(out).float().view(21, 16, channels).permute(2, 0, 1)
    assert found.min() >= 0 and found.max() <= 255 and torch.equal(found, found.floor())
    # Where a pixel's middle falls on another's edge, or a level on a whole number, rounding may decide differently.
    level = (found - wanted).abs()
    if name in parts.MOVES:
        assert (level > 0).float().mean() < 0.001
    else:
        assert not level.any()
    still = magnitude == 0 and name not in ("Invert", "AutoContrast", "Equalize")
    still = still or (name, channels) == ("Color", 1)
    assert torch.equal(found, x) if still else not torch.equal(found, x)


def test_every_image_has_its_own_strength() -> None:
    x = images(3)
    magnitude, sign = torch.tensor([0.0, 9, 5, 3, 9, 1]), torch.tensor([1.0, -1, 1, 1, 1, -1])
    edge = torch.zeros(3, 1)
    for name in parts.COLOURS | parts.MOVES:
        together = apply(name, x, magnitude, sign, edge)
        alone = [apply(name, x[k : k + 1], magnitude[k : k + 1], sign[k : k + 1], edge) for k in range(len(x))]
        assert torch.equal(together, torch.cat(alone))


def test_the_policy_draws_pairs_by_their_odds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[tuple[str, int, int]] = Counter()

    def note(name: str, x: Tensor, magnitude: Tensor, sign: Tensor, fill: Tensor) -> Tensor:
        seen.update((name, int(m), int(s)) for m, s in zip(magnitude, sign, strict=True))
        return x

    monkeypatch.setattr(parts, "apply", note)
    count = 50_000
    autoaugment(torch.zeros(count, 1, 1, 1), (0.0,), torch.Generator().manual_seed(0))
    odds: Counter[tuple[str, int]] = Counter()
    for name, chance, magnitude in (each for pair in POLICY for each in pair):
        odds[name, magnitude] += chance / len(POLICY)
    assert len(POLICY) == 25 and {(n, m) for n, m, _ in seen} == {key for key, chance in odds.items() if chance}
    for (name, magnitude), chance in odds.items():
        for sign in (1, -1):
            assert abs(seen[name, magnitude, sign] - count * chance / 2) < 5 * math.sqrt(count * chance / 2) + 1


def test_images_stay_images_and_most_change() -> None:
    x = images(3).repeat(20, 1, 1, 1) / 255
    before = x.clone()
    found = Augment(autoaugment=True, fill=(0.5, 0.5, 0.5))(x, torch.Generator().manual_seed(1))
    assert torch.equal(x, before) and found.shape == x.shape and found.min() >= 0 and found.max() <= 1
    assert 0.5 < (found != x).flatten(1).any(1).float().mean() < 1
    assert torch.equal(found, Augment(autoaugment=True, fill=(0.5,) * 3)(x, torch.Generator().manual_seed(1)))


def test_frames_of_events_are_refused() -> None:
    with pytest.raises(ConfigError, match="frames"):
        Augment(autoaugment=True)(torch.zeros(2, 3, 1, 5, 5), torch.Generator())
    with pytest.raises(ConfigError, match="autoaugment is 1"):
        Augment(autoaugment=1)  # type: ignore[arg-type]
