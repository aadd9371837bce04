"""The commands `neuron` and `encode`."""

import json

import numpy as np
import pytest
from PIL import Image

from spikewright.cli import main


def test_neuron_prints_spike_times_and_draws_the_trace(tmp_path, capsys):
    out = tmp_path / "trace.png"
    words = ["neuron", "izhikevich", "--pattern", "RS", "--current", "10", "--duration", "80", "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "3 spikes in 80 ms" in said and "3.4 27.1 72.2" in said
    with Image.open(out) as image:
        assert image.size[0] > 1000 and len(np.unique(np.array(image))) > 20
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["times_ms"] == [3.4, 27.1, 72.2]


@pytest.mark.parametrize("scheme", ["latency", "population", "weighted-phase", "bernoulli", "direct"])
def test_encode_draws_the_raster(scheme, tmp_path, capsys):
    image = np.zeros((12, 12), np.uint8)
    image[3:9, 3:9] = np.arange(36).reshape(6, 6) * 7
    Image.fromarray(image).save(tmp_path / "digit.png")
    out = tmp_path / "raster.png"
    words = ["encode", str(tmp_path / "digit.png"), "--scheme", scheme, "--steps", "8", "--size", "12"]
    assert main([*words, "--out", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["scheme"] == scheme and facts["inputs"] == (864 if scheme == "population" else 144)
    assert 0 < facts["spikes"] < facts["inputs"] * 8 and out.stat().st_size > 5000


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["neuron", "izhikevitch"], 2, "izhikevich"),
        (["neuron", "izhikevich", "--pattern", "XX"], 2, "'XX'"),
        (["neuron", "izhikevich", "--duration", "-1"], 2, "steps"),
        (["neuron"], 2, "a neuron"),
        (["encode", "no-such.png"], 3, "no-such.png"),
        (["encode", "no-such.png", "--scheme", "latnecy"], 2, "latency"),
        (["encode", "no-such.png", "--steps", "0"], 2, "--steps is 0"),
        (["encode", "no-such.png", "--size", "0"], 2, "size is 0"),
    ],
)
def test_mistakes_get_one_line(words, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error and not list(tmp_path.iterdir())
