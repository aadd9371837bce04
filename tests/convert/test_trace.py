"""Any torch model becomes a graph that computes the same, or is refused by name and place."""

import pytest
import torch
import torch.nn.functional as F
from networks import Dense, Mlp, UserNet, images, made
from torch import nn

import spikewright as sw
from spikewright.convert import Clip, Graph, trace
from spikewright.convert.prepare import dropped, folded
from spikewright.errors import ConfigError, DataError


@pytest.mark.parametrize("kind", [UserNet, Dense, Mlp], ids=lambda k: k.__name__)
def test_a_traced_network_computes_the_same_and_folding_its_norms_changes_nothing(kind):
    net = made(kind).double()
    x = images(dtype=torch.float64, shape=(1, 4, 4) if kind is Mlp else (1, 8, 8))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad():
        graph = trace(net, x)
        torch.testing.assert_close(graph(x), net(x), rtol=1e-12, atol=1e-12)
        ready = folded(dropped(graph, []), [])
        torch.testing.assert_close(ready(x), net(x), rtol=1e-10, atol=1e-10)
    assert not ready.of(nn.BatchNorm2d, nn.Dropout)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_many_layers_of_a_kind_are_told_dropped_in_one_line():
    kinds = [nn.Identity(), nn.Dropout(), nn.Identity(), nn.Linear(4, 4), nn.Identity(), nn.Softmax(1)]
    net, log = nn.Sequential(nn.Linear(4, 4), *kinds).eval(), []
    graph = dropped(trace(net, images(2, (4,))), log)
    assert len(graph.layers) == 2 and torch.equal(graph(images(2, (4,))), net[:6](images(2, (4,))))
    highest = "dropped _6: the highest score stays the highest"
    assert log == ["dropped 3 layers that are Identity", "dropped _2", highest]


def test_a_module_used_twice_becomes_two_layers():
    net = made(UserNet)
    relus = trace(net, images(1)).of(nn.ReLU)
    assert len(relus) == 6 and len(set(relus)) == 6  # stem, two a block of which one is shared code, side


def test_what_is_changed_in_place_is_what_later_readers_see():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            y = self.fc(x)
            F.relu_(y)
            return y + self.fc(y)

    net, x = made(InPlace), images(8, (4,))
    with torch.no_grad():
        torch.testing.assert_close(trace(net, x)(x), net(x))
        assert (net.fc(x) < 0).any()  # so that it matters


def test_the_librarys_own_networks_keep_their_names():
    snn = sw.SNN(sw.arch("4C3-P2-D0.2-10", (1, 8, 8), nn.ReLU(), batch_norm=True, spiking_output=False), 1)
    graph = trace(snn, images(2))
    assert list(graph.layers) == ["conv1", "bn1", "neuron1", "pool1", "drop1", "flatten", "fc2"]
    assert isinstance(graph.body(), nn.Sequential) and isinstance(trace(made(UserNet), images(1)).body(), Graph)


def test_bounded_relus_are_taken_for_what_they_are():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU6(), nn.Linear(4, 4), nn.Hardtanh(0.0, 2.0), nn.Linear(4, 2)).eval()
    x = 20 * images(8, (4,)) - 10
    graph = trace(net, x)
    assert [graph.get_submodule(n).limit for n in graph.of(Clip)] == [6.0, 2.0]
    torch.testing.assert_close(graph(x), net(x))


class Odd(nn.Module):
    """Does one thing between two layers."""

    def __init__(self, act):
        super().__init__()
        self.front, self.act, self.back = nn.Linear(4, 4), act, nn.Linear(4, 2)

    def forward(self, x):
        return self.back(self.act(self.front(x)))


class Lambda(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def forward(self, x):
        return self.act(x)


@pytest.mark.parametrize(
    "act, said",
    [
        (nn.SiLU(), ("'act' (SiLU at act)", "ReLU")),
        (nn.GELU(), ("GELU", "ReLU")),
        (nn.LeakyReLU(), ("LeakyReLU", "negative")),
        (nn.Tanh(), ("Tanh", "ReLU")),
        (nn.LayerNorm(4), ("LayerNorm", "batch norm")),
        (nn.Hardtanh(), ("Hardtanh",)),
        (Lambda(F.silu), ("silu", "ReLU")),
        (Lambda(lambda x: x * x), ("mul",)),
        (Lambda(lambda x: x @ x.T @ x), ("matmul", "fixed weights")),
        (Lambda(lambda x: x.chunk(2, 1)[0]), ("chunk",)),
        (Lambda(lambda x: x if x.sum() > 0 else -x), ("traced", "'act' (Lambda)", "fixed sequence")),
        (sw.LIF(), ("LIF",)),
        (nn.GRU(4, 4), ("GRU",)),
    ],
    ids=lambda v: getattr(v, "_get_name", lambda: "")() or None,
)
def test_what_cannot_be_converted_is_refused_by_name_and_place(act, said):
    with pytest.raises(ConfigError) as caught:
        trace(Odd(act).eval(), images(4, (4,)))
    text = str(caught.value)
    assert "\n" not in text and all(part in text for part in said), text


def test_outputs_and_inputs_that_do_not_fit_are_refused():
    conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    with pytest.raises(ConfigError, match="flatten its end"):
        trace(conv, images(2))
    with pytest.raises(ConfigError, match="do not fit the model"):
        trace(nn.Linear(5, 2), images(2, (4,)))
    with pytest.raises(DataError, match="empty"):
        trace(conv, images(0))


def test_a_graph_refuses_a_wiring_that_is_none():
    layers = {"a": nn.Identity(), "b": nn.Identity()}
    for wiring in ([("a", "b"), ("b", "a")], [("a", "input")], [("c", "input")], [("a",), ("b", "a")], []):
        with pytest.raises(ConfigError, match="graph"):
            Graph(layers, wiring)


class NormWithActivation(nn.BatchNorm2d):
    """A known layer that does more in its own forward, as some libraries have it."""

    def forward(self, x):
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps)
        return F.relu(x)


def test_a_layer_with_a_forward_of_its_own_is_looked_into():
    torch.manual_seed(0)
    norm = NormWithActivation(4)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.weight, -1, 1)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.Flatten(), nn.Linear(144, 10)).eval()
    graph = trace(net, images(3))
    assert len(graph.of(nn.ReLU)) == 1
    with torch.no_grad():
        torch.testing.assert_close(folded(graph, [])(images(9)), net(images(9)))
