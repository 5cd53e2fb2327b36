"""The whole head with the official code's switches, against what the official code rendered (goldens of its small networks)."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nfs_lib.alignment import on_official_square
from nfs_lib.camera import frontal, head_to_nerf, nerf_to_head
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.face.bfm import Bfm, plane, project, rotation, to_camera
from nfs_lib.inversion import Inversion
from nfs_lib.parity.stylenerf_cases import Set, ellipse
from nfs_lib.talking_head import OFFICIAL, TalkingHead

GOLDENS = Path(__file__).parent / "goldens"
FOCAL, TANGENT = 1015 / 112, 0.10510423526567646


def placed(pixels: torch.Tensor) -> torch.Tensor:
    """Vertices in the head frame, at depth 0 of the NeRF frame, that Deep3D's camera sees at these pixels (x, up) of 224."""
    on_square = pixels / 224 * 0.2 - 0.1
    return nerf_to_head(torch.nn.functional.pad(on_square * TANGENT / 0.1, (0, 1)))


@pytest.fixture(scope="module")
def given():
    return Set(GOLDENS / "stylenerf", "v1")


def official_head(given, **changes) -> TalkingHead:
    """The goldens' head: two expressions, of which 0 is the reference and 1 the prediction; a LipaintNet that gives their
    other styles; a segmenter that sees their mean mask."""
    rest, moved = (placed(given.inputs[f"proj_{kind}_224"][0]) for kind in ("ref", "pred"))
    model = MorphableModel(rest, torch.zeros(1, *rest.shape), (moved - rest)[None], torch.zeros(1, 3).long(),
                           torch.zeros(68).long(), {}, ["exp0"], {"cropped": True})
    outside = torch.stack([ellipse(512, *row) for row in given.inputs["mask_params"]]).mean(0)
    world = SimpleNamespace(face_model=None, lipaint=lambda w, beta: given.inputs["ws_inpaint"][:, 0],
                            segmenter=SimpleNamespace(mouth=lambda image: 1 - outside[None]))
    torso = given.inputs["torso_xy_512"] / 512 * 0.2 - 0.1
    anchors = nerf_to_head(torch.nn.functional.pad(torso * torch.tensor([1.0, -1.0]), (0, 1)))
    inversion = Inversion(given.generator, given.ws[:1, 0], given.inputs["z_shape_bg"], torch.zeros(1, 3))
    face = Coefficients(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 3), torch.zeros(1, 27))
    options = OFFICIAL | {"stride": 1, "anchors": anchors} | changes      # the goldens' vertices are every fourth already
    return TalkingHead(world, inversion, face, model, **options)


BETA = torch.ones(1, 1)


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_vertices_are_where_the_official_code_puts_them(given):
    head = official_head(given)
    for vertices, name in ((head.v_init, "ref"), (head.vertices(BETA), "pred")):
        assert torch.allclose(head_to_nerf(vertices)[:, :2], given.outputs[f"{name}_vertices"][0], atol=1e-6)


def test_the_whole_frame_is_the_official_one(given):
    """Ray-number matching, torso anchors, motion in the plane, segmenter's mask, blend at 512, RGB left alone."""
    head = official_head(given)
    layers = head.layers(BETA, given.pose)
    assert difference(layers.deformed[1], given.outputs["deform_pose.img_nerf"]) < 5e-4
    assert difference(layers.inpainted[1], given.outputs["inpaint.img_nerf"]) < 5e-4
    picture = head.frame(BETA, given.pose)
    theirs = given.outputs["blend_pose.img"][0].clamp(-1, 1)
    assert (picture - theirs).abs().max() < 5e-4 * given.outputs["blend_pose.img"].abs().max()


def test_from_the_front_too(given):
    assert difference(official_head(given).deformed(BETA, frontal())[1], given.outputs["deform_front.img_nerf"]) < 5e-4


@pytest.mark.parametrize("switch", [{"rule": "paper"}, {"anchors": None}, {"square": False}, {"blend_rgb": True},
                                    {"lipaint": False}])
def test_every_switch_matters(given, switch):
    picture = official_head(given, **switch).frame(BETA, given.pose)
    theirs = given.outputs["blend_pose.img"][0].clamp(-1, 1)
    assert (picture - theirs).abs().max() > 2e-3 * given.outputs["blend_pose.img"].abs().max()


def test_the_square_is_deep3ds_projection():
    """`on_official_square` of a placed BFM is `bfm.plane` of its projection."""
    from scipy.io import loadmat

    from nfs_lib.face.bfm import as_morphable

    arrays = loadmat(GOLDENS / "networks" / "bfm" / "BFM_model_front.mat")
    bfm = Bfm({name: value for name, value in arrays.items() if not name.startswith("__")})
    generator = torch.Generator().manual_seed(0)
    identity, expression = torch.randn(1, 80, generator=generator), torch.randn(1, 64, generator=generator)
    turned, where = rotation(torch.tensor([[0.1, -0.2, 0.05]])), torch.tensor([[0.3, -0.2, 0.4]])
    theirs = plane(project(to_camera(bfm.shape(identity, expression) @ turned + where)), stride=1)
    model = as_morphable(bfm, turned[0], where[0])
    ours = head_to_nerf(on_official_square(model.vertices(identity, expression)[0]))
    assert torch.allclose(ours[:, :2], theirs[0], atol=1e-6)
