"""Portraits: the chart, the rasteriser, the light and the ground truth that comes with a picture."""

import numpy as np
import pytest
import torch

from nfs_lib import camera as cam
from nfs_lib.errors import BadInput
from nfs_lib.portraits import (
    EXPRESSIONS,
    REGIONS,
    Z_BG,
    Z_DIM,
    chart,
    portrait,
    portrait_pair,
    render,
    sample_latent,
    sample_pose,
)
from nfs_lib.portraits.chart import N_EXPRESSION, N_IDENTITY, expression_axes, face_model
from nfs_lib.portraits.light import harmonics, light_coefficients
from nfs_lib.portraits.rasteriser import FAR, rasterise

LABEL = {name: i for i, name in enumerate(REGIONS)}
FRONT = np.zeros(3, np.float32)


def plain(**axes):
    """The average person's latent with some expression axes set (normal numbers); the others at rest."""
    z = np.zeros(Z_DIM + Z_BG, np.float32)
    z[N_IDENTITY : N_IDENTITY + N_EXPRESSION] = [
        axes.get(n, 0.0 if n.startswith("look") or n == "mouth_lr" else -3.0) for n in EXPRESSIONS
    ]
    return z


def test_same_seed_same_picture():
    a, b, other = portrait(3, 64), portrait(3, 64), portrait(4, 64)
    for name in ("image", "depth", "alpha", "regions", "landmarks"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert np.abs(a.image.astype(int) - other.image).mean() > 5
    assert a.latent.shape == (Z_DIM + Z_BG,) and Z_DIM <= 56


@pytest.mark.parametrize("axis", EXPRESSIONS)
def test_expression_rises_with_its_number(axis):
    i = list(EXPRESSIONS).index(axis)
    for seed in (0, 1):
        z = np.random.default_rng(seed).standard_normal(N_EXPRESSION)
        values = []
        for step in np.linspace(-3, 3, 41):
            z[i] = step
            values.append(expression_axes(z)[axis])
        assert (np.diff(values) >= 0).all() and values[-1] - values[0] > 0.02
        assert np.abs(np.diff(values)).max() < 0.35 * (values[-1] - values[0])  # no jumps


def test_expression_range_is_wide():
    draws = [expression_axes(np.random.default_rng(s).standard_normal(N_EXPRESSION)) for s in range(800)]
    jaw, blink = np.array([[d["jaw_open"], d["blink"]] for d in draws]).T
    assert 0.35 < (jaw > 0.4).mean() < 0.55 and jaw.max() > 0.8
    assert 0.08 < (blink > 0.55).mean() < 0.16
    assert max(d["roll"] for d in draws if d["jaw_open"] > 0.85) < 0.15  # no rolled lips in a wide open mouth


def test_harmonics_are_orthogonal_up_to_their_constants():
    """Against the sphere itself: Monte-Carlo inner products of the nine functions are diagonal."""
    n = np.random.default_rng(0).standard_normal((200_000, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    y = np.stack(np.broadcast_arrays(*harmonics.py_func(*n.T)))
    gram = y @ y.T / len(n)
    scale = np.sqrt(np.diag(gram))
    assert np.abs(gram / scale[:, None] / scale - np.eye(9)).max() < 0.01
    # bands share one norm: 1, 3 and 5 functions
    assert np.ptp(np.diag(gram)[1:4]) < 0.02 and np.ptp(np.diag(gram)[4:]) < 0.02


def test_light_is_the_closed_form_on_a_sphere():
    """γ of an ambient and a key light gives ambient·(1 + sky·n_y) + key·(1/4 + c/2 + .7·5/32·(3c² − 1))."""
    n = np.random.default_rng(1).standard_normal((500, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    direction = np.array([0.48, 0.6, 0.64])
    key, ambient = np.array([0.5, 0.45, 0.4]), np.array([0.6, 0.62, 0.66])
    gamma = light_coefficients(direction, key, ambient, sky=0.1).reshape(3, 9).astype(np.float64)
    gamma[:, 0] += 0.8
    got = np.stack(np.broadcast_arrays(*harmonics.py_func(*n.T)), 1) @ gamma.T
    c = n @ direction
    want = ambient * (1 + 0.1 * n[:, 1:2]) + key * (0.25 + c / 2 + 0.7 * 5 / 32 * (3 * c**2 - 1))[:, None]
    assert np.abs(got - want).max() < 1e-5
    clamped = np.maximum(c, 0)
    assert (
        np.abs(want - ambient * (1 + 0.1 * n[:, 1:2]) - key * clamped[:, None]).max() < 0.1
    )  # near the true lobe


def test_rasteriser_against_brute_force():
    rng, size = np.random.default_rng(2), 24
    screen = np.concatenate([rng.uniform(-4, 28, (18, 2)), rng.uniform(0.5, 1.5, (18, 1))], 1).astype(
        np.float32
    )
    triangles = np.arange(18, dtype=np.int32).reshape(6, 3)
    depth, face = np.full((size, size), FAR, np.float32), np.full((size, size), -1, np.int32)
    weight = np.zeros((size, size, 2), np.float32)
    rasterise(
        screen,
        triangles,
        np.arange(6),
        depth,
        face,
        weight,
        np.full_like(depth, FAR),
        np.ones(18, np.float32),
        0.5,
    )
    assert (face >= 0).sum() > 100
    for i in range(size):
        for j in range(size):
            best, who, at = np.inf, -1, None
            for t, corners in enumerate(triangles):
                p = screen[corners].astype(np.float64)
                w = np.linalg.solve(np.vstack([p[:, :2].T, np.ones(3)]), [j + 0.5, i + 0.5, 1])
                if (w >= 0).all():
                    z = 1 / (w / p[:, 2]).sum()
                    if z < best:
                        best, who, at = z, t, w / p[:, 2] * z
            assert face[i, j] == who
            if who >= 0:
                assert abs(depth[i, j] - best) < 1e-4 and np.abs(weight[i, j] - at[:2]).max() < 1e-3


def test_depth_and_landmarks_agree_with_the_camera():
    seen = 0
    for seed in (11, 12, 13):
        p = portrait(seed, 192)
        model, scene = face_model(), p.scene
        vertices = model.vertices(
            torch.from_numpy(scene.identity)[None], torch.from_numpy(scene.expression)[None]
        )
        want = cam.project(
            vertices[:, model.landmarks], cam.Camera.from_pose(torch.from_numpy(p.pose)[None]), 192
        )[0].numpy()
        assert np.abs(p.landmarks - want[:, :2]).max() < 0.01
        column, row = np.clip(p.landmarks.astype(int).T, 0, 191)
        error = p.depth[row, column] - want[:, 2]
        visible = np.array([*range(27, 31), 33, *range(48, 60)])  # nose and outer lips
        seen += (np.abs(error[visible]) < 0.006).sum()
    assert seen >= 0.85 * 3 * 17
    assert ((p.depth > 0) == (p.alpha > 0)).mean() > 0.995


def test_yaw_turns_the_nose_to_the_right_and_pitch_down():
    scene = chart(plain())
    front, right, down = (
        render(scene, np.array(a, np.float32), 96) for a in ((0, 0, 0), (0.4, 0, 0), (0, 0.25, 0))
    )
    assert right.landmarks[30, 0] > front.landmarks[30, 0] + 5
    assert down.landmarks[30, 1] > front.landmarks[30, 1] + 2
    assert abs(front.landmarks[30, 0] - 48) < 0.5


def test_face_fills_the_frame():
    p = render(chart(plain()), FRONT, 128)
    face = (1.0 + 1.0) * cam.HEAD_TO_NERF / (2 * np.tan(cam.FOV / 2))
    assert 0.6 < face < 0.7
    assert p.regions[0].max() == 0  # room above the hair
    assert (p.regions[-1] == LABEL["clothes"]).sum() > 20  # shoulders below


def test_jaw_opens_the_mouth():
    shut, wide = (render(chart(plain(jaw_open=v)), FRONT, 128) for v in (-3, 2.5))
    inside = [LABEL["mouth"], LABEL["teeth"]]
    assert np.isin(wide.regions, inside).sum() > 60 > 20 > np.isin(shut.regions, inside).sum()

    def height(p):
        rows = np.flatnonzero((p.regions == LABEL["lips"]).any(1))
        return np.ptp(rows)

    assert height(wide) > 1.5 * height(shut)


def test_every_region_is_drawn():
    found = set()
    for seed in range(6):
        found |= set(np.unique(portrait(seed, 128).regions).tolist())
    assert found == set(range(len(REGIONS)))


def test_pair_differs_in_the_face_only():
    wide = 0
    for seed in range(4):
        a, b = portrait_pair(seed, 96)
        changed = np.abs(a.image.astype(int) - b.image).max(2) > 12
        outside = np.isin(a.regions, [LABEL[n] for n in ("background", "hair", "clothes")]) & (
            a.regions == b.regions
        )
        outside[int(a.landmarks[6:11, 1].max()) - 2 :] = False  # an opened jaw covers neck and collar
        assert changed.mean() > 0.005
        assert changed[outside].mean() < 0.01
        same = np.r_[0:N_IDENTITY, N_IDENTITY + N_EXPRESSION : Z_DIM + Z_BG]
        assert np.array_equal(a.latent[same], b.latent[same]) and np.array_equal(a.pose, b.pose)
        wide += (
            max(expression_axes(p.latent[N_IDENTITY : N_IDENTITY + N_EXPRESSION])["jaw_open"] for p in (a, b))
            > 0.4
        )
    assert wide >= 2


def test_pose_distribution():
    degrees = np.degrees([sample_pose(s) for s in range(1500)])
    assert np.abs(degrees.std(0) - (17, 7, 3)).max() < 1
    assert (np.abs(degrees).max(0) <= (45.01, 20.01, 8.01)).all()


def test_chart_is_smooth():
    z, step = (
        sample_latent(5),
        np.random.default_rng(0).standard_normal(Z_DIM + Z_BG).astype(np.float32) * 1e-3,
    )
    a, b = chart(z), chart(z + step)
    for p, q in (
        (a.expression, b.expression),
        (a.light, b.light),
        (np.hstack(a.hair), np.hstack(b.hair)),
        (np.hstack(a.look), np.hstack(b.look)),
    ):
        assert 0 < np.abs(np.asarray(p) - q).max() < 0.05


@pytest.mark.parametrize("z", [np.zeros(5), np.full(Z_DIM + Z_BG, np.nan)])
def test_bad_latents(z):
    with pytest.raises(BadInput, match="expected"):
        chart(z)


def test_bad_resolution_and_pose():
    scene = chart(plain())
    for resolution in (15, 2049, 0):
        with pytest.raises(BadInput, match="16 to 2048"):
            render(scene, FRONT, resolution)
    with pytest.raises(BadInput, match="yaw"):
        render(scene, np.array([np.inf, 0, 0]), 64)
