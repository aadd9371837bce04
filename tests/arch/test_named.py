"""The named architectures: sizes against published counts, both kinds of neuron, every input they fit."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from spikewright.arch import Residual, arch, describe, names
from spikewright.errors import ConfigError


class FakeNeuron(nn.Module):
    """Looks like a spiking neuron to `arch`."""

    spikes = True

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def convs_and_dense(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def on_meta(name: str, shape: tuple[int, int, int], neuron: nn.Module, **options: object) -> tuple[nn.Module, Tensor]:
    """The network and its output for two images, without memory or arithmetic."""
    with torch.device("meta"):
        net = arch(name, shape, neuron, **options)  # type: ignore[arg-type]
        return net, net(torch.empty(2, *shape))


SHAPES = {
    "lenet": [(1, 28, 28), (3, 32, 32)],
    "lenet-5": [(1, 32, 32), (1, 28, 28), (3, 40, 36)],
    "vgg-5": [(3, 32, 32), (1, 28, 28)],
    "vgg-9": [(3, 32, 32), (1, 28, 28), (3, 64, 48)],
    "vgg-16": [(3, 32, 32), (1, 28, 28)],
}
RESNETS = ("resnet-18", "resnet-34", "resnet-18-no-maxpool", "resnet-34-no-maxpool")
SHAPES |= {name: [(3, 32, 32), (1, 28, 28), (3, 64, 64)] for name in RESNETS}


def test_every_name_is_tested_here() -> None:
    assert sorted(names()) == sorted(SHAPES)


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, some in SHAPES.items() for shape in some])
@pytest.mark.parametrize("neuron", [nn.ReLU(), FakeNeuron()], ids=["relu", "spiking"])
def test_forward_on_every_input(name: str, shape: tuple[int, int, int], neuron: nn.Module) -> None:
    net, out = on_meta(name, shape, neuron, num_classes=7)
    assert out.shape == (2, 7)
    last = list(net.children())[-1]
    assert isinstance(last, FakeNeuron if isinstance(neuron, FakeNeuron) else nn.Linear)
    assert not any(isinstance(module, nn.ReLU) for module in net.modules()) or isinstance(neuron, nn.ReLU)


@pytest.mark.parametrize("name", ["lenet", "lenet-5", "resnet-18"])
def test_numbers_flow_and_gradients_return(name: str) -> None:
    net = arch(name, SHAPES[name][0], normalize=((0.5,), (0.5,)))
    net(torch.rand(2, *SHAPES[name][0])).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert next(iter(net.children())).mean == (0.5,)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("name", ["lenet", "lenet-5", "resnet-18"])
def test_without_data_the_first_batch_tells_the_sizes(name: str) -> None:
    shape = {"lenet": (1, 28, 28), "lenet-5": (1, 32, 32), "resnet-18": (3, 64, 64)}[name]
    lazy, explicit = arch(name), arch(name, shape)
    assert lazy(torch.rand(2, *shape)).shape == (2, 10)
    assert {k: v.shape for k, v in lazy.state_dict().items()} == {k: v.shape for k, v in explicit.state_dict().items()}


def test_lenets() -> None:
    assert parameters(arch("lenet", (1, 28, 28))) == 44_426
    assert parameters(arch("LeNet-5", (1, 32, 32))) == 61_706
    assert parameters(arch("lenet5", (1, 28, 28))) == 61_706
    assert arch("lenet-5", (1, 32, 32)).conv1.padding == (0, 0)
    assert arch("lenet-5", (1, 28, 28)).conv1.padding == (2, 2)


@pytest.mark.parametrize(
    ("name", "widths", "features"),
    [
        ("vgg-5", [64, 128, 128], 8192),
        ("vgg-9", [64, 128, 256, 256, 512, 512, 512], 2048),
        ("vgg-16", [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512], 2048),
    ],
)
def test_vgg_layouts(name: str, widths: list[int], features: int) -> None:
    net, _ = on_meta(name, (3, 32, 32), nn.ReLU())
    layers = convs_and_dense(net)
    assert [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)] == widths
    dense = [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]
    assert dense == [(features, 4096), (4096, 4096), (4096, 10)]
    assert all(layer.bias is None for layer in layers)
    assert all(isinstance(m, nn.AvgPool2d) for n, m in net.named_children() if n.startswith("pool"))
    rates = [module.p for module in net.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.2] * {"vgg-5": 1, "vgg-9": 3, "vgg-16": 9}[name] + [0.5, 0.5]


def test_vgg_options() -> None:
    net, _ = on_meta("vgg-5", (1, 28, 28), nn.ReLU(), conv_dropout=0.3, fc_dropout=0, bias=True, pool=nn.MaxPool2d)
    assert net.fc4.in_features == 6272
    assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [0.3]
    assert all(layer.bias is not None for layer in convs_and_dense(net))
    assert isinstance(net.pool1, nn.MaxPool2d)
    normed, _ = on_meta("vgg-9", (3, 32, 32), nn.ReLU(), batch_norm=True)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in normed.modules()) == 7


@pytest.mark.parametrize(("name", "count"), [("resnet-18", 11_689_512), ("resnet-34", 21_797_672)])
def test_resnet_counts(name: str, count: int) -> None:
    for suffix in ("", "-no-maxpool"):
        net, out = on_meta(name + suffix, (3, 224, 224), nn.ReLU(), num_classes=1000)
        assert parameters(net) == count
        assert out.shape == (2, 1000)


def test_resnet_stems() -> None:
    def stem(name: str, size: int) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
        net, _ = on_meta(name, (3, size, size), nn.ReLU())
        return net.conv1.kernel_size, net.conv1.stride, hasattr(net, "pool1")

    assert stem("resnet-18", 64) == ((7, 7), (2, 2), True)
    assert stem("resnet-18", 63) == ((3, 3), (1, 1), True)
    assert stem("resnet-18-no-maxpool", 32) == ((3, 3), (1, 1), False)
    assert stem("resnet-34-no-maxpool", 64) == ((7, 7), (2, 2), False)
    assert isinstance(arch("resnet-18").pool1, nn.MaxPool2d)
    assert isinstance(arch("resnet-18", pool=nn.AvgPool2d).pool1, nn.AvgPool2d)


def test_residual_computes_the_sum_and_keeps_its_arguments() -> None:
    main, shortcut, neuron = nn.Linear(4, 4), nn.Identity(), nn.ReLU()
    block = Residual(main, shortcut, neuron)
    assert (block.main, block.shortcut, block.neuron) == (main, shortcut, neuron)
    x = torch.randn(3, 4)
    torch.testing.assert_close(block(x), torch.relu(main(x) + x))


def test_resnet_neurons_are_their_own() -> None:
    with torch.device("meta"):
        net = arch("resnet-18", (3, 32, 32), nn.PReLU)
    assert sum(isinstance(module, nn.PReLU) for module in net.modules()) == 1 + 2 * 8
    assert "stage2_block1.main.conv1.weight" in net.state_dict()


def test_classes_come_from_data() -> None:
    data = SimpleNamespace(shape=(3, 32, 32), num_classes=100)
    assert arch("lenet", data).fc5.out_features == 100
    assert arch("resnet-18", data).fc.out_features == 100
    assert arch("lenet", data, num_classes=20).fc5.out_features == 20
    assert arch("lenet", (1, 28, 28)).fc5.out_features == 10


@pytest.mark.parametrize(
    ("name", "shape", "options", "found"),
    [
        (
            "vgg-16",
            (3, 8, 8),
            {},
            "architecture 'vgg-16': token 20, 'P2', needs at least 2x2, but what reaches it is 1x1",
        ),
        (
            "lenet",
            (1, 8, 8),
            {},
            "architecture 'lenet': token 3, '16C5', needs at least 5x5, but what reaches it is 2x2",
        ),
        ("lenet", (784,), {}, "'lenet': token 1, '6C5', needs an image"),
        ("resnet-18", (784,), {}, "architecture 'resnet-18' needs an image, but the data is flat, 784 features"),
        ("vgg-9", (3, 32, 32), {"conv_dropout": 1.5}, "conv_dropout: 1.5; expected a rate of at least 0"),
        ("vgg-9", (3, 32, 32), {"width": 1}, "'vgg-9' has no option 'width'; it has conv_dropout, fc_dropout"),
        (
            "resnet-18",
            (3, 32, 32),
            {"fc_dropout": 0.1},
            "'resnet-18' has no option 'fc_dropout'; it has none of its own",
        ),
        ("resnet-18", (1, 32, 32), {"normalize": ((0, 0, 0), (1, 1, 1))}, "3 means, but the input has 1 channels"),
    ],
)
def test_errors(name: str, shape: tuple[int, ...], options: dict[str, object], found: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(found)), torch.device("meta"):
        arch(name, shape, **options)  # type: ignore[arg-type]


def test_describe_tells_what_a_table_needs() -> None:
    rows = describe()
    assert [row["name"] for row in rows] == names()
    assert json.loads(json.dumps(rows))[0]["input"] == [1, 28, 28]
    counts = {row["name"]: row["parameters"] for row in rows}
    assert counts["lenet"] == 44_426
    assert counts["resnet-34"] == 21_797_672
    assert all(row["description"] and row["paper"] for row in rows)
