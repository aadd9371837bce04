import io
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from spikewright.data import FolderSplit, load
from spikewright.errors import ConfigError


def picture(seed, width=40, height=30, mode="RGB"):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height)).convert(mode)


@pytest.fixture
def root(tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for k in range(count):
                picture(10 * label + k).save(folder / f"{k}.png")
    return tmp_path / "pets"


def test_folder(root):
    data = load(str(root), size=16)
    assert data.name == "pets" and data.classes == ("cat", "dog") and data.shape == (3, 16, 16) and data.frames is None
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and data.test.labels.tolist() == [0, 0, 1, 1]
    pixels = data.train.batch(torch.tensor([4, 0]))
    assert pixels.dtype == torch.float32 and pixels.shape == (2, 3, 16, 16) and 0 <= pixels.min() < pixels.max() <= 1
    expected = picture(11).crop((5, 0, 35, 30)).resize((16, 16), Image.Resampling.BILINEAR)
    assert (pixels[0] - torch.from_numpy(np.array(expected)).permute(2, 0, 1) / 255).abs().max() < 0.03
    every = data.train.batch(torch.arange(6)).double()
    assert data.mean == pytest.approx(every.mean((0, 2, 3)).tolist())
    assert data.std == pytest.approx(every.std((0, 2, 3), unbiased=False).tolist())
    part = data.train.subset(torch.tensor([4, 0]))
    assert isinstance(part, FolderSplit) and part.labels.tolist() == [1, 0]
    assert torch.equal(part.batch(torch.arange(2)), pixels)


def test_checksum_follows_names_and_contents(root):
    first = load(str(root), size=8)
    assert load(str(root), size=8).checksum == first.checksum
    picture(99).save(root / "val/dog/1.png")
    second = load(str(root), size=8)
    (root / "val/dog/1.png").rename(root / "val/dog/7.png")
    assert len({first.checksum, second.checksum, load(str(root), size=8).checksum}) == 3


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "LA"])
def test_other_modes_become_rgb(tmp_path, mode):
    kind = "jpg" if mode == "CMYK" else "png"
    picture(0, mode=mode).save(tmp_path / f"a.{kind}")
    pixels = FolderSplit([tmp_path / f"a.{kind}"], torch.tensor([0]), 12).batch(torch.tensor([0]))
    assert pixels.shape == (1, 3, 12, 12) and 0 < pixels.mean() < 1
    if mode == "L":
        assert torch.equal(pixels[0, 0], pixels[0, 2])


def test_shapes_of_all_kinds(tmp_path):
    for k, (width, height) in enumerate([(1, 1), (1, 3000), (3000, 1), (16, 16), (7, 90), (400, 300)]):
        picture(k, width, height).save(tmp_path / f"{k}.jpg")
    pixels = FolderSplit([tmp_path / f"{k}.jpg" for k in range(6)], torch.zeros(6).long(), 16).batch(torch.arange(6))
    assert pixels.shape == (6, 3, 16, 16)


def png_claiming(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def encoded(kind):
    out = io.BytesIO()
    picture(3).save(out, kind)
    return out.getvalue()


JPEG, PNG = encoded("JPEG"), encoded("PNG")
BROKEN = {
    "empty": b"",
    "text": b"not an image",
    "half jpeg": JPEG[: len(JPEG) // 2],
    "half png": PNG[: len(PNG) // 2],
    "jpeg header": JPEG[:20],
    "png flip": PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:],
    "billion pixels": png_claiming(40_000, 40_000),
    "100 million pixels": png_claiming(10_000, 10_000),
    "no width": png_claiming(0, 10),
    "16 GB": png_claiming(2**31 - 1, 2**31 - 1),
    "short png": png_claiming(1000, 1000),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n",
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", BROKEN)
def test_damaged_image(tmp_path, refused, case):
    path = tmp_path / "dog\n\x1b[31m.png"
    path.write_bytes(BROKEN[case])
    split = FolderSplit([path], torch.tensor([0]), 16)
    assert "dog\\n\\x1b[31m.png" in refused(split.batch, torch.tensor([0]))


def test_things_that_are_not_images(root, refused):
    os.mkfifo(root / "train/cat/pipe.png")
    assert "a pipe" in refused(load, str(root))
    (root / "train/cat/pipe.png").unlink()
    (root / "train/cat/folder.jpg").mkdir()
    assert "a directory" in refused(load, str(root))
    (root / "train/cat/folder.jpg").rmdir()
    (root / "train/cat/notes.txt").write_text("left alone")
    assert len(load(str(root), size=8).train) == 6


def test_layouts_that_do_not_fit(root, tmp_path, refused):
    assert "no train/" in refused(load, str(tmp_path))
    (root / "val/bird").mkdir()
    assert "'bird'" in refused(load, str(root))
    (root / "val/bird").rename(root / "train/bird")
    assert "holds no images" in refused(load, str(root))
    (root / "train/bird").rename(root / "train/\x1b[2J")
    assert "\\x1b[2J" in refused(load, str(root))
    (root / "train/\x1b[2J").rmdir()
    for path in (root / "val").glob("*/*"):
        path.unlink()
    assert "holds no images" in refused(load, str(root))


@pytest.mark.parametrize("size", [0, -1, 5000, 2.5, True])
def test_sizes_out_of_range(root, refused, size):
    assert "size" in refused(load, str(root), size=size, error=ConfigError)


def test_real_imagenette(real, tmp_path):
    with zipfile.ZipFile(real("imagenette-tiny") / "imagenette-tiny/imagenette-tiny.zip") as archive:
        for name in archive.namelist():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(archive.read(name))
    data = load(str(tmp_path), size=64)
    assert (len(data.train), len(data.test), data.num_classes) == (300, 100, 10)
    assert torch.bincount(data.train.labels).tolist() == [30] * 10
    assert data.test.batch(torch.arange(100)).mean().item() == pytest.approx(0.45, abs=0.05)
    assert data.mean == pytest.approx((0.46, 0.46, 0.43), abs=0.03)
    modes = [Image.open(path).mode for path in data.train.files + data.test.files]
    grey = modes.index("L")
    assert modes.count("L") == 6 and grey < 300
    pixels = data.train.batch(torch.tensor([grey]))[0]
    assert torch.equal(pixels[0], pixels[1]) and pixels.std() > 0.05
