"""Notebook 01: its figures show what they were given, its exercises know right from wrong, its bills are torch's."""

import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nfs_lib import camera as cam
from nfs_lib import worlds
from nfs_lib.camera import Camera
from nfs_lib.exercises import prior as check
from nfs_lib.face import MorphableModel
from nfs_lib.stylenerf import FFHQ_1024, OPEN, cost
from nfs_lib.viz import prior as plots

MM = 113.4 / cam.HEAD_TO_NERF


@pytest.fixture(scope="module")
def g():
    return worlds.load("open").generator


@pytest.fixture(scope="module")
def ws(g):
    with torch.no_grad():
        return g.broadcast(g.mapping(torch.zeros(1, g.config.z_dim)))


def data(line):
    return np.stack(line.get_data(), 1)


# what a picture costs


def test_the_bill_is_the_one_that_torch_counts(g, ws):
    z_bg = torch.zeros(1, g.config.z_bg_dim)
    with torch.no_grad(), FlopCounterMode(display=False) as field:
        rendered = g.features(ws, z_bg, cam.frontal())
    with torch.no_grad(), FlopCounterMode(display=False) as upsampler:
        g.upsample(*rendered.maps(), ws)
    assert cost.field_cost(g.config, 1024) == pytest.approx(field.get_total_flops() / 2, rel=0.02)
    ones = sum((32 * 2**i) ** 2 * 4 * n**2 for i, n in enumerate(g.config.channels))     # nearest neighbour, done as a product
    assert cost.upsampler_cost(g.config) + ones == pytest.approx(upsampler.get_total_flops() / 2, rel=0.02)


def test_the_official_bill_counts_both_passes_and_the_wide_adapter():
    hidden, samples = 60 * 128 + 7 * 128**2 + 128 + 128, 28
    assert cost.field_cost(FFHQ_1024, 10) == 10 * (samples * hidden + 128 * 256 + 3 * 256)
    first = 32**2 * 256 * 512 + 64**2 * (1024 * 128 + 128 * 512 + 512**2 + 3 * 512)
    assert first < cost.upsampler_cost(FFHQ_1024) < 6 * first


# figures


def test_cameras_stand_where_they_are_and_rays_start_there(g):
    vertices = MorphableModel.from_anny().mean
    cameras = {"a": cam.frontal(), "b": Camera.from_pose(torch.tensor([[0.4, 0.0, 0.0]]))}
    above, near, seen = plots.cameras_and_rays(vertices, torch.zeros(3, 64, 64), cameras, g.config, 20).axes
    eyes = [data(line)[0] for line in above.lines if line.get_marker() == "s"]
    for eye, camera in zip(eyes, cameras.values(), strict=True):
        assert np.allclose(eye, cam.nerf_to_head(camera.eye)[0, [2, 0]], atol=1e-5)
    samples = np.concatenate([data(line) for line in near.lines if line.get_linewidth() < 0.5])
    assert samples.shape == (32 * g.config.n_samples, 2)
    origin, direction = cam.rays(cameras["a"], 32)
    last = cam.nerf_to_head(origin + g.config.far * direction[0, 20 * 32 + 31])[0]
    assert np.allclose(samples[-1], last[[2, 0]], atol=1e-4)
    assert len(seen.lines[0].get_xdata()) == 1024 and np.allclose(seen.lines[1].get_ydata(), 20.5 * 2)


def test_the_density_is_drawn_per_millimetre_with_the_vertices_near_the_plane():
    sigma = torch.full((5, 5), MM)
    vertices = torch.tensor([[0.0, 1.0, 0.5], [0.9, 1.0, 0.5], [0.7, -0.3, 0.2]])
    figure = plots.density_cuts(sigma, 10 * sigma, vertices, 2.0, -0.3, MM)
    side, level = figure.axes[:2]
    assert np.allclose(side.images[0].get_array(), 0, atol=1e-6) and np.allclose(level.images[0].get_array(), 1, atol=1e-6)
    assert np.allclose(data(side.lines[0]), [[0.5, 1.0]]) and np.allclose(data(level.lines[0]), [[0.2, 0.7]])


def test_one_ray_is_drawn_in_millimetres_from_the_surface():
    depth = torch.tensor([0.9, 1.0, 1.1])
    weights, through = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([1.0, 0.5, 0.0])
    figure = plots.along_ray(depth, torch.ones(3), through, weights, 0.94, MM, (depth, torch.ones(3)))
    light = figure.axes[1]
    dashed = next(line for line in light.lines if line.get_linestyle() == "--")
    assert np.allclose(dashed.get_xdata(), 0.01 * MM, atol=0.01)
    assert "17.2 mm" in light.get_title(loc="left")
    curve = data(light.lines[0])
    at = np.abs(curve[:, 0] + (0.94 - 0.95) * MM).argmin()         # halfway through the first slab
    assert curve[at, 1] == pytest.approx(math.sqrt(0.5), abs=0.01)


def test_normals_of_a_plane_and_of_a_slope():
    camera = cam.frontal()
    flat = plots.depth_normals(torch.ones(8, 8), camera)
    assert torch.allclose(flat, torch.tensor([0.0, 0.0, 1.0]).expand(8, 8, 3), atol=1e-5)
    x = cam.rays(camera, 8)[1][0, :, 0].view(8, 8)
    slope = plots.depth_normals(1 / (1 + x), camera)               # depth t with t + t·x = 1: the plane z = x
    assert torch.allclose(slope, torch.tensor([-(0.5**0.5), 0.0, 0.5**0.5]).expand(8, 8, 3), atol=0.02)


def test_geometry_leaves_out_what_is_not_solid_and_says_the_median():
    depth, solid = torch.ones(6, 6), torch.ones(6, 6, dtype=torch.bool)
    solid[0] = False
    up, tilted = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 0.5, 3**0.5 / 2])
    figure = plots.geometry(depth + 5 / MM, depth, up.expand(6, 6, 3), tilted.expand(6, 6, 3), solid, MM)
    by_title = {a.get_title(loc="left"): a for a in figure.axes if a.images}
    error = next(a for t, a in by_title.items() if t.startswith("error, half of it below 5 mm")).images[0].get_array()
    assert np.allclose(error[1:], 5, atol=0.01) and np.ma.getmaskarray(error)[0].all()
    angle = next(a for t, a in by_title.items() if t.endswith("below 30°")).images[0].get_array()
    assert np.ma.getmaskarray(angle)[1].all() and np.allclose(angle[2:], 30, atol=0.1)


def test_stages_show_the_same_place_at_every_size():
    figure = plots.stages({"s": torch.zeros(3, 32, 32), "l": torch.zeros(3, 64, 64)}, (0.5, 0.25), 0.25)
    small, large = figure.axes[2:]                                  # the lower row
    assert small.get_xlim() == (8, 24) and small.get_ylim() == (16, 0)
    assert large.get_xlim() == (16, 48) and large.get_ylim() == (32, 0)


def test_walks_draw_the_changes_over_the_way():
    pictures = [torch.zeros(3, 8, 8)] * 3
    figure = plots.walks({"z": pictures, "w": pictures}, {"z": torch.tensor([1.0, 3.0])}, [0, 0.5, 1])
    values, edges, _ = figure.axes[-1].patches[0].get_data()
    assert list(values) == [1, 3] and list(edges) == [0, 50, 100]
    assert [a.get_title(loc="left") for a in figure.axes[:3]] == ["z: 0%", "50%", "100%"]


@pytest.mark.parametrize("row", [3, 124, 255])
def test_a_row_drawn_alone_is_the_row_of_the_whole_picture(g, ws, row):
    camera, z_bg = Camera.from_pose(torch.tensor([[0.3, 0.1, 0.0]])), torch.zeros(1, g.config.z_bg_dim)
    direct, drawn = plots.row_of(g, ws, z_bg, camera, row)
    with torch.no_grad():
        whole = g(ws, z_bg, camera)[0, :, row].clamp(-1, 1)
        y = torch.tensor([[1 - (2 * row + 1) / 256]])
        pixel = g.render_rays(ws, z_bg, camera, torch.tensor([[1 - 1 / 256]]), y).rgb[0, 0].clamp(-1, 1)
    assert torch.allclose(drawn, whole, atol=1e-4)
    assert torch.allclose(direct[:, -1], pixel, atol=1e-4)


def test_orbit_slices_centre_each_line_on_its_yaw():
    figure = plots.orbit_slices({"a": torch.zeros(3, 3, 7)}, torch.tensor([-10.0, 0.0, 10.0]))
    assert figure.axes[0].images[0].get_extent() == [0, 7, 15, -15]


def test_bills_add_up_their_parts():
    axis = plots.bills({"a": {"field": 1e9, "upsampler": 2e9}, "b": {"field": 4e12}}).axes[0]
    assert [line.get_xdata()[0] for line in axis.lines] == [3e9, 4e12] and not axis.patches     # a bar would start at 0
    words = [t.get_text() for t in axis.texts]
    assert words == ["3.0 G  (field 1, upsampler 2)", "4,000 G"]


def test_the_names_are_those_of_the_latent_and_sliders_move_them(g):
    assert len(plots.NAMES) == g.config.z_dim == len(set(plots.NAMES))
    assert plots.NAMES[16] == "jaw_open" and plots.NAMES[31] == "skin"
    latent = torch.zeros(1, 60)
    moved = plots.draw_person(g, latent, {"skin": 2.0}, yaw=30.0, psi=0.9)
    same = plots.draw_person(g, latent, {"skin": 0.0}, yaw=30.0, psi=0.0)
    mean = plots.slide_person(g, latent, skin=3.0, yaw=30.0, psi=0.0)
    drawn = [np.asarray(a.images[0].get_array(), float) for f in (moved, same, mean) for a in f.axes]
    assert np.array_equal(drawn[2], drawn[4]) and np.array_equal(drawn[3], drawn[5])       # ψ = 0 is the mean of all
    assert np.abs(drawn[0] - drawn[2]).mean() > 3 and np.abs(drawn[0] - drawn[1]).mean() > 3
    assert latent.abs().max() == 0                                  # the caller's stays
    with pytest.raises(ValueError):
        plots.draw_person(g, latent, {"nose": 1.0})


# exercises


def wrong(verdict, hint):
    assert not verdict.right and hint in verdict.text, verdict
    return True


def test_spacing():
    across, along = 2 * math.tan(math.radians(6)) / 32 * MM, 0.175 / 17 * MM
    verdict = check.spacing([across, along], OPEN, 113.4)
    assert verdict.right and all(check.spacing(torch.tensor(a), OPEN, 113.4).right for a in ([11.3, 17.7], [11.0, 18.0]))
    for answer, hint in (
        ([across / MM, along / MM], "NeRF units"),
        ([across / 113.4, along / 113.4], "head units"),
        ([across / MM * 0.066 * 113.4, along / MM * 0.066 * 113.4], "divide by HEAD_TO_NERF"),
        ([across / 2, along], "tan"),
        ([across, 0.175 / 18 * MM], "n − 1 gaps"),
        ([across * 32 / 31, along], "cell of its own"),
        ([along, across], "order"),
        (across, "shape"),
        ([1.0, 2.0], "far − near"),
        (..., "your line"),
    ):
        assert wrong(check.spacing(answer, OPEN, 113.4), hint)


def test_doubled_density():
    t = torch.tensor([0.9, 0.5, 0.1])
    assert check.doubled_density(t**2, t).right
    for answer, hint in ((t / 2, "exp"), (2 * t, "less light"), (t.sqrt(), "half the density"), (1 - t**2, "opacity"),
                         (t, "change"), (2 * t - 1, "exponent"), (t**3, "2σ"), (0.3, "shape"), ("T²", "str")):  # fmt: skip
        assert wrong(check.doubled_density(answer, t), hint)


def test_half_transparent():
    assert check.half_transparent(0.97).right
    for answer, hint in ((0.94, "other half"), (1.0, "only half"), (0.98, "α·T"), (0.47, "second surface"),
                         (1.47, "sum to 1.5"), (0.5, "Write down"), ([0.97, 1], "shape"), (None, "your line")):  # fmt: skip
        assert wrong(check.half_transparent(answer), hint)


def test_mixed_styles():
    a, b = torch.zeros(1, 14, 4), torch.ones(1, 14, 4)

    def joined(first, second, k):
        return torch.cat([first[:, :k], second[:, k:]], 1)

    assert check.mixed_styles(joined(a, b, 7), a, b, OPEN).right
    for answer, hint in ((joined(b, a, 7), "other way"), (a, "first person"), (b, "second person"),
                         (joined(a, b, 5), "two heads"), (joined(a, b, 6), "density"),
                         (joined(a, b, 8), "One too many"), ((a + b) / 2, "mean"),
                         (joined(a, b, 3), "14 slots"), (a[:, :7], "shape")):  # fmt: skip
        assert wrong(check.mixed_styles(answer, a, b, OPEN), hint)


def test_affordable_side():
    ray, field, upsampler = cost.field_cost(OPEN, 1), cost.field_cost(OPEN, 1024), cost.upsampler_cost(OPEN)
    assert check.affordable_side(math.sqrt((field + upsampler) / ray), OPEN).right and check.affordable_side(44, OPEN).right
    for answer, hint in (((field + upsampler) / ray, "square root"), (32, "field alone"),
                         (math.sqrt(upsampler / ray), "on top"), (33.2, "how many times"),
                         (60, "price of one ray")):  # fmt: skip
        assert wrong(check.affordable_side(answer, OPEN), hint)
