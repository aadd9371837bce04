"""Saving and loading: everything comes back as it was, and nothing but a sound file is taken."""

import json
import tracemalloc
from functools import partial

import cases
import pytest
import torch
from cases import F32, F64, assert_active, network, one_line
from safetensors.torch import save as safetensors_save
from torch import nn

from spikewright import surrogate
from spikewright.encode import Bernoulli
from spikewright.errors import ConfigError, ModelFileError, SpikewrightError
from spikewright.model_file import build, describe, load_model
from spikewright.neurons import LIF, PLIF, Factor, HardReset, Subtract, TSSLNeuron
from spikewright.readout import MaxMembrane, Vote
from spikewright.snn import SNN
from spikewright.storage import load_pair, save_pair


def assert_same_after_a_round_trip(snn, folder, x, body=None):
    snn.eval()
    snn.save(folder)
    loaded = load_model(folder, body)
    assert not loaded.training
    assert repr(loaded) == repr(snn)
    wanted, found = snn.run(x), loaded.run(x)
    assert torch.equal(wanted.out, found.out) and torch.equal(wanted.scores, found.scores)
    assert wanted.scores.dtype == found.scores.dtype
    assert torch.equal(snn.predict(x), loaded.predict(x))
    loaded.save(folder / "again")
    assert load_pair(folder / "again", "model")[1] == load_pair(folder, "model")[1]
    assert (folder / "again" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    return loaded


def dense(neuron, *more):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), neuron, *more)


IMAGES = cases.images(None, 4, 1, F32)


# ---- round trips


@pytest.mark.parametrize("case", cases.temporal_cases(), ids=repr)
def test_every_neuron_comes_back(case, tmp_path):
    snn = SNN(dense(case.make()), 5)
    assert_same_after_a_round_trip(snn, tmp_path, 4 * IMAGES)
    assert describe(build(describe(case.make()))) == describe(case.make())


def test_a_saved_network_fires(tmp_path):
    snn = SNN(dense(LIF(v_th=0.3)), 5)
    loaded = assert_same_after_a_round_trip(snn, tmp_path, IMAGES)
    assert_active(loaded.run(IMAGES).out)


@pytest.mark.parametrize("case", cases.encoder_cases(), ids=repr)
def test_every_encoder_comes_back(case, tmp_path):
    snn = network("conv", 5, case.make(), dtype=F32)
    loaded = assert_same_after_a_round_trip(snn, tmp_path, cases.images(snn.encode, 3, 5, F32))
    assert loaded.encode == snn.encode


@pytest.mark.parametrize("case", cases.readout_cases(), ids=repr)
def test_every_readout_comes_back(case, tmp_path):
    snn = network("conv", 5, read=case.make(), dtype=F32)
    loaded = assert_same_after_a_round_trip(snn, tmp_path, cases.images(snn.encode, 3, 5, F32))
    assert loaded.readout == snn.readout


@pytest.mark.parametrize("kind", surrogate.catalogue(), ids=lambda k: k.__name__)
def test_every_surrogate_comes_back(kind, tmp_path):
    assert_same_after_a_round_trip(SNN(dense(LIF(surrogate=kind())), 3), tmp_path, IMAGES)


@pytest.mark.parametrize(
    "wrapped",
    [surrogate.Smooth(surrogate.ATan(3.0)), surrogate.Learnable(surrogate.ATan(3.0))],
    ids=["Smooth", "Learnable"],
)
def test_a_wrapped_surrogate_comes_back(wrapped, tmp_path):
    snn = SNN(dense(LIF(surrogate=wrapped, reset=HardReset(detach=False))), 3)
    with torch.no_grad():
        for p in snn.parameters():
            p.add_(0.01)
    assert_same_after_a_round_trip(snn, tmp_path, IMAGES)


@pytest.mark.parametrize("name", [n for n in cases.NETWORKS if n != "skip"])
def test_every_network_comes_back(name, tmp_path):
    snn = network(name, 5, dtype=F32)
    with torch.no_grad():
        for b in snn.buffers():
            if b.is_floating_point():
                b.add_(0.1)
    assert_same_after_a_round_trip(snn, tmp_path, cases.images(snn.encode, 3, 5, F32))


LAYERS = {
    "conv2d": lambda: [nn.Conv2d(1, 4, (3, 2), (2, 1), (1, 0), (1, 2), 1, True, "reflect")],
    "grouped": lambda: [nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4, 1e-3), nn.Conv2d(4, 4, 3, groups=4, padding="same")],
    "batch-norm": lambda: [nn.BatchNorm2d(1, 1e-3, None, False), nn.BatchNorm2d(1, track_running_stats=False)],
    "pools": lambda: [nn.MaxPool2d(2, 1, 1), nn.AvgPool2d(3, ceil_mode=True, divisor_override=5)],
    "adaptive": lambda: [nn.AdaptiveAvgPool2d(3), nn.AdaptiveMaxPool2d((2, 3))],
    "activations": lambda: [nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.Identity()],
    "prelu": lambda: [nn.PReLU(1, 0.3)],
    "dropouts": lambda: [nn.Dropout(0.3), nn.Dropout2d(0.1)],
    "layer-norm": lambda: [nn.LayerNorm((8, 8), 1e-3), nn.LayerNorm(8, elementwise_affine=False)],
    "layer-norm-bias": lambda: [nn.LayerNorm(8, bias=False)],
    "nested": lambda: [nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU()))],
    "signal": lambda: [nn.Conv1d(1, 2, 3, 2, 1, bias=False), nn.BatchNorm1d(2), nn.AvgPool1d(2), nn.Dropout1d(0.2)],
    "signal-pool": lambda: [nn.MaxPool1d(2, 2)],
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_torch_layer_comes_back(name, tmp_path):
    layers = LAYERS[name]()
    x = IMAGES.flatten(2) if name.startswith("signal") else IMAGES
    width = nn.Sequential(*layers).eval()(x).flatten(1).shape[1]
    snn = SNN(nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, 10), LIF(v_th=0.1)), 3)
    assert_same_after_a_round_trip(snn, tmp_path, x)


def test_a_shared_activation_stands_in_both_its_places(tmp_path):
    act = LIF(v_th=0.3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), act, nn.Linear(20, 10), act)
    snn = SNN(body, 5)
    assert_active(snn.run(IMAGES).out)
    assert_same_after_a_round_trip(snn, tmp_path, IMAGES)


def test_a_sequential_with_a_forward_of_its_own_is_no_plain_sequential(tmp_path):
    class Backwards(nn.Sequential):
        def forward(self, x):
            return super().forward(1 - x)

    body = Backwards(*dense(LIF(v_th=0.3)))
    snn = SNN(body, 5)
    snn.save(tmp_path)
    with pytest.raises(ModelFileError, match="body="):
        load_model(tmp_path)
    assert_same_after_a_round_trip(snn, tmp_path, IMAGES, body)


def test_a_neuron_of_the_users_own_is_custom_whatever_its_name(tmp_path):
    mine = type("LIF", (LIF,), {"coefficients": lambda self: (0.1, 2.0)})
    snn = SNN(dense(mine()), 3)
    snn.save(tmp_path)
    with pytest.raises(ModelFileError, match="body="):
        load_model(tmp_path)


@pytest.mark.parametrize("dtype", [F64, torch.bfloat16, torch.float16], ids=str)
def test_the_precision_comes_back(dtype, tmp_path):
    snn = network("conv", 5, dtype=dtype)
    assert_same_after_a_round_trip(snn, tmp_path, cases.images(snn.encode, 3, 5, dtype))


def test_a_body_of_the_users_own_comes_back_with_body(tmp_path):
    snn = network("skip", 5, Bernoulli(), Vote(2, MaxMembrane()), dtype=F32)
    snn.save(tmp_path)
    with pytest.raises(ModelFileError) as caught:
        load_model(tmp_path)
    one_line(caught.value, "SkipNet", "body=")
    with torch.random.fork_rng(devices=[]):
        body = cases.SkipNet()
    x = cases.images(snn.encode, 3, 5, F32)
    loaded = load_model(tmp_path, body=body)
    assert torch.equal(loaded.scores(x), snn.scores(x)) and loaded.encode == snn.encode
    assert_active(loaded.run(x).out)
    for other in (nn.Linear(3, 3), dense(LIF())):
        with pytest.raises(ModelFileError) as caught:
            load_model(tmp_path, body=other)
        one_line(caught.value, "tensor")


def test_saving_again_replaces(tmp_path):
    one, two = network("conv", 3, dtype=F32), network("synapse", 4, dtype=F32)
    one.save(tmp_path)
    two.save(tmp_path)
    assert load_model(tmp_path).steps == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_a_part_of_the_users_own_outside_the_body_is_refused_before_anything_is_written(tmp_path):
    class Mine(Bernoulli):
        pass

    with pytest.raises(ConfigError) as caught:
        network("conv", 3, Mine()).save(tmp_path / "model")
    one_line(caught.value, "Mine")
    assert not (tmp_path / "model").exists()


# ---- damage


def saved(folder):
    snn = network("conv", 3, dtype=F32)
    snn.save(folder)
    return snn


DAMAGE = {
    "json truncated": ("model.json", lambda b: b[: len(b) // 2]),
    "json empty": ("model.json", lambda b: b""),
    "json binary": ("model.json", lambda b: bytes(range(256))),
    "json a list": ("model.json", lambda b: b"[]"),
    "json nan": ("model.json", lambda b: b.replace(b'"steps": 3', b'"steps": NaN')),
    "json edited": ("model.json", lambda b: b.replace(b'"steps": 3', b'"steps": 4')),
    "json deep": ("model.json", lambda b: b"[" * 100_000),
    "tensors truncated": ("model.safetensors", lambda b: b[:-5]),
    "tensors empty": ("model.safetensors", lambda b: b""),
    "tensors longer": ("model.safetensors", lambda b: b + b"0"),
    "tensors flipped": ("model.safetensors", lambda b: b[:-9] + bytes([b[-9] ^ 4]) + b[-8:]),
    "tensors of another": (
        "model.safetensors",
        lambda b: safetensors_save({"body.conv1.weight": torch.zeros(4, 1, 3, 3)}),
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_named(name, tmp_path):
    saved(tmp_path)
    file, change = DAMAGE[name]
    data = (tmp_path / file).read_bytes()
    assert change(data) != data
    (tmp_path / file).write_bytes(change(data))
    with pytest.raises(ModelFileError) as caught:
        load_model(tmp_path)
    one_line(caught.value, file)


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(file, tmp_path):
    saved(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ModelFileError) as caught:
        load_model(tmp_path)
    one_line(caught.value, file)
    (tmp_path / file).mkdir()
    with pytest.raises(SpikewrightError) as caught:
        load_model(tmp_path)
    one_line(caught.value, file)


@pytest.mark.parametrize("where", ["nowhere", "file", "new\nline"])
def test_a_folder_that_is_none_is_named(where, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SpikewrightError) as caught:
        load_model(tmp_path / where)
    one_line(caught.value)


def test_every_flipped_byte_is_noticed(tmp_path):
    saved(tmp_path)
    for file in ("model.json", "model.safetensors"):
        data = (tmp_path / file).read_bytes()
        for at in range(0, len(data), len(data) // 60):
            (tmp_path / file).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            try:
                loaded = load_model(tmp_path)
            except ModelFileError as error:
                one_line(error)
            else:  # JSON may say the same in other bytes: white space
                assert file == "model.json" and describe(loaded.body) == load_pair(tmp_path, "model")[1]["body"]
        (tmp_path / file).write_bytes(data)
    load_model(tmp_path)


# ---- files that are whole, and hostile

GOOD = {
    "format": 1,
    "spikewright": "0",
    "steps": 2,
    "encode": {"type": "Direct"},
    "readout": {"type": "Rate"},
    "body": {"type": "nn.Sequential", "layers": {"0": {"type": "nn.Flatten"}, "1": {"type": "LIF"}}},
}


def linear(**values):
    return {"type": "nn.Linear", "in_features": 4, "out_features": 2, "bias": True} | values


BODIES = {
    "none": None,
    "number": 5,
    "text": "custom",
    "list": ["custom"],
    "empty": {},
    "custom of nothing": {"custom": None},
    "no type": {"layers": {}},
    "type a list": {"type": []},
    "type a number": {"type": 3},
    "unknown": {"type": "os.system", "command": "true"},
    "escape codes": {"type": "\x1b[31mLIF\n"},
    "an encoder": {"type": "Direct"},
    "a leak": {"type": "Euler", "tau": 2.0},
    "abstract": {"type": "Temporal"},
    "half abstract": {"type": "IntegrateAndFire"},
    "no layers": {"type": "nn.Sequential"},
    "layers a list": {"type": "nn.Sequential", "layers": [1]},
    "layer a number": {"type": "nn.Sequential", "layers": {"0": 1}},
    "layer of nothing": {"type": "nn.Sequential", "layers": {"0": None}},
    "layer called forward": {"type": "nn.Sequential", "layers": {"forward": {"type": "nn.Flatten"}}},
    "layer with dots": {"type": "nn.Sequential", "layers": {"a.b": {"type": "nn.Flatten"}}},
    "unknown argument": {"type": "LIF", "tau": 2.0, "colour": 1},
    "missing argument": {"type": "nn.Linear"},
    "text for a number": {"type": "LIF", "tau": "2"},
    "text for a threshold": {"type": "LIF", "v_th": "1"},
    "text for a reset": {"type": "LIF", "reset": "hard"},
    "text for a leak": {"type": "LIF", "leak": "Euler"},
    "number for a surrogate": {"type": "LIF", "surrogate": 3},
    "out of range": {"type": "LIF", "tau": -1},
    "no such sizes": linear(in_features=-3),
    "sizes of text": linear(in_features="4"),
    "fractions": linear(in_features=2.5),
    "huge": linear(in_features=2**31, out_features=2**31),
    "huge enough to overflow": linear(in_features=2**62, out_features=2**62),
    "beyond 64 bits": linear(in_features=10**30),
    "huge convolution": {"type": "nn.Conv2d", "in_channels": 10**6, "out_channels": 10**6, "kernel_size": 99},
    "huge norm": {"type": "nn.BatchNorm2d", "num_features": 10**12},
    "groups of none": {"type": "nn.GroupNorm", "num_groups": 0, "num_channels": 4},
    "convolution groups of none": {
        "type": "nn.Conv2d",
        "in_channels": 2,
        "out_channels": 2,
        "kernel_size": 1,
        "groups": 0,
    },
    "dropout of 2": {"type": "nn.Dropout", "p": 2.0},
    "learnable of nothing": {"type": "LIF", "surrogate": {"type": "Learnable", "inner": None}},
    "wide": {"type": "nn.Sequential", "layers": {str(i): linear() for i in range(300)}},
}
OTHERS = {
    "format none": {"format": None},
    "format 2": {"format": 2},
    "format text": {"format": "1"},
    "steps 0": {"steps": 0},
    "steps -1": {"steps": -1},
    "steps text": {"steps": "2"},
    "steps 2.5": {"steps": 2.5},
    "steps true": {"steps": True},
    "steps none": {"steps": None},
    "encode none": {"encode": None},
    "encode a number": {"encode": 5},
    "encode text": {"encode": "Direct"},
    "encode a layer": {"encode": {"type": "nn.Flatten"}},
    "encode a readout": {"encode": {"type": "Rate"}},
    "encode abstract": {"encode": {"type": "Encoder"}},
    "encode unknown": {"encode": {"type": "Mine"}},
    "encode out of range": {"encode": {"type": "Bernoulli", "gain": 7}},
    "readout none": {"readout": None},
    "readout a number": {"readout": 5},
    "readout a layer": {"readout": {"type": "nn.Flatten"}},
    "readout an encoder": {"readout": {"type": "Direct"}},
    "readout with a leak of text": {"readout": {"type": "LastMembrane", "leak": "x"}},
    "vote of text": {"readout": {"type": "Vote", "size": "2"}},
    "vote for a number": {"readout": {"type": "Vote", "size": 2, "then": 4}},
}


def refused(folder, meta, tensors=None):
    save_pair(folder, "model", tensors or {}, meta)
    with pytest.raises(ModelFileError) as caught:
        load_model(folder)
    text = one_line(caught.value)
    assert "\x1b" not in text and len(text) < 500
    return text


@pytest.mark.parametrize("depth", [30, 100, 200])
def test_deep_but_sound_networks_load_or_are_refused_in_one_line(depth, tmp_path):
    body = {"type": "nn.Flatten"}
    for _ in range(depth):
        body = {"type": "nn.Sequential", "layers": {"0": body}}
    save_pair(tmp_path, "model", {}, GOOD | {"body": body})
    try:
        assert load_model(tmp_path)(torch.ones(2, 3)).shape == (2, 3)
    except SpikewrightError as error:
        one_line(error)


def test_the_file_the_hostile_ones_are_made_from_is_taken(tmp_path):
    save_pair(tmp_path, "model", {}, GOOD)
    assert load_model(tmp_path)(2 * torch.ones(2, 3)).tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused_without_allocating_it(name, tmp_path):
    tracemalloc.start()
    try:
        refused(tmp_path, GOOD | {"body": BODIES[name]})
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", OTHERS)
def test_hostile_settings_are_refused(name, tmp_path):
    refused(tmp_path, GOOD | OTHERS[name])


@pytest.mark.parametrize("missing", ["format", "steps", "encode", "readout", "body"])
def test_missing_settings_are_refused(missing, tmp_path):
    refused(tmp_path, {k: v for k, v in GOOD.items() if k != missing})


@pytest.mark.parametrize("depth", [*range(50, 1000, 50), 10_000, 100_000])
def test_nesting_of_any_depth_is_refused(depth, tmp_path):
    saved(tmp_path)
    head = json.loads((tmp_path / "model.json").read_text())
    del head["meta"]
    for opening, closing in (("[", "]"), ('{"type": "nn.Sequential", "layers": {"0": ', "}}")):
        body = opening * depth + "1" + closing * depth
        (tmp_path / "model.json").write_text(json.dumps(head)[:-1] + f', "meta": {{"body": {body}}}}}')
        with pytest.raises(ModelFileError) as caught:
            load_model(tmp_path)
        one_line(caught.value)


def test_an_unknown_part_is_named(tmp_path):
    assert "'Perceptron'" in refused(tmp_path, GOOD | {"body": {"type": "Perceptron"}})


TENSORS = {
    "missing": {},
    "of another shape": {"body.weight": torch.zeros(4, 2), "body.bias": torch.zeros(2)},
    "one too many": {"body.weight": torch.zeros(2, 4), "body.bias": torch.zeros(2), "body.more": torch.zeros(1)},
    "complex": {"body.weight": torch.zeros(2, 4, dtype=torch.complex64), "body.bias": torch.zeros(2)},
    "whole numbers": {"body.weight": torch.zeros(2, 4, dtype=torch.long), "body.bias": torch.zeros(2)},
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_belong_are_refused(name, tmp_path):
    refused(tmp_path, GOOD | {"body": linear()}, TENSORS[name])


def test_tensors_with_nan_are_refused_or_stop_the_first_run(tmp_path):
    tensors = {"body.0.weight": torch.full((2, 4), float("nan")), "body.0.bias": torch.zeros(2)}
    body = {"type": "nn.Sequential", "layers": {"0": linear(), "1": {"type": "LIF"}}}
    save_pair(tmp_path, "model", tensors, GOOD | {"body": body})
    with pytest.raises(SpikewrightError) as caught:
        load_model(tmp_path)(torch.ones(1, 4))
    one_line(caught.value)


def test_only_the_librarys_parts_and_the_torch_layers_are_in_the_table():
    for kind in (partial, json.JSONDecoder, nn.Embedding, nn.Transformer, nn.ModuleList):
        with pytest.raises(ModelFileError):
            build({"type": kind.__name__})
    for part in (LIF(), PLIF(), TSSLNeuron(), Factor(0.5), Subtract(), HardReset(), Vote(3), nn.Linear(2, 3)):
        assert describe(build(describe(part))) == describe(part)
