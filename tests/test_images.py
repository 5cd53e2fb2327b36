"""Pictures of every kind against colours and orders of pixels that are known beforehand."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nfs_lib.errors import BadInput
from nfs_lib.images import load_portrait, save_image, to_uint8

SKIN = (200, 150, 120)


def level(byte):
    return byte / 127.5 - 1


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif"])
def test_formats_keep_the_colour(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (48, 64), SKIN).save(path)
    image = load_portrait(path)
    assert image.shape == (3, 64, 48) and image.dtype == torch.float32
    assert torch.allclose(image.mean((1, 2)), torch.tensor([level(c) for c in SKIN]), atol=0.04)


def test_round_trip_is_exact(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = load_portrait(tmp_path / "a.png")
    assert (to_uint8(image) == pixels).all()
    save_image(tmp_path / "b.png", image)
    assert (np.array(Image.open(tmp_path / "b.png")) == pixels).all()
    assert to_uint8(torch.tensor([-3.0, 0.0, 9.0]).reshape(3, 1, 1)).ravel().tolist() == [0, 128, 255]


# what a viewer must do to the stored rows, from the EXIF standard (0th row, 0th column)
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation(tmp_path, orientation):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 64, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert (to_uint8(load_portrait(tmp_path / "a.png")) == UPRIGHT[orientation](pixels)).all()


def test_transparency_shows_mid_grey(tmp_path):
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 255, np.array([0, 255] * 20)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    rows = to_uint8(load_portrait(tmp_path / "a.png"))
    assert (rows[:, 0::2] == 128).all() and (rows[:, 1::2] == (255, 0, 0)).all()


def test_transparency_named_in_a_palette_and_by_colour(tmp_path):
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([0, 0, 0, *SKIN])
    palette.paste(0, (0, 0, 20, 40))
    palette.save(tmp_path / "p.png", transparency=0)
    rgb = Image.new("RGB", (40, 40), SKIN)
    rgb.paste((0, 0, 0), (0, 0, 20, 40))
    rgb.save(tmp_path / "c.png", transparency=(0, 0, 0))
    for name in ("p.png", "c.png"):
        rows = to_uint8(load_portrait(tmp_path / name))
        assert (rows[:, :20] == 128).all() and (rows[:, 20:] == SKIN).all()


def test_grey_one_bit_and_cmyk(tmp_path):
    Image.new("L", (40, 40), 77).save(tmp_path / "l.png")
    Image.new("1", (40, 40), 1).save(tmp_path / "1.png")
    Image.new("CMYK", (40, 40), (0, 255, 255, 0)).save(tmp_path / "c.jpg")
    assert (to_uint8(load_portrait(tmp_path / "l.png")) == 77).all()
    assert (to_uint8(load_portrait(tmp_path / "1.png")) == 255).all()
    red = to_uint8(load_portrait(tmp_path / "c.jpg")).reshape(-1, 3).mean(0)
    assert red == pytest.approx((255, 0, 0), abs=3)


def png16(values, colour_type):
    """A 16-bit png written from its specification; values (H, W[, 3]) uint16."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("colour_type", [0, 2])
def test_sixteen_bits(tmp_path, colour_type):
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16)
    values = np.broadcast_to(ramp, (40, 64))
    values = values if colour_type == 0 else np.stack([values] * 3, -1)
    (tmp_path / "a.png").write_bytes(png16(values, colour_type))
    image = load_portrait(tmp_path / "a.png")
    assert torch.allclose(image[:, 0], torch.linspace(-1, 1, 64).expand(3, 64), atol=0.01)


def linear_profile():
    """An ICC profile with sRGB's primaries and no transfer curve (ICC.1:2001, matrix/TRC display profile)."""

    def xyz(*numbers):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(number * 65536) for number in numbers))

    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    text = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"a\0" + bytes(78)
    tags = {
        b"desc": text,
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.4361, 0.2225, 0.0139),
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", round(0.9642 * 65536), 65536, round(0.8249 * 65536))
    return header.ljust(128, b"\0") + table + body


def test_a_colour_profile_is_turned_into_srgb(tmp_path):
    Image.new("RGB", (40, 40), (55, 128, 255)).save(tmp_path / "a.png", icc_profile=linear_profile())
    expected = [(1.055 * (c / 255) ** (1 / 2.4) - 0.055) * 255 for c in (55, 128, 255)]
    assert to_uint8(load_portrait(tmp_path / "a.png"))[0, 0] == pytest.approx(expected, abs=2)
    Image.new("RGB", (40, 40), SKIN).save(tmp_path / "b.png", icc_profile=b"nonsense")
    assert (to_uint8(load_portrait(tmp_path / "b.png")) == SKIN).all()


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for name, options in {"a.gif": {}, "a.webp": {"lossless": True}, "a.png": {}}.items():
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert (to_uint8(load_portrait(tmp_path / name)) == (255, 0, 0)).all()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_huge_picture_is_scaled_down(tmp_path, suffix):
    huge = Image.new("L", (12000, 9000), 40)
    huge.paste(220, (0, 0, 6000, 9000))
    huge.save(tmp_path / f"a.{suffix}", **({"compress_level": 1} if suffix == "png" else {}))
    image = load_portrait(tmp_path / f"a.{suffix}")
    assert image.shape == (3, 1536, 2048)
    assert image[:, :, :1000].mean().item() == pytest.approx(level(220), abs=0.02)
    assert image[:, :, -1000:].mean().item() == pytest.approx(level(40), abs=0.02)


def faults(folder):
    """Files that are no portrait, each with a word that its message must hold."""
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8))
    for suffix in ("png", "jpg", "webp"):
        buffer = io.BytesIO()
        picture.save(buffer, {"jpg": "jpeg"}.get(suffix, suffix))
        (folder / f"cut.{suffix}").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (folder / "text.png").write_text("I am not a picture\n")
    (folder / "empty.png").write_bytes(b"")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (200, 31)).save(folder / "low.png")
    Image.new("L", (20000, 40)).save(folder / "strip.png")
    Image.new("1", (20000, 20000)).save(folder / "bomb.png")
    return {
        "cut.png": "damaged",
        "cut.jpg": "damaged",
        "cut.webp": "damaged",
        "text.png": "isn't a picture",
        "empty.png": "isn't a picture",
        "dot.png": "1x1",
        "low.png": "200x31",
        "strip.png": "20000x40",
        "bomb.png": "more pixels",
        "missing.png": "doesn't exist",
        ".": "folder",
    }


def test_faults_get_one_clear_message(tmp_path):
    for name, word in faults(tmp_path).items():
        with pytest.raises(BadInput, match=word) as caught:
            load_portrait(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["png", "jpeg", "webp"]), st.data())
def test_damaged_bytes_give_a_picture_or_bad_input(tmp_path_factory, kind, data):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.png"
    path.write_bytes(content)
    try:
        image = load_portrait(path)
    except BadInput:
        return
    assert image.shape[0] == 3 and image.abs().max() <= 1
