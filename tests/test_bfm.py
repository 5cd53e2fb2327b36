"""The Basel Face Model as the official code uses it, and its fit: closed forms, another library, and known coefficients found
again. Its numbers against the official code's: the golden sets bfm and bfm_convert."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.transform import Rotation

from nfs_lib import camera, cropping, parity
from nfs_lib.errors import BadInput, CorruptWeights, MissingWeights
from nfs_lib.face import Bfm, BfmCoefficients, MorphableModel, ReconNet, bfm_fitting
from nfs_lib.face import bfm as model
from nfs_lib.official.bfm_originals import ORIGINALS, convert, read_mat
from nfs_lib.parity import golden as goldens

GOLDENS = Path(__file__).parent / "goldens" / "networks"
GIVEN = {"coeffs", "fit_target", "photo_a", "photo_b", "photo_mask"}
SIZES = (6, 5, 4)
WIDE, HIGH = 33, 41


def grid_face(seed: int = 0) -> dict[str, np.ndarray]:
    """A small face-like model: a bulged grid with a nose, symmetric, whose modes are smooth; its triangles face the camera."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:HIGH, :WIDE]
    x, y = (column / (WIDE - 1) - 0.5) * 1.6, (0.5 - row / (HIGH - 1)) * 1.8
    z = 0.8 - 0.7 * x * x - 0.4 * y * y + 0.3 * np.exp(-(x * x + y * y) / 0.05)
    mean = np.stack([x, y, z], -1).reshape(-1, 3)

    def modes(count: int, size: float) -> np.ndarray:
        wave, phase = rng.uniform(1, 4, (count, 3, 2)), rng.uniform(0, 6, (count, 3))
        smooth = np.sin(np.einsum("kcd,vd->kcv", wave, mean[:, :2]) + phase[..., None])
        return size * smooth.transpose(2, 1, 0).reshape(-1, count)

    corner = (row * WIDE + column)[:-1, :-1].ravel()
    triangles = np.concatenate([np.stack([corner, corner + WIDE, corner + 1], 1),
                                np.stack([corner + 1, corner + WIDE, corner + WIDE + 1], 1)])
    ring = np.full((len(mean), 8), len(triangles))
    for vertex in range(len(mean)):
        around = np.nonzero((triangles == vertex).any(1))[0]
        ring[vertex, : len(around)] = around
    spots = 130 + 40 * np.sin(6 * mean + 1.0) * (1.0, 0.7, 0.5)
    return {"meanshape": mean.reshape(1, -1) + 0.1, "meantex": spots.reshape(1, -1), "idBase": modes(SIZES[0], 0.03),
            "exBase": modes(SIZES[1], 0.03), "texBase": modes(SIZES[2], 12.0), "tri": triangles + 1.0, "point_buf": ring + 1.0,
            "keypoints": rng.choice(len(mean), 68, replace=False)[None] + 1.0, "skinmask": np.ones((1, len(mean)))}


def coefficients(seed: int = 1, batch: int = 1, size: float = 0.5) -> BfmCoefficients:
    c = BfmCoefficients.from_vector(size * torch.randn(batch, sum(SIZES) + 33, generator=torch.Generator().manual_seed(seed)),
                                    SIZES)
    return BfmCoefficients(c.identity, c.expression, c.texture, 0.4 * c.angles, 0.2 * c.light, 0.2 * c.translation)


@pytest.fixture(scope="module")
def face():
    return Bfm(grid_face())


@pytest.fixture(scope="module")
def official():
    return Bfm(read_mat(GOLDENS / "bfm" / "BFM_model_front.mat")), load_file(GOLDENS / "bfm" / "golden.safetensors")


# against the official code


def test_sets_of_other_sizes_are_read_as_they_are(tmp_path):
    """Fewer modes, another stride and fewer steps; tensors that aren't there aren't asked for."""
    shutil.copytree(GOLDENS / "bfm", tmp_path / "bfm")
    set_ = json.loads((GOLDENS / "index.json").read_text())["sets"]["bfm"]
    known = load_file(GOLDENS / "bfm" / "golden.safetensors")
    kept = {"coeffs": known["coeffs"][:1], "shape": known["shape"][:1], "fit_target": known["fit_target"],
            "fit_rigid_loss_every50": known["fit_rigid_loss_every50"][:2], "plane_every8th": known["plane_every4th"][:1, ::2],
            "fit_nonrigid_loss_curve": known["fit_nonrigid_loss_curve"][:9]}
    golden = goldens.GoldenSet(tmp_path / "bfm", 0, set_, kept)
    assert {name for name, _ in parity.CHECKS["bfm"](golden)} == set(kept) - GIVEN
    error, tolerance = goldens.compare(golden, parity.CHECKS["bfm"])[:2]
    assert error < tolerance
    kept["plane_every8th"] += 1e-3
    error, tolerance = goldens.compare(golden, parity.CHECKS["bfm"])[:2]
    assert error > tolerance


def test_pose_is_the_official_camera_of_the_kit(official):
    """The official camera-to-world has x out of the face, y right, z up; the kit's x right, y up, z out of the face."""
    bfm, known = official
    pose = BfmCoefficients.from_vector(known["coeffs"], bfm.sizes).pose()
    axes = camera.Camera.from_pose(pose).rotation.transpose(1, 2)[:, [2, 0, 1]]
    assert torch.allclose(axes, known["camera_posed"][:, :3, :3], atol=1e-6)
    assert torch.allclose(camera.Camera.from_pose(pose).eye[:, [2, 0, 1]], known["camera_posed"][:, :3, 3], atol=1e-6)


# closed forms


def test_rotation_is_scipys_transposed():
    angles = torch.tensor([[0.3, -0.7, 0.2], [0.0, 0.0, 1.2], [-2.0, 1.0, 3.0]])
    wanted = Rotation.from_euler("xyz", angles.numpy()).as_matrix().transpose(0, 2, 1)
    assert np.allclose(model.rotation(angles), wanted, atol=1e-6)


def test_coefficients_are_cut_and_joined():
    vector = torch.arange(2 * 257.0).view(2, 257)
    c = BfmCoefficients.from_vector(vector)
    assert torch.equal(c.vector(), vector)
    first = {"identity": 0, "expression": 80, "texture": 144, "angles": 224, "light": 227, "translation": 254}
    assert {name: getattr(c, name)[0, 0].item() for name in first} == first
    assert torch.equal(c.face().light[1], vector[1, 227:254]) and torch.equal(c.pose()[0], torch.tensor([225.0, 224.0, 226.0]))
    with pytest.raises(BadInput, match=r"\(2, 256\)"):
        BfmCoefficients.from_vector(vector[:, 1:])


def test_shape_is_recentred_and_linear(face):
    c = coefficients(batch=2)
    assert face.mean.mean(0).abs().max() < 1e-6 and face.sizes == SIZES
    raw = grid_face()
    wanted = raw["meanshape"] + c.identity.numpy() @ raw["idBase"].T + c.expression.numpy() @ raw["exBase"].T
    wanted = wanted.reshape(2, -1, 3) - raw["meanshape"].reshape(-1, 3).mean(0)
    shape = face.shape(c.identity, c.expression)
    assert np.allclose(shape, wanted, atol=1e-6)
    at = torch.tensor([5, 1000, 3])
    assert torch.allclose(face.shape(c.identity, c.expression, at), shape[:, at], atol=1e-6)


def test_normals_weigh_triangles_as_each_code_does():
    """Two triangles that meet in vertices 0 and 1 at a right angle, one nine times as large: (0, 0, 1) and (1, 0, 0)."""
    corners = np.array([(0, 0, 0), (0, 1, 0), (-9, 0, 0), (0, 0, -1)], np.float32)
    none = np.zeros((12, 1))
    ring = np.array([[1, 2], [1, 2], [1, 3], [2, 3]])
    small = Bfm({"meanshape": corners.reshape(1, -1), "meantex": none.T, "idBase": none, "exBase": none, "texBase": none,
                 "tri": np.array([[1, 2, 3], [2, 1, 4]]), "point_buf": ring, "keypoints": np.ones((1, 68))})
    equal, by_area = (small.normals(torch.from_numpy(corners)[None], by_area=by)[0] for by in (False, True))
    assert torch.allclose(equal[0], torch.tensor([0.5**0.5, 0, 0.5**0.5]), atol=1e-6)
    assert torch.allclose(by_area[0], torch.tensor([1.0, 0, 9.0]) / 82**0.5, atol=1e-6)
    assert torch.allclose(equal[2], torch.tensor([0.0, 0, 1])) and torch.allclose(by_area[3], torch.tensor([1.0, 0, 0]))


def test_ambient_light_leaves_the_texture(face):
    """γ of zero is ambient 0.8 · √π/2; the band of nz brightens what faces the camera by √π."""
    texture, normals = face.texture(torch.zeros(1, SIZES[2])), torch.tensor([0.0, 0, 1]).expand(1, WIDE * HIGH, 3)
    plain = face.colours(texture, normals, torch.zeros(1, 27))
    assert torch.allclose(plain, 0.8 * 0.8862269 * texture)
    light = torch.zeros(1, 27)
    light[0, 2] = 0.1  # red, third band
    assert torch.allclose(face.colours(texture, normals, light)[..., 0], plain[..., 0] + 0.1 * 1.7724539 * texture[..., 0])


def test_projection_grows_upwards_and_the_plane_is_the_square_of_a_tenth(face):
    points = model.to_camera(torch.tensor([[[0.0, 0, 0], [model.HALF_WIDTH, model.HALF_WIDTH, 0], [0, 0.5, 5]]]))
    seen = model.project(points)
    assert torch.allclose(seen, torch.tensor([[[112.0, 112], [224, 224], [112, 213.5]]]))
    assert torch.allclose(model.plane(seen, 1)[0, :2], torch.tensor([[0.0, 0], [0.1, 0.1]]), atol=1e-6)
    assert torch.allclose(model.plane(seen[:, [1, 0, 0, 0, 0]]), torch.tensor([[[0.1, 0.1], [0, 0]]]), atol=1e-6)
    assert torch.allclose(bfm_fitting.rows_down(seen)[0, 2], torch.tensor([112.0, 10.5]))


# in the kit's frame


def test_a_fitted_face_in_the_head_frame(face):
    c = coefficients()
    turned = model.rotation(c.angles)
    fitted = model.as_morphable(face, turned[0], c.translation[0])
    placed = face.shape(c.identity, c.expression) @ turned + c.translation[:, None]
    vertices = fitted.vertices(c.identity, c.expression)
    assert torch.allclose(camera.head_to_nerf(vertices), 0.0952509 * placed, atol=1e-6)  # tan 6° / (112/1015 · 10 dm)
    assert fitted.info["unit_mm"] == pytest.approx(69.29, abs=0.01) and fitted.info["cropped"]
    assert fitted.expression_names[:2] == ["exp0", "exp1"] and len(fitted.expression_names) == SIZES[1]
    assert fitted.regions["skin"].all() and not fitted.regions["mouth_cavity"].any()
    normals = (face.normals(face.shape(c.identity, c.expression), by_area=True) @ turned)
    assert torch.allclose(fitted.normals(vertices), normals, atol=1e-4)


def test_both_cameras_see_the_same_square(face):
    """What lies at the edge of Deep3D's picture, at the origin's depth, lies at the edge of the generator's."""
    upright = MorphableModel.from_bfm(face)
    edge = torch.tensor([[[model.HALF_WIDTH, -model.HALF_WIDTH, 0]]]) * model.DM_TO_HEAD + torch.tensor(camera.ORBIT_CENTRE)
    assert torch.allclose(camera.project(edge, camera.frontal(), 224)[0, 0], torch.tensor([224.0, 224, 1]), atol=1e-3)
    ours = upright.project_landmarks(coefficients(size=0.0).face(), 224)
    theirs = bfm_fitting.rows_down(face.landmarks(coefficients(size=0.0)))
    assert (ours - theirs).norm(dim=-1).max() < 1.0  # pixels of 224: only the depth's effect differs


# files


def test_arrays_may_be_tensors_and_indices_whole_numbers(face):
    arrays = {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in grid_face().items()}
    arrays |= {name: arrays[name].long() for name in ("tri", "point_buf", "keypoints")}
    del arrays["skinmask"]
    again = Bfm(arrays)
    assert torch.equal(again.triangles, face.triangles) and torch.equal(again.skin, torch.ones(WIDE * HIGH))
    assert torch.allclose(again.mean, face.mean) and again.keypoints.shape == (68,)


@pytest.mark.parametrize(("change", "said"), [
    ({"exBase": None}, "lacks exBase"), ({"texBase": np.zeros((9, 4))}, "don't belong together"),
    ({"meanshape": np.full((1, 3 * WIDE * HIGH), np.nan)}, "finite"), ({"tri": np.zeros((4, 3))}, "tri of"),
    ({"tri": np.full((4, 3), 1.5)}, "tri of"), ({"keypoints": np.full((1, 68), 1e6)}, "keypoints of"),
])
def test_a_broken_model_is_refused(change, said):
    arrays = {k: v for k, v in (grid_face() | change).items() if v is not None}
    with pytest.raises(CorruptWeights, match=said):
        Bfm(arrays)


@pytest.fixture
def originals(tmp_path):
    for name in ORIGINALS:
        shutil.copy(GOLDENS / "bfm_convert" / name, tmp_path)
    return tmp_path


def test_originals_become_a_model(originals):
    arrays = convert(originals)
    assert all(value.dtype == np.int32 for name, value in arrays.items() if name in ("tri", "point_buf", "keypoints"))
    assert all(value.dtype == np.float32 for name, value in arrays.items() if "Base" in name or "mean" in name)
    assert Bfm(arrays).sizes == (80, 64, 80)


def test_missing_originals_are_named(originals):
    (originals / "Exp_Pca.bin").unlink()
    (originals / "01_MorphableModel.mat").unlink()
    with pytest.raises(MissingWeights, match="01_MorphableModel.mat .*University of Basel.*Exp_Pca.bin .*Guo"):
        convert(originals)


@pytest.mark.parametrize(("name", "spoil", "said"), [
    ("Exp_Pca.bin", lambda b: b[:-4], "isn't Exp_Pca.bin"), ("Exp_Pca.bin", lambda b: b"", "isn't Exp_Pca.bin"),
    ("Exp_Pca.bin", lambda b: b"\xff\xff\xff\x7f" + b[4:], "isn't Exp_Pca.bin"),
    ("std_exp.txt", lambda b: b.replace(b" ", b" x", 1), "numbers only"), ("std_exp.txt", lambda b: b + b" 1", "81|80|numbers"),
    ("01_MorphableModel.mat", lambda b: b[:1000], "longer than the file"),
    ("facemodel_info.mat", lambda b: b"", "none of the kinds"),
])
def test_damaged_originals_are_refused(originals, name, spoil, said):
    (originals / name).write_bytes(spoil((originals / name).read_bytes()))
    with pytest.raises(CorruptWeights, match=said) as error:
        convert(originals)
    assert name in str(error.value)


def test_swapped_originals_are_refused(originals):
    shutil.copy(originals / "BFM_exp_idx.mat", originals / "BFM_front_idx.mat")
    with pytest.raises(CorruptWeights, match="lacks idx"):
        convert(originals)


# drawing


def test_pixels_are_those_that_rays_hit(face):
    """Every pixel's ray against every triangle, in double precision: nearest hit, colour linear on the triangle in space."""
    c = coefficients(3)
    points, colours, _ = bfm_fitting.lit(face, c)
    seen = bfm_fitting.visible(points, face.triangles)
    drawn = bfm_fitting.drawn(points, 255 * colours, face.triangles, seen)
    rng, corners = np.random.default_rng(0), points.double().numpy()[face.triangles]
    rows, columns = (v.numpy() for v in (seen >= 0).nonzero(as_tuple=True))
    for i in rng.choice(len(rows), 25, replace=False):
        ray = np.array([(columns[i] + 0.5 - 112) / 1015, (112 - rows[i] - 0.5) / 1015, 1])
        first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        system = np.stack([-first, -second, np.broadcast_to(ray, first.shape)], 2)  # a + u·first + v·second = t·ray
        u, v, t = np.linalg.solve(system, corners[:, 0, :, None])[..., 0].T
        hit = np.nonzero((u > -1e-6) & (v > -1e-6) & (u + v < 1 + 1e-6))[0]
        nearest = hit[t[hit].argmin()]
        weight = np.array([1 - u[nearest] - v[nearest], u[nearest], v[nearest]])
        colour = weight @ colours.double().numpy()[face.triangles[nearest]] * 255
        assert np.allclose(drawn[i], colour.clip(0, 255), atol=0.05)
    outside = (seen < 0).nonzero()[rng.choice(int((seen < 0).sum()), 20)]
    for row, column in outside.tolist():
        ray = np.array([(column + 0.5 - 112) / 1015, (112 - row - 0.5) / 1015, 1])
        sides = [np.cross(corners[:, i], corners[:, (i + 1) % 3]) @ ray for i in range(3)]
        assert not (np.stack(sides) > 1e-9).all(0).any() and not (np.stack(sides) < -1e-9).all(0).any()


def test_interpolation_is_linear_in_space_not_in_the_picture():
    """One large triangle that leads from 8 dm to 12 dm away; its colour is its depth: 10 · z for every point on it."""
    points = torch.tensor([[-0.8, -0.8, 8.0], [1.0, -0.9, 10.0], [0.1, 1.2, 12.0]])
    triangles = torch.tensor([[0, 2, 1]])
    seen = bfm_fitting.visible(points, triangles)
    drawn = bfm_fitting.drawn(points, 10 * points[:, 2:].expand(3, 3), triangles, seen)
    a, b, c = points.double().numpy()
    normal = np.cross(b - a, c - a)
    row, column = (v.numpy() for v in (seen >= 0).nonzero(as_tuple=True))
    rays = np.stack([(column + 0.5 - 112) / 1015, (112 - row - 0.5) / 1015, np.ones(len(row))], 1)
    assert len(row) > 10000
    assert np.allclose(drawn[:, 0], 10 * (a @ normal) / (rays @ normal), atol=0.01)


def test_the_mirrored_face_gives_the_mirrored_picture():
    """A symmetric model; turns about y and z, shifts in x and the light's odd bands change their sign."""
    arrays = grid_face()
    twins = np.arange(WIDE * HIGH).reshape(HIGH, WIDE)[:, ::-1].ravel()
    for name in ("idBase", "exBase"):
        basis = arrays[name].reshape(-1, 3, arrays[name].shape[1])
        arrays[name] = ((basis + basis[twins] * np.array([-1, 1, 1])[:, None]) / 2).reshape(arrays[name].shape)
    arrays["meantex"] = (lambda t: (t + t[twins]) / 2)(arrays["meantex"].reshape(-1, 3)).reshape(1, -1)
    arrays["texBase"] = np.zeros_like(arrays["texBase"])
    arrays["meanshape"] = arrays["meanshape"] - 0.1
    face, c = Bfm(arrays), coefficients(5)
    light = c.light.unflatten(1, (3, 9)) * torch.tensor([1.0, 1, 1, -1, -1, 1, 1, -1, 1])
    twin = BfmCoefficients(c.identity, c.expression, c.texture, c.angles * torch.tensor([1.0, -1, -1]), light.flatten(1),
                           c.translation * torch.tensor([-1.0, 1, 1]))
    (one, mask), (other, mirrored) = bfm_fitting.render(face, c), bfm_fitting.render(face, twin)
    assert 5000 < mask.sum() < 50000 and (mask != mirrored.flip(1)).sum() < 20
    both = mask & mirrored.flip(1)
    assert (one - other.flip(3)).abs().amax(1)[0][both].quantile(0.99) < 0.02  # diagonals of the grid aren't mirrored


def photometric(face: Bfm, c: BfmCoefficients, picture: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
    points, colours, _ = bfm_fitting.lit(face, c)
    seen = bfm_fitting.visible(points, face.triangles) if seen is None else seen
    drawn = bfm_fitting.drawn(points, 255 * colours, face.triangles, seen)
    return bfm_fitting.photometric_loss(drawn, picture[seen >= 0])


def test_gradients_are_those_of_finite_differences(face):
    """In double precision. Colours: the whole term. Shape, turn and place: with the seen triangles held, between whose changes
    the picture is smooth."""
    double, truth = face.double(), coefficients(3)
    rows = (torch.arange(224.0)[:, None, None] / 20).sin() + (torch.arange(224.0)[:, None] / 30).cos()
    picture = 128 + 50 * (rows + torch.tensor([0.0, 0.3, -0.3])).double()
    vector = truth.vector().double()
    seen = bfm_fitting.visible(bfm_fitting.lit(double, truth_double := BfmCoefficients.from_vector(vector, SIZES))[0].float(),
                               face.triangles)
    free = vector.clone().requires_grad_()
    photometric(double, BfmCoefficients.from_vector(free, SIZES), picture, seen).backward()
    step, names = 1e-6, {"identity": 0, "expression": 6, "texture": 11, "angles": 15, "light": 18, "translation": 45}
    for name, first in names.items():
        for i in range(first, first + 3):
            ends = []
            for sign in (-1, 1):
                moved = vector.clone()
                moved[0, i] += sign * step
                held = None if name in ("texture", "light") else seen
                ends.append(photometric(double, BfmCoefficients.from_vector(moved, SIZES), picture, held).item())
            slope = (ends[1] - ends[0]) / (2 * step)
            assert slope == pytest.approx(free.grad[0, i].item(), rel=1e-4, abs=1e-7), (name, i)
    assert truth_double.light.abs().max() > 0
    face.float()


# the fit


def test_equal_pictures_have_a_finite_gradient():
    drawn = torch.full((5, 3), 10.0, requires_grad=True)
    loss = bfm_fitting.photometric_loss(drawn, torch.full((5, 3), 10.0))
    loss.backward()
    assert loss < 1e-5 and drawn.grad.abs().max() == 0
    far = torch.tensor([[3.0, 4, 0], [0, 0, 0]])
    assert bfm_fitting.photometric_loss(torch.zeros(2, 3), far) == pytest.approx(2.5 / 255, rel=1e-3)


def test_a_face_out_of_the_picture_is_no_division_by_zero(face):
    c = coefficients()
    away = BfmCoefficients(c.identity, c.expression, c.texture, c.angles, c.light, torch.tensor([[50.0, 0, 0]]))
    assert photometric(face, away, torch.zeros(224, 224, 3)) == 0 and not bfm_fitting.render(face, away)[1].any()


def test_reflectance_is_the_skins_variance():
    texture, skin = torch.tensor([[[10.0, 0, 0], [20, 0, 0], [90, 0, 0]]]), torch.tensor([1.0, 1, 0])
    assert bfm_fitting.reflectance_loss(texture, skin) == pytest.approx(25 / 255**2)


def test_known_coefficients_are_found_again(face):
    """A picture drawn from known coefficients; the fit starts at zero and knows only it and its landmarks."""
    truth = coefficients(7, size=0.3)
    picture, mask = bfm_fitting.render(face, truth)
    landmarks = bfm_fitting.rows_down(face.landmarks(truth))[0]
    placed, rigid = bfm_fitting.fit_rigid(face, bfm_fitting.start(face), landmarks, 120)
    assert rigid[-1] < 0.1 * rigid[0] and not placed.identity.any() and not placed.light.any()
    assert (placed.angles - truth.angles).abs().max() < 0.05
    found, losses = bfm_fitting.fit_nonrigid(face, placed, landmarks, picture / 2 + 0.5, 100)
    assert losses[-1] < 0.25 * losses[0]
    distance = (bfm_fitting.rows_down(face.landmarks(found)) - landmarks).norm(dim=-1)
    assert distance.mean() < 0.5  # pixels
    again, seen = bfm_fitting.render(face, found)
    assert (again - picture).abs()[:, :, mask & seen].mean() < 0.01 and (mask != seen).float().mean() < 0.01
    start = bfm_fitting.render(face, placed)[0]
    assert (again - picture).abs().mean() < 0.15 * (start - picture).abs().mean()

    def correlation(name: str) -> float:
        return float(torch.corrcoef(torch.cat([getattr(found, name), getattr(truth, name)]))[0, 1])

    assert all(correlation(name) > 0.9 for name in ("identity", "expression", "texture", "light"))


def test_without_a_picture_only_shape_and_place_move(face):
    landmarks = bfm_fitting.rows_down(face.landmarks(coefficients(7)))[0]
    found, losses = bfm_fitting.fit_nonrigid(face, bfm_fitting.start(face), landmarks, steps=20)
    assert len(losses) == 20 and losses[-1] < losses[0]
    assert found.identity.any() and not found.light.any() and not found.texture.any()
    assert not found.identity.requires_grad


class Reading(ReconNet):
    """Reads the same numbers off every picture."""

    def __init__(self, vector: torch.Tensor) -> None:
        torch.nn.Module.__init__(self)
        self.vector = vector

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        assert faces.shape == (1, 3, 224, 224) and 0 <= faces.min() and faces.max() <= 1
        return self.vector


def test_without_landmarks_the_estimators_are_used(official, monkeypatch):
    """And given ones count in pixels of the picture, whatever its size."""
    bfm, known = official
    recon, asked = Reading(known["coeffs"][:1]), []
    monkeypatch.setattr(bfm_fitting, "fit_rigid", lambda b, c, landmarks, steps: (asked.append(landmarks), (c, []))[1])
    monkeypatch.setattr(bfm_fitting, "fit_nonrigid", lambda b, c, landmarks, picture, steps: (c, [float(steps)]))
    assert bfm_fitting.fit(bfm, recon, torch.zeros(1, 3, 448, 448)).nonrigid == [500.0]
    bfm_fitting.fit(bfm, recon, torch.zeros(1, 3, 448, 448), 2 * known["fit_landmarks"][0])
    assert all(torch.allclose(landmarks, known["fit_landmarks"][0], atol=1e-3) for landmarks in asked)
    for wrong in (known["fit_landmarks"][0, :5], torch.full((68, 2), torch.nan)):
        with pytest.raises(BadInput, match="68 points"):
            bfm_fitting.fit(bfm, recon, torch.zeros(1, 3, 448, 448), wrong)
    with pytest.raises(BadInput, match="one at a time"):
        bfm_fitting.fit(bfm, recon, torch.zeros(2, 3, 224, 224))


def test_dlibs_landmarks(monkeypatch):
    picture, boxes = torch.zeros(3, 300, 300), []

    def predictor(pixels, box):
        boxes.append((box.left(), box.top(), box.right(), box.bottom()))
        return SimpleNamespace(parts=lambda: [SimpleNamespace(x=i, y=2 * i) for i in range(68)])

    monkeypatch.setattr(cropping, "predictor", lambda: None)
    with pytest.raises(MissingWeights, match="face-recognition-models"):
        bfm_fitting.landmarks68(picture)
    monkeypatch.setattr(cropping, "predictor", lambda: predictor)
    assert bfm_fitting.landmarks68(picture) is None  # a grey picture has no face
    monkeypatch.setattr(cropping, "detect", lambda pixels: [(0.1, 9.0, 9.0, 9.0), (2.0, 100.0, 120.0, 80.0)])
    points = bfm_fitting.landmarks68(picture)
    assert boxes == [(60, 80, 140, 160)] and points.shape == (68, 2) and points[3].tolist() == [3.5, 6.5]
