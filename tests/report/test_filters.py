"""Learned filters as images."""

import numpy as np
import pytest
from PIL import Image
from torch import nn

from spikewright.errors import ConfigError
from spikewright.report.filters import draw_filters, filter_figure, receptive_fields


def test_a_deeper_field_is_what_a_transposed_convolution_spreads():
    first, second = nn.Conv2d(2, 5, 3, bias=False), nn.Conv2d(5, 4, 2, bias=False)
    found = receptive_fields(second.weight, receptive_fields(first.weight), 2)
    spread = nn.functional.conv_transpose2d(second.weight, first.weight, stride=2)
    assert found.shape == (4, 2, 5, 5)
    assert found == pytest.approx(spread.detach().numpy(), abs=1e-6)


def test_an_image_a_layer(tmp_path):
    body = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 300, 2))
    for layer in ("0", "3"):
        path = draw_filters(body, tmp_path, layer)
        pixels = np.asarray(Image.open(path).convert("L"))
        assert path.name == f"filters-{layer}.png" and len(np.unique(pixels)) > 20
    assert "300 filters (the first 256)" in filter_figure(np.zeros((300, 3, 2, 2)), "x").axes[0].get_title()
    with pytest.raises(ConfigError, match="'9'"):
        draw_filters(body, tmp_path, "9")
    with pytest.raises(ConfigError):
        filter_figure(np.zeros((0, 3, 2, 2)), "x")
