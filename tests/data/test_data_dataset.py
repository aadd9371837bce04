import numpy as np
import pytest
import torch

from spikewright.data import Augment, Dataset, Split, TensorSplit, load
from spikewright.errors import ConfigError, DataError, SpikewrightError


def parts(seed=0, samples=60, dtype=np.float32, shape=(2, 5, 4)):
    rng = np.random.default_rng(seed)
    x = rng.random((samples, *shape))
    x = (x * 255).astype(np.uint8) if dtype == np.uint8 else x.astype(dtype)
    y = np.arange(samples) % 3
    return [x[20:], y[20:], x[:20], y[:20]]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16, ">f4"])
def test_from_tensors(dtype):
    given = parts(dtype=dtype)
    data = Dataset.from_tensors("mine", *given)
    assert (data.name, data.shape, data.frames, data.num_classes) == ("mine", (2, 5, 4), None, 3)
    assert data.classes == ("0", "1", "2") and data.note == "" and len(data.checksum) == 64
    batch = data.train.batch(torch.tensor([3, 0, 3]))
    expected = given[0][[3, 0, 3]].astype(np.float32) / (255 if dtype == np.uint8 else 1)
    assert batch.dtype == torch.float32 and np.allclose(batch.numpy(), expected, atol=1e-7)
    every = data.train.batch(torch.arange(40)).double()
    assert data.mean == pytest.approx(every.mean((0, 2, 3)).tolist())
    assert data.std == pytest.approx(every.std((0, 2, 3), unbiased=False).tolist())
    assert data.train.batch(torch.tensor([], dtype=torch.long)).shape == (0, 2, 5, 4)
    assert "40 samples of 2x5x4" in repr(data)


def test_tensors_and_arrays_are_the_same():
    given = parts()
    tensors = [torch.from_numpy(value).requires_grad_(value.dtype == np.float32) for value in given]
    frozen = [value.copy() for value in given]
    for value in frozen:
        value.flags.writeable = False
    turned = [np.asfortranarray(value) for value in given]
    sets = [
        Dataset.from_tensors("mine", *values, classes=["a", "b", "c"]) for values in (given, tensors, frozen, turned)
    ]
    assert len({data.checksum for data in sets}) == 1 and sets[0].classes == ("a", "b", "c")
    assert not sets[1].train.batch(torch.arange(2)).requires_grad


def test_the_checksum_follows_content():
    sums = {Dataset.from_tensors("mine", *parts()).checksum}
    for part in range(4):
        given = parts()
        given[part] = given[part].copy()
        given[part].flat[0] = 0.25 if part % 2 == 0 else 1
        sums.add(Dataset.from_tensors("mine", *given).checksum)
    sums.add(Dataset.from_tensors("mine", *parts(dtype=np.float16)).checksum)
    assert len(sums) == 6


def changed(part, value):
    given = parts()
    given[part] = value(given[part]) if callable(value) else value
    return given


def with_pixel(value):
    def change(x):
        x = x.copy()
        x[7, 0, 0, 0] = value
        return x

    return change


IMAGES = {
    "object": lambda x: x.astype(object),
    "complex": lambda x: x.astype(complex),
    "text": lambda x: x.astype(str),
    "dates": lambda x: x.astype("datetime64[s]"),
    "integers": lambda x: (x * 255).astype(np.int64),
    "bool": lambda x: x > 0.5,
    "long double": lambda x: x.astype(np.longdouble),
    "complex tensor": lambda x: torch.from_numpy(x).to(torch.complex64),
    "sparse": lambda x: torch.from_numpy(x).to_sparse(),
    "meta": lambda x: torch.from_numpy(x).to("meta"),
    "a list": lambda x: x.tolist(),
    "none": None,
    "a number": 3.0,
    "scalar": lambda x: np.array(1.0),
    "flat": lambda x: x.reshape(len(x), -1),
    "no channel": lambda x: x[:, 0],
    "5-D": lambda x: x[:, None],
    "no samples": lambda x: x[:0],
    "no rows": lambda x: x[:, :, :0],
    "other shape": lambda x: x[:, :, :3],
    "0..255": lambda x: x * 255,
    "centred": lambda x: x - 0.5,
    "large": with_pixel(1e38),
    "just above": with_pixel(1.001),
    "nan": with_pixel(np.nan),
    "inf": with_pixel(np.inf),
    "-inf": with_pixel(-np.inf),
    "one label less": lambda x: x[1:],
}


@pytest.mark.parametrize("part", [0, 2])
@pytest.mark.parametrize("case", IMAGES)
def test_images_that_do_not_fit(refused, case, part):
    line = refused(Dataset.from_tensors, "mine", *changed(part, IMAGES[case]))
    assert ("test_" if part else "train_") in line or case == "other shape"
    assert "expected" in line or ";" in line
    if case == "nan":
        assert "index 7" in line
    if case == "0..255":
        assert "divide by 255" in line


LABELS = {
    "float": lambda y: y.astype(np.float32),
    "bool": lambda y: y > 0,
    "object": lambda y: y.astype(object),
    "negative": lambda y: y - 1,
    "too large": lambda y: y + 9,
    "column": lambda y: y[:, None],
    "short": lambda y: y[1:],
    "long": lambda y: np.append(y, 0),
    "empty": lambda y: y[:0],
    "one-hot": lambda y: np.eye(3)[y],
    "overflow": lambda y: y.astype(np.uint64) + 2**63,
    "none": None,
}


@pytest.mark.parametrize("part", [1, 3])
@pytest.mark.parametrize("case", LABELS)
def test_labels_that_do_not_fit(refused, case, part):
    line = refused(Dataset.from_tensors, "mine", *changed(part, LABELS[case]), classes=["a", "b", "c"])
    assert ("test_y" if part == 3 else "train_y") in line


@pytest.mark.parametrize(
    "classes", [[], ["a", "b"], ["a", "b", "b"], ["a", "b", "\x1b[2J"], ["a", "b", ""], ["a", "b", 3]]
)
def test_classes_that_do_not_fit(refused, classes):
    refused(Dataset.from_tensors, "mine", *parts(), classes=classes)
    refused(Dataset.from_tensors, "mi\nne", *parts())


def test_constant_channels_have_deviation_one():
    x = np.zeros((6, 1, 2, 2), np.float32)
    data = Dataset.from_tensors("mine", x, np.arange(6) % 2, x, np.arange(6) % 2)
    assert data.mean == (0.0,) and data.std == (1.0,)


def test_limited():
    data = Dataset.from_tensors("mine", *parts())
    small = data.limited(10, seed=3)
    assert len(small.train) == 10 and small.test is data.test and small.mean == data.mean
    assert small.note == "10 of 40 training samples"
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))[:10]
    assert torch.equal(small.train.labels, data.train.labels[order])
    assert torch.equal(small.train.batch(torch.arange(10)), data.train.batch(order))
    sums = {d.checksum for d in (data, small, data.limited(10, seed=4), data.limited(11, seed=3))}
    assert len(sums) == 4 and data.limited(10, seed=3).checksum == small.checksum
    assert torch.equal(data.limited(5, 3).train.labels, small.train.labels[:5])
    assert data.limited(40) is data and data.limited(1000) is data
    tested = data.limited(6, 3, "test")
    assert len(tested.test) == 6 and tested.train is data.train and "6 of" in tested.note
    assert tested.checksum not in sums
    assert small.limited(5).note == "10 of 40 training samples; 5 of 10 training samples"
    for n in (0, -1):
        with pytest.raises(ConfigError, match="limit"):
            data.limited(n)
    assert data.with_steps(7) is data


def test_the_global_generator_is_left_alone():
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    load("digits").limited(100).train.batch(torch.arange(3))
    assert torch.equal(torch.random.get_rng_state(), state) and (np.random.get_state()[1] == numpy_state).all()


def test_digits():
    data = load("digits")
    assert (len(data.train), len(data.test), data.shape, data.num_classes) == (1437, 360, (1, 8, 8), 10)
    train, test = torch.bincount(data.train.labels), torch.bincount(data.test.labels)
    assert (train + test).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert ((test - (train + test) * 360 / 1797).abs() < 1).all()
    assert data.checksum == "d6e9e63e5c5576c228a8c7ba762df1f76f9b7c392ab2fdd3315181ec21756319"  # the split, for ever
    pixels = torch.cat([part.batch(torch.arange(len(part))) for part in (data.train, data.test)])
    assert pixels.unique().tolist() == [k / 16 for k in range(17)]
    assert len({tuple(row) for row in pixels.flatten(1).tolist()}) == 1797
    assert data.mean[0] == pytest.approx(data.train.batch(torch.arange(1437)).mean().item())


def test_a_split_is_abstract():
    with pytest.raises(TypeError):
        Split()
    assert issubclass(DataError, SpikewrightError) and DataError.code == 3
    assert isinstance(load("digits").train, TensorSplit)


def test_a_split_in_memory_makes_its_batches_where_it_is_sent():
    split = TensorSplit(torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8), torch.arange(6))
    there = split.to(torch.device("meta"))
    assert there.batch(torch.arange(3)).device.type == there.labels.device.type == "meta"
    assert there.batch(torch.arange(3)).shape == (3, 1, 4, 4) and len(there) == 6 and split.images.device.type == "cpu"
    augmented = Augment(1, True, 2)(there.batch(torch.arange(3)), torch.Generator())
    assert augmented.device.type == "meta" and augmented.shape == (3, 1, 4, 4)
