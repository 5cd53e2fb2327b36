"""FID and internal differences: closed forms, another library, and that spoilt pictures are farther away."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.stats import ortho_group

from nfs_lib import portraits, worlds
from nfs_lib.errors import BadInput
from nfs_lib.metrics import COLUMNS, fid, frechet_distance, internal_differences, load_backend


@pytest.mark.parametrize(("pictures", "size"), [(300, 20), (30, 200)])
def test_a_set_is_at_0_from_itself(pictures, size):
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, (pictures, size)) @ rng.normal(size=(size, size))
    spread = np.trace(np.cov(features, rowvar=False))
    assert abs(fid(features, features)) < 1e-6 * spread
    assert abs(fid(features, features[::-1])) < 1e-6 * spread


@pytest.mark.parametrize("case", range(10))
def test_two_gaussians_in_closed_form(case):
    rng = np.random.default_rng(case)
    size = int(rng.integers(2, 40))
    mean_a, mean_b = rng.normal(size=(2, size))
    turned = ortho_group.rvs(size, random_state=case) if case % 2 else np.eye(size)
    a, b = rng.uniform(0.01, 4, (2, size))  # variances along the same axes: the roots commute
    expected = ((mean_a - mean_b) ** 2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    found = frechet_distance(mean_a, turned * a @ turned.T, mean_b, turned * b @ turned.T)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", range(5))
def test_two_gaussians_with_axes_of_their_own(case):
    rng = np.random.default_rng(case)
    a, b = (x @ x.T for x in rng.normal(size=(2, 9, 12)))
    root = np.sqrt(np.linalg.eigvals(a @ b).real).sum()  # the trace of √(ab), whatever its eigenvectors
    expected = np.trace(a) + np.trace(b) - 2 * root
    assert frechet_distance(np.zeros(9), a, np.zeros(9), b) == pytest.approx(expected, rel=1e-9)


def test_torchmetrics_finds_the_same():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Seen(torch.nn.Module):
        num_features = 12

        def forward(self, pictures):
            return torch.nn.functional.adaptive_avg_pool2d(pictures, 2).flatten(1).double() ** 2

    rng = torch.Generator().manual_seed(0)
    seen, other = Seen(), FrechetInceptionDistance(Seen(), input_img_size=(3, 8, 8)).set_dtype(torch.float64)
    a, b = torch.rand(70, 3, 8, 8, generator=rng), torch.rand(50, 3, 8, 8, generator=rng) ** 1.5
    other.update(a, real=True)
    other.update(b, real=False)
    assert fid(seen(a), seen(b)) == pytest.approx(float(other.compute()), rel=1e-5)


def test_what_fid_cannot_use():
    rng = np.random.default_rng(0)
    with pytest.raises(BadInput, match="two rows"):
        fid(rng.normal(size=(1, 4)), rng.normal(size=(9, 4)))
    with pytest.raises(BadInput, match="same network"):
        fid(rng.normal(size=(5, 4)), rng.normal(size=(9, 3)))
    with pytest.raises(BadInput, match="finite"):
        fid(np.full((3, 4), np.nan), rng.normal(size=(9, 4)))


def test_spoilt_pictures_are_farther_the_more_they_are_spoilt():
    n, features = 10, load_backend(worlds.load("open")).features
    drawn = [portraits.portrait(9_360_000 + i, 256) for i in range(2 * n)]
    pictures = np.stack([p.image for p in drawn]).astype(float)
    mine, others = pictures[:n], pictures[n:]
    rng = np.random.default_rng(0)
    noise, waves = rng.normal(size=mine.shape), gaussian_filter(rng.normal(size=(2, 256, 256)), (0, 16, 16))
    waves /= waves.std()
    row, column = np.mgrid[:256, :256]

    def warped(x, amount):
        at = [row + amount * waves[0], column + amount * waves[1]]
        return np.stack([map_coordinates(x[..., c], at, order=1, mode="nearest") for c in range(3)], -1)

    def mouthless(x, marks, sigma):
        left, top = np.floor(marks.min(0)).astype(int) - 4
        right, bottom = np.ceil(marks.max(0)).astype(int) + 4
        x = x.copy()
        x[top:bottom, left:right] = gaussian_filter(x, (sigma, sigma, 0))[top:bottom, left:right]
        return x

    def jpeg(x, quality):
        Image.fromarray(x.astype(np.uint8)).save(file := io.BytesIO(), "JPEG", quality=quality)
        return np.array(Image.open(file)).astype(float)

    def seen(x):
        x = torch.from_numpy(np.clip(np.round(x), 0, 255)).float().permute(0, 3, 1, 2) / 127.5 - 1
        return features(x)

    true, same = seen(others), seen(mine)
    spoilt = {
        "blur": [gaussian_filter(mine, (0, sigma, sigma, 0)) for sigma in (1, 3)],
        "noise": [mine + sigma * noise for sigma in (5, 20)],
        "mouth": [np.stack([mouthless(x, p.landmarks[48:], sigma) for x, p in zip(mine, drawn[:n], strict=True)])
                  for sigma in (2, 6)],
        "JPEG": [np.stack([jpeg(x, quality) for x in mine]) for quality in (60, 10)],
        "warp": [np.stack([warped(x, amount) for x in mine]) for amount in (1, 4)],
    }
    for kind, levels in spoilt.items():
        little, much = (seen(level) for level in levels)
        assert 0.2 < fid(same, little) < fid(same, much), kind
        assert max(fid(true, same), fid(true, little)) < fid(true, much), kind  # ten pictures: a little is lost in the floor


def test_internal_differences():
    own, flipped = {"FID": 50.463, "CSIM": 0.8, "CPBD": float("nan")}, {"FID": 54.403, "CSIM": 0.7, "CPBD": 0.2}
    found = internal_differences(own, flipped)
    assert list(found) == ["FID", "CSIM", "CPBD"] and np.isnan(found["CPBD"])
    assert found["FID"] == pytest.approx(-3.94) and found["CSIM"] == pytest.approx(0.1)
    with pytest.raises(BadInput, match="same"):
        internal_differences(own, {"FID": 1.0})


def test_a_method_that_ignores_the_pose_differs_by_exactly_0():
    backend = load_backend(worlds.load("open"))
    portrait = portraits.portrait(9_360_100, 128)
    picture = torch.from_numpy(portrait.image).permute(2, 0, 1)[None] / 127.5 - 1
    truth = backend.features(torch.cat([picture, picture.flip(-1)]))

    def method(pose):  # shows the input, whatever the pose
        return picture.repeat(4, 1, 1, 1) + 0.1 * torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(1))

    def measured(pose):
        made = method(pose)
        features, vectors = backend.look(made)
        return {"FID": fid(features, truth), "CSIM": float((vectors @ backend.identity(picture)[0]).mean())}

    pose = torch.tensor([0.3, 0.1, -0.05])
    assert internal_differences(measured(pose), measured(pose * torch.tensor([-1, 1, -1]))) == {"FID": 0.0, "CSIM": 0.0}


def test_columns_of_every_table():
    assert list(COLUMNS.items()) == [("FID", "↓"), ("CSIM", "↑"), ("CPBD", "↑"), ("LSE-D", "↓"), ("LSE-C", "↑")]
