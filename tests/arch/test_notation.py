"""The notation: every token, the padding rules, sizes, lazies, options, and every error by its message."""

from __future__ import annotations

import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikewright.arch import Normalize, arch
from spikewright.arch.notation import parse
from spikewright.errors import ConfigError

MNIST = (1, 28, 28)


class FakeNeuron(nn.Module):
    """Looks like a spiking neuron to `arch`."""

    spikes = True

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)


class HeldDropout(nn.Dropout):
    """Stands for a dropout of a recipe's own."""


class ThirdsPool(nn.AvgPool2d):
    """Stands for a pool of a recipe's own."""


def children(net: nn.Module) -> list[str]:
    return [name for name, _ in net.named_children()]


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


# What comes out


def test_names_are_readable_and_numbered_by_layer() -> None:
    net = arch("15C5-BN-P2-40C5-P2-D0.5-300-10", MNIST, FakeNeuron(), normalize=((0.1,), (0.3,)))
    assert children(net) == [
        *("normalize", "conv1", "bn1", "neuron1", "pool1", "conv2", "neuron2", "pool2", "drop2"),
        *("flatten", "fc3", "neuron3", "fc4", "neuron4"),
    ]


def test_a_second_pool_of_a_layer_has_a_name_of_its_own() -> None:
    assert children(arch("P2-8C3-P2-P2-P2-10", MNIST))[0:5] == ["pool0", "conv1", "neuron1", "pool1", "pool1_2"]


@pytest.mark.parametrize(
    ("spec", "features"),
    [("15C5-P2-40C5-P2-300-10", 640), ("64C3-AP2-128C3-AP2-128C3-AP2-512FC-10FC", 1152)],
)
def test_flattened_sizes_of_the_papers(spec: str, features: int) -> None:
    net = arch(spec, MNIST)
    assert net.get_submodule("fc3" if features == 640 else "fc4").in_features == features
    assert net(torch.rand(2, *MNIST)).shape == (2, 10)


def test_parameter_count_by_hand() -> None:
    net = arch("15C5-P2-40C5-P2-300-10", MNIST)
    expected = (15 * 25 + 15) + (40 * 15 * 25 + 40) + (640 * 300 + 300) + (300 * 10 + 10)
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize(
    ("token", "kernel", "padding", "stride"),
    [
        ("4C3", 3, 1, 1),
        ("4C", 3, 1, 1),
        ("4c3", 3, 1, 1),
        ("4C1", 1, 0, 1),
        ("4C5", 5, 0, 1),
        ("4C7", 7, 0, 1),
        ("4C5p2", 5, 2, 1),
        ("4C5(p2)", 5, 2, 1),
        ("4C3p0", 3, 0, 1),
        ("4C3s2", 3, 1, 2),
        ("4C3s2p0", 3, 0, 2),
        ("4C3p0s2", 3, 0, 2),
        ("4C5(p1)", 5, 1, 1),
        ("4C5(p2s2)", 5, 2, 2),
        ("4C5(p2)(s2)", 5, 2, 2),
        ("4C5(P2)s2", 5, 2, 2),
    ],
)
def test_convolutions(token: str, kernel: int, padding: int, stride: int) -> None:
    conv = arch(f"{token}-10", MNIST).conv1
    assert isinstance(conv, nn.Conv2d)
    assert (conv.out_channels, conv.kernel_size[0], conv.padding[0], conv.stride[0]) == (4, kernel, padding, stride)


@pytest.mark.parametrize(
    ("token", "kind", "kernel", "stride"),
    [
        ("P2", nn.AvgPool2d, 2, 2),
        ("P", nn.AvgPool2d, 2, 2),
        ("p3", nn.AvgPool2d, 3, 3),
        ("AP2", nn.AvgPool2d, 2, 2),
        ("ap", nn.AvgPool2d, 2, 2),
        ("MP2", nn.MaxPool2d, 2, 2),
        ("MP3s2", nn.MaxPool2d, 3, 2),
    ],
)
def test_pools(token: str, kind: type, kernel: int, stride: int) -> None:
    net = arch(f"4C3-{token}-10", MNIST)
    assert type(net.pool1) is kind
    assert (net.pool1.kernel_size, net.pool1.stride) == (kernel, stride)
    assert net(torch.rand(1, *MNIST)).shape == (1, 10)


def test_pool_option_is_what_p_builds_and_leaves_ap_and_mp_alone() -> None:
    net = arch("4C3-P2-4C3-AP2-4C3-MP2-10", MNIST, pool=ThirdsPool)
    assert [type(pool) for pool in (net.pool1, net.pool2, net.pool3)] == [ThirdsPool, nn.AvgPool2d, nn.MaxPool2d]


@pytest.mark.parametrize("token", ["DP0.25", "D0.25", "DP.25", "d.25", "drop.25"])
def test_dropout(token: str) -> None:
    net = arch(f"20-{token}-10", (9,), dropout=HeldDropout)
    assert type(net.drop1) is HeldDropout
    assert net.drop1.p == 0.25


def test_batch_norm_token_and_option() -> None:
    first = ["conv1", "bn1", "neuron1", "flatten", "fc2"]
    assert children(arch("4C3-BN-20-BN-10", MNIST)) == [*first, "bn2", "neuron2", "fc3"]
    assert children(arch("4C3-BN-20-10", MNIST, batch_norm=True)) == [*first, "neuron2", "fc3"]
    net = arch("4C3-BN-20-BN-10", MNIST)
    assert isinstance(net.bn1, nn.BatchNorm2d)
    assert isinstance(net.bn2, nn.BatchNorm1d)


def test_bias_option() -> None:
    assert all(not name.endswith("bias") for name in arch("4C3-20-10", MNIST, bias=False).state_dict())
    assert arch("4C3-20-10", MNIST).conv1.bias is not None


def test_global_pool_before_dense_and_at_the_end() -> None:
    assert children(arch("4C3-GAP-10", MNIST)) == ["conv1", "neuron1", "gap1", "flatten", "fc2"]
    assert arch("4C3-GAP-10").fc2.in_features == 4  # known without the input's size
    for neuron, names in [
        (nn.ReLU(), ["conv1", "neuron1", "conv2", "gap2", "flatten"]),
        (FakeNeuron(), ["conv1", "neuron1", "conv2", "neuron2", "gap2", "flatten"]),
    ]:
        net = arch("4C3-10C1-GAP", MNIST, neuron, num_classes=10)
        assert children(net) == names
        assert net(torch.rand(2, *MNIST)).shape == (2, 10)


# The input


def test_leading_size_declares_the_input() -> None:
    for net in (arch("784-400-10", MNIST), arch("784-400-10")):
        assert children(net) == ["flatten", "fc1", "neuron1", "fc2"]
        assert net.fc1.in_features == 784
        assert net(torch.rand(3, *MNIST)).shape == (3, 10)
    assert arch("784FC-10", MNIST).fc1.out_features == 784
    assert arch("800-10", MNIST).fc1.out_features == 800
    assert arch("10", (10,)).fc1.out_features == 10


@pytest.mark.parametrize("spec", ["28x28-4C5-10", "28X28x1-4C5-10"])
def test_leading_image_size(spec: str) -> None:
    assert arch(spec, MNIST).fc2.in_features == 4 * 24 * 24
    assert arch(spec).fc2.in_features == 4 * 24 * 24
    assert isinstance(arch("28x28-4C5-10").conv1, nn.LazyConv2d)
    assert arch("28x28x1-4C5-10").conv1.in_channels == 1


@pytest.mark.parametrize("spec", ["15C5-BN-P2-40C5(p2)s2-P2-300-10", "4C3s2-10C1-GAP", "30FC-20-10", "P2-4C3-MP3s2-10"])
def test_lazies_materialise_to_the_explicit_shapes(spec: str) -> None:
    lazy = arch(spec)
    assert any(isinstance(p, nn.parameter.UninitializedParameter) for p in lazy.parameters())
    assert lazy(torch.rand(2, *MNIST)).shape == (2, 10)
    assert shapes(lazy) == shapes(arch(spec, MNIST))


def test_data_may_be_a_dataset() -> None:
    data = SimpleNamespace(shape=torch.Size([2, 34, 34]), num_classes=10)
    net = arch("34x34x2-12C5-P2-64C5-P2-10", data)
    assert net(torch.rand(2, 2, 34, 34)).shape == (2, 10)
    assert arch("400-20", data).fc2.out_features == 20  # two neurons a class


# The neurons


def test_template_is_copied_for_each_place() -> None:
    template = nn.PReLU()
    net = arch("4C3-20-20-10", MNIST, template)
    weights = [net.neuron1.weight, net.neuron2.weight, net.neuron3.weight, template.weight]
    assert len({w.data_ptr() for w in weights}) == 4
    assert len(list(net.named_parameters(remove_duplicate=True))) == 8 + 3


def test_a_class_or_function_is_called_once_for_each_place() -> None:
    made: list[nn.Module] = []

    def make() -> nn.Module:
        made.append(nn.ReLU())
        return made[-1]

    net = arch("4C3-20-10", MNIST, make)
    assert made == [net.neuron1, net.neuron2]
    assert isinstance(arch("20-10", MNIST, nn.Tanh).neuron1, nn.Tanh)


@pytest.mark.parametrize("spec", ["20-10", "4C3-10"])
def test_output_neuron(spec: str) -> None:
    plain, spiking = children(arch(spec, MNIST)), children(arch(spec, MNIST, FakeNeuron()))
    assert plain[-1] == "fc2"
    assert spiking == [*plain, "neuron2"]
    for neuron in (FakeNeuron, partial(FakeNeuron)):
        assert children(arch(spec, MNIST, neuron)) == spiking
    assert children(arch(spec, MNIST, FakeNeuron(), spiking_output=False)) == plain
    assert children(arch(spec, MNIST, nn.ReLU(), spiking_output=True)) == spiking


# Normalize


def test_normalize() -> None:
    mean, std = (0.5, 0.25), (0.5, 2.0)
    module = Normalize(mean, std)
    assert (module.mean, module.std, module.state_dict()) == (mean, std, {})
    x = torch.rand(3, 2, 4, 5)
    expected = torch.stack([(x[:, 0] - 0.5) / 0.5, (x[:, 1] - 0.25) / 2.0], dim=1)
    torch.testing.assert_close(module(x), expected)
    torch.testing.assert_close(Normalize((0.5,), (0.5,))(torch.ones(2, 7)), torch.ones(2, 7))


# Errors


@pytest.mark.parametrize(
    ("spec", "data", "found"),
    [
        ("", None, "architecture '' is empty"),
        ("  ", None, "is empty"),
        ("15C5-Q2-10", MNIST, "'15C5-Q2-10': token 2, 'Q2', is not understood; accepted: 15C5"),
        ("15C5--10", MNIST, "token 2, '', is not understood"),
        ("15C5(p2-10", MNIST, "token 1, '15C5(p2', is not understood"),
        ("15C5p2p1-10", MNIST, "token 1, '15C5p2p1', gives padding or stride twice"),
        ("0C5-10", MNIST, "token 1, '0C5', has channels 0; expected a whole number from 1"),
        ("5C0-10", MNIST, "token 1, '5C0', has kernel 0"),
        ("5C3s0-10", MNIST, "token 1, '5C3s0', has stride 0"),
        ("5C3-P0-10", MNIST, "token 2, 'P0', has kernel 0"),
        ("5C3-0", MNIST, "token 2, '0', has features 0"),
        ("9" * 5000 + "-10", MNIST, "has features 999999999999; expected"),
        ("20-DP1-10", MNIST, "token 2, 'DP1', has rate 1; expected at least 0 and less than 1"),
        ("20-28x28-10", MNIST, "token 2, '28x28', is the size of an input; put it first"),
        ("0x28-10", MNIST, "token 1, '0x28', has height 0"),
        ("32x32-10", MNIST, "token 1, '32x32', declares the input, but the data is 28x28x1"),
        ("28x28x3-10", MNIST, "token 1, '28x28x3', declares the input, but the data is 28x28x1"),
        ("28x28-10", (784,), "token 1, '28x28', declares the input, but the data is 784"),
        (
            "15C5-P2-40C5-P2-40C5-10",
            MNIST,
            "token 5, '40C5', needs at least 5x5, but what reaches it is 4x4 (input 28x28x1)",
        ),
        ("15C9p1-10", (1, 4, 4), "token 1, '15C9p1', needs at least 9x9, but what reaches it is 4x4 with padding 1"),
        ("4C3-P2-P2-P2-P2-P2-10", MNIST, "token 6, 'P2', needs at least 2x2, but what reaches it is 1x1"),
        ("GAP-P2-10", None, "token 2, 'P2', needs at least 2x2, but what reaches it is 1x1 (input ?x?x?)"),
        ("300-15C5-10", MNIST, "token 2, '15C5', needs an image, but what reaches it is flat, 300 features"),
        ("300-P2-10", MNIST, "token 2, 'P2', needs an image"),
        ("300-GAP", MNIST, "token 2, 'GAP', needs an image"),
        ("15C5-10", (25,), "token 1, '15C5', needs an image, but what reaches it is flat, 25 features"),
        ("BN-300-10", MNIST, "token 1, 'BN', is a batch norm that follows no layer"),
        ("4C3-P2-BN-10", MNIST, "token 3, 'BN', is a batch norm that follows no layer"),
        ("20-BN-BN-10", MNIST, "token 3, 'BN', is a batch norm that follows no layer"),
        ("15C5-P2", MNIST, "'15C5-P2' has no final dense layer: it ends with token 2, 'P2'; end it with"),
        ("15C5", MNIST, "has no final dense layer: it ends with token 1, '15C5'"),
        ("20-10-D0.5", MNIST, "has no final dense layer: it ends with token 3, 'D0.5'"),
        ("784", None, "has no final dense layer: no layer with weights comes after the input"),
        ("28x28", MNIST, "has no final dense layer: no layer with weights comes after the input"),
        ("GAP", MNIST, "has no final dense layer: it has none"),
        ("20-15", SimpleNamespace(shape=MNIST, num_classes=10), "token 2, '15', is the last layer with 15 outputs"),
        ("4C3-GAP", SimpleNamespace(shape=MNIST, num_classes=10), "token 1, '4C3', is the last layer with 4 outputs"),
        ("20-10", (28, 28), "data: its shape is (28, 28); expected three positive sizes"),
        ("20-10", (1, 0, 28), "data: its shape is (1, 0, 28)"),
        ("20-10", "mnist", "data: its shape is 'mnist'"),
        ("20-10", SimpleNamespace(num_classes=10), "data: its shape is namespace(num_classes=10)"),
        ("20-10", SimpleNamespace(shape=MNIST, num_classes=0), "num_classes: 0; expected a whole number of at least 1"),
        ("alexnet", MNIST, "'alexnet' is not known; expected one of lenet, lenet-5, vgg-5"),
        ("resnet-50", MNIST, "'resnet-50' is not known"),
        (None, MNIST, "architecture None is not text"),
    ],
)
def test_errors_name_the_thing(spec: str, data: object, found: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(found)) as caught:
        arch(spec, data)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"neuron": 3}, "neuron: 3 gives int; expected an nn.Module"),
        ({"neuron": dict}, "gives dict; expected an nn.Module"),
        ({"normalize": 0.5}, "normalize: 0.5; expected a pair (mean, std)"),
        ({"normalize": ((0.5, 0.5), (1.0,))}, "normalize: 2 means but 1 stds"),
        ({"normalize": ((0.5, 0.5), (1.0, 1.0))}, "normalize: 2 means, but the input has 1 channels"),
        ({"normalize": ((0.5,), (0.0,))}, "normalize: std is (0.0,); expected values above zero"),
        ({"normalize": ((float("nan"),), (1.0,))}, "normalize: mean is (nan,); expected one finite number"),
        ({"normalize": ((), ())}, "normalize: mean is ()"),
        ({"conv_dropout": 0.1}, "architecture '20-10' has no option 'conv_dropout'; it has none of its own"),
    ],
)
def test_wrong_options(options: dict[str, object], found: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(found)):
        arch("20-10", MNIST, **options)  # type: ignore[arg-type]


# Anything at all

small = st.integers(0, 12)
tokens = st.one_of(
    st.builds("{}C{}".format, small, st.integers(0, 7)),
    st.builds("{}C{}p{}s{}".format, small, st.integers(1, 5), st.integers(0, 3), st.integers(0, 3)),
    st.builds("{}{}".format, st.sampled_from(["P", "AP", "mp"]), st.sampled_from(["", "1", "2", "3s1"])),
    st.builds(str, small),
    st.builds("{}FC".format, small),
    st.sampled_from(["BN", "GAP", "D0.5", "DP1", "14x14", "14x14x2", "392", ""]),
)
specs = st.lists(tokens, min_size=1, max_size=6).map("-".join)


@settings(max_examples=150, deadline=None)
@given(specs, st.sampled_from([(2, 14, 14), (392,), None]), st.booleans())
def test_random_specs_build_and_run_or_are_refused(spec: str, data: tuple[int, ...] | None, batch_norm: bool) -> None:
    try:
        net = arch(spec, data, FakeNeuron, batch_norm=batch_norm).eval()
    except ConfigError:
        return
    if data is not None:
        out = net(torch.rand(2, *data))
        assert out.shape[0] == 2
        assert out.dim() == 2


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("0123456789CPSDXBNGAFcpsx.()- \n²٣"), max_size=12))
def test_random_text_is_parsed_or_refused_in_one_line(text: str) -> None:
    try:
        spec = parse(text)
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert "-".join(token.text for token in spec.tokens) == "-".join(word.strip() for word in text.split("-"))
