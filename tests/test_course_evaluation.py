"""Notebook 09: its faults are what they say, its figures show what they say, its checks know right from wrong."""

import itertools
import math

import numpy as np
import pytest
import torch

from nfs_lib import samples, worlds
from nfs_lib.exercises import evaluation as check
from nfs_lib.metrics import COLUMNS, Backend, cpbd, fid, lse
from nfs_lib.metrics.cpbd import all_widths, edge_widths
from nfs_lib.metrics.sync import distances, mouth_crops, windows
from nfs_lib.studies import faults, flip
from nfs_lib.viz import metrics as plots
from nfs_lib.viz.style import COLOURS

BLUE, ORANGE = COLOURS[0], COLOURS[1]

# faults


def test_a_spoken_clip_is_the_portrait_that_moves_its_mouth():
    clip = faults.spoken(1, "hello", frames=13)
    assert clip.frames.shape == (13, 256, 256, 3) and clip.wave.shape == (13 * 640,)
    portrait = samples.truth(1)
    moved = np.abs(clip.frames.astype(int) - portrait.image).max((0, 3)) > 30
    mouth = portrait.landmarks[48:68]
    rows, columns = np.nonzero(moved)
    assert moved.sum() > 100                         # "hel-" at 0.3 to 0.5 s
    assert (np.abs(np.median(columns) - mouth[:, 0].mean()) < 8) and (np.abs(np.median(rows) - mouth[:, 1].mean()) < 12)


def test_people_are_the_same_in_the_mirrored_pose():
    one, turned = (faults.people([7_000_003], mirrored=m) for m in (False, True))
    assert one.shape == (1, 3, 128, 128) and not torch.equal(one, turned)
    world = worlds.load("open")
    with torch.no_grad():
        poses = [world.estimator(p).pose[0] for p in (one, turned)]
    assert torch.allclose(poses[0] * flip.MIRRORED, poses[1], atol=0.12)


def test_blur_noise_and_contrast_do_as_told():
    picture = torch.zeros(2, 3, 64, 64)
    picture[..., 32:] = 0.5
    assert torch.equal(faults.blurred(picture, 0), picture)
    soft = faults.blurred(picture, 2.0)
    step = soft[0, 0, 30].diff()
    spread = ((torch.arange(63) - 31) ** 2 * step).sum() / step.sum()
    assert float(spread) == pytest.approx(4, rel=0.02) and float(soft.mean()) == pytest.approx(float(picture.mean()), abs=1e-5)
    noise = (faults.noisy(picture, 5.0) - picture) * 127.5
    assert float(noise.std()) == pytest.approx(5, rel=0.02) and abs(noise.mean()) < 0.1
    assert torch.equal(faults.noisy(picture, 5.0), faults.noisy(picture, 5.0))
    assert torch.equal(faults.pale(picture, 0.5), picture / 2)


def test_late_sound_is_moved_and_as_long_as_before():
    wave = np.arange(1, 640 * 5 + 1, dtype=np.float32)
    for k in (-2, 0, 2):
        moved = faults.late(wave, k)
        assert len(moved) == len(wave)
        if k >= 0:
            assert (moved[: 640 * k] == 0).all() and np.array_equal(moved[640 * k :], wave[: len(wave) - 640 * k])
        else:
            assert np.array_equal(moved[: 640 * k], wave[-640 * k :]) and (moved[640 * k :] == 0).all()


def test_flattery_is_invisible_and_works():
    torch.manual_seed(0)
    scorer = worlds.load("open").sync
    still = (torch.randint(0, 256, (1, 3, 128, 128)) / 127.5 - 1).expand(9, -1, -1, -1)
    heard = torch.nn.functional.normalize(torch.randn(5, 128), dim=1)
    sweet = faults.flattered(scorer, still, heard, levels=2, steps=4)
    change = (sweet - still) * 127.5
    assert 1 <= change.abs().max() <= 2.001
    levels = (sweet + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-3)        # 8 bits
    with torch.no_grad():
        before, after = ((scorer.see(windows(mouth_crops(p))) - heard).square().sum() for p in (still, sweet))
    assert after < 0.95 * before


class Fake:
    """A backend whose features are the pictures' means, and whose lips and sound agree."""

    @staticmethod
    def make():
        def see(pictures):
            return torch.nn.functional.normalize(pictures.flatten(1)[4:, :3] + 0.1, dim=1)

        means = lambda p: torch.stack([p.mean((1, 2, 3)), p.std((1, 2, 3))], 1)  # noqa: E731
        who = lambda p: torch.nn.functional.normalize(torch.stack([p.mean((1, 2, 3)), torch.ones(len(p))], 1), dim=1)  # noqa: E731
        return Backend("open", "made up", means, who, see, lambda wave, n: torch.eye(3)[torch.arange(n - 4) % 3])


def test_scores_are_the_five_columns():
    backend = Fake.make()
    picture = torch.rand(20, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wave = np.zeros(640 * 20, np.float32)
    seen = backend.look(picture)
    found = faults.scores(picture, wave, seen, backend)
    assert list(found) == list(COLUMNS) and found["FID"] == pytest.approx(0, abs=1e-9)
    darker = picture - 0.2
    again = faults.scores(darker, wave, seen, backend)
    assert again["FID"] == pytest.approx(fid(backend.features(darker), seen[0]))
    assert again["CSIM"] == pytest.approx(float((backend.identity(darker) @ seen[1][0]).mean()))
    assert (again["LSE-D"], again["LSE-C"]) == pytest.approx(lse(backend.see(darker), backend.hear(wave, 20))[:2])


# figures


def test_ellipses_are_two_standard_deviations():
    points = np.random.default_rng(0).normal(size=(400, 2)) * [3, 0.5] + [1, 2]
    figure = plots.gaussians({"a": points, "b": points + 5}, "t")
    one, two = figure.axes[0].patches
    assert sorted([one.width, one.height]) == pytest.approx([2, 12], rel=0.1)
    long_axis = one.angle if one.width > one.height else one.angle + 90
    assert math.sin(math.radians(long_axis)) == pytest.approx(0, abs=0.1)
    assert np.array(two.center) - one.center == pytest.approx([5, 5])


def test_strongest_directions():
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 9, 1, 1, 4, 1.0])
    v = plots.strongest(x)
    assert v.shape == (6, 2) and v[1, 0] > 0.98 and v[4, 1] > 0.98
    assert np.allclose(v.T @ v, np.eye(2), atol=1e-6)


def test_growth_and_few_pictures_draw_what_they_are_given():
    figure = plots.growth({"blur": ((1, 2), {"x": [0.5, 2.0], "y": [0.1, 0.2]}), "noise": ((3, 6), {"x": [1, 7], "y": [1, 1]})})
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[1, 0.5], [2, 2.0]]
    assert figure.axes[1].lines[1].get_xydata().tolist() == [[3, 1], [6, 1]]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    figure = plots.few_pictures([4, 8], [3.0, 2.0], [1.0, 0.5])
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[3.0, 2.0], [1.0, 0.5]]


def test_who_is_who_shows_the_cosines():
    cosine = np.linspace(-1, 1, 9).reshape(3, 3)
    figure = plots.who_is_who([[torch.zeros(3, 8, 8)] * 2] * 2, cosine)
    matrix = next(a.images[0] for a in figure.axes if a.get_title(loc="left").startswith("cosine"))
    assert np.allclose(matrix.get_array(), cosine)


def test_the_walk_along_a_row_is_the_library_s():
    rng = np.random.default_rng(1)
    grey = np.cumsum(rng.normal(size=(64, 80)), 1) * 4 + 120
    widths = all_widths(grey)
    assert (widths > 0).sum() > 40
    for row, column in np.argwhere(widths > 0):
        begin, end = plots.extent(grey[row], int(column))
        assert end - begin == widths[row, column]
    row = int((widths > 0).sum(1).argmax())
    figure = plots.edge_row(grey, row, (0, 80), widths)
    curve = figure.axes[1]
    assert curve.lines[0].get_ydata().tolist() == grey[row].tolist()
    said = {int(t.get_text()) for t in curve.texts}
    assert said == set(widths[row][widths[row] > 0].tolist())
    for bar, dot in zip(curve.lines[1::2], curve.lines[2::2], strict=True):
        width = np.ptp(bar.get_xdata())
        assert bar.get_color() == dot.get_color() == (BLUE if width <= 3 else ORANGE)


def test_edges_are_blue_where_cpbd_counts_them():
    x = np.arange(128)
    row = 60 + 120 / (1 + np.exp((40.2 - x) / 0.15)) - 120 / (1 + np.exp((94.7 - x) / 2))       # a sharp edge, and a wide one
    grey = np.tile(row.round(), (64, 1))
    share, found = cpbd(grey), edge_widths(grey)
    figure = plots.edges({"a": found}, [share])
    blue, orange = (sum(bar.get_height() for bar in patches) for patches in figure.axes[0].containers)
    assert blue / (blue + orange) == pytest.approx(share) and 0 < share < 1
    assert figure.axes[0].get_title(loc="left").endswith(f"{share:.2f}")


def test_offsets_mark_the_lowest_point():
    lips = torch.nn.functional.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    curve = distances(lips, torch.roll(lips, 4, 0)).mean(0).numpy()
    figure = plots.offsets({"late by 4": curve}, [-1, 4], [1, -4])
    line, ring = figure.axes[0].lines
    assert ring.get_xdata()[0] == lse(lips, torch.roll(lips, 4, 0)).offset == -4
    assert line.get_ydata()[list(line.get_xdata()).index(-4)] == curve.min()
    wanted, dots = figure.axes[1].lines
    assert wanted.get_ydata().tolist() == dots.get_ydata().tolist() == [1, -4]


def test_short_clips_are_drawn_by_length():
    figure = plots.short_clips([16, 50], {"truth": [0.8, 0.9], "still": [0.9, 1.1]})
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[0.8, 0.9], [0.9, 1.1]]


def test_verdicts_know_the_better_direction():
    base = {"FID": 1.0, "CSIM": 0.9, "CPBD": 0.3, "LSE-D": 0.9, "LSE-C": 0.3}
    assert [plots.judged(m, base[m] + 0.2, base[m]) for m in COLUMNS] == [-1, 1, 1, -1, 1]
    assert [plots.judged(m, base[m] - 0.2, base[m]) for m in COLUMNS] == [1, -1, -1, 1, -1]
    assert [plots.judged(m, base[m] + 0.001, base[m]) for m in COLUMNS] == [0] * 5
    figure = plots.verdicts({"the truth": base, "spoilt": {m: v + 0.2 for m, v in base.items()}})
    axis = figure.axes[0]
    shades = [p.get_facecolor() for p in axis.patches[5:]]
    assert len(set(shades)) == 2 and shades[0] == shades[3] and shades[1] == shades[2] == shades[4] != shades[0]
    assert [t.get_text() for t in axis.texts[:2]] == ["1.000", "0.900"]


def test_play_compares_with_the_clip_as_it_was():
    frames = (np.random.default_rng(0).random((20, 64, 64, 3)) * 255).astype(np.uint8)
    clip = faults.Spoken(frames, np.ones(640 * 20, np.float32))
    same = plots.play(clip, Fake.make())
    spoilt = plots.play(clip, Fake.make(), contrast=0.3, still=True)
    bars = [axis for axis in same.axes if axis.patches]
    assert len(bars) == len(COLUMNS)
    assert all(a.get_height() == pytest.approx(b.get_height()) for a, b in (axis.patches for axis in bars))
    changed = dict(zip(COLUMNS, [axis.patches for axis in spoilt.axes if axis.patches], strict=True))
    assert changed["FID"][1].get_height() > 0.001


def test_heads_have_their_notes_and_titles():
    picture = np.zeros((8, 8, 3), np.uint8)
    grid = {name: {"own": picture, "turned": picture + 50} for name in ("truth", "ours")}
    notes = {name: {pose: f"{name} {pose}" for pose in row} for name, row in grid.items()}
    figure = plots.heads(grid, notes)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["own", "turned", "", ""]
    assert [axis.texts[0].get_text() for axis in figure.axes] == ["truth own", "truth turned", "ours own", "ours turned"]
    assert figure.axes[3].images[0].get_array().max() == 50


def test_lines_over_yaw():
    rows = [{"run": run, "yaw": yaw, "method": m, "metric": c, "value": yaw / 10 + (m == "warp"), "low": yaw / 10 - 1,
             "high": yaw / 10 + 2}
            for run, yaw, m, c in itertools.product(("turned", "Δ"), (0, 30), ("ours", "warp"), ("PSNR", "CSIM"))]  # fmt: skip
    figure = plots.over_yaw(rows, "turned", ("PSNR", "CSIM"))
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["PSNR ↑ (dB)", "CSIM ↑"]
    ours, warp = (c.lines[0].get_ydata().tolist() for c in figure.axes[0].containers)
    assert ours == [0, 3] and warp == [1, 4]
    assert plots.over_yaw(rows, "Δ", ("PSNR",)).axes[0].get_title(loc="left") == "Δ PSNR → 0 (dB)"


# checks


def right(verdict):
    return verdict.right


@pytest.mark.parametrize(("ask", "answer"), [
    (check.few_pictures, 2 * 2048 / 1000), (check.few_pictures, torch.tensor(4.1)), (check.shared_mean, [0.8, 0]),
    (check.contrast, [0, 1]), (check.unrelated, [(31 * 2**0.5 + 15) / 46, 7 * (2**0.5 - 1) / 46]),
    (check.unrelated, np.array([1.279, 0.063])), (check.flipped, [-0.3, -0.1, -0.05]),
])  # fmt: skip
def test_right_answers(ask, answer):
    assert ask(answer).right


@pytest.mark.parametrize(("ask", "answer", "hint"), [
    (check.few_pictures, 2048 / 1000, "two means"), (check.few_pictures, 2 / 1000, "every direction"),
    (check.few_pictures, 0, "what was drawn"), (check.few_pictures, (2 * 2.048) ** 0.5, "square"),
    (check.shared_mean, [4, 0], "two lengths"), (check.shared_mean, [0, 0], "they share m"),
    (check.shared_mean, [0.8, 1], "two strangers"), (check.shared_mean, 0.8, "shape"),
    (check.contrast, [1, 0], "other way round"), (check.contrast, [0, 0], "noticeable"),
    (check.contrast, 1 - np.exp(-((4 / np.array([3, 5])) ** 3.6)), "chances"),
    (check.unrelated, [2**0.5, 0], "zeros"), (check.unrelated, [1.2790, 0.1351], "not the largest"),
    (check.unrelated, [1.2790, 0.0], "median"), (check.flipped, [-0.3, 0.1, -0.05], "pitch stays"),
    (check.flipped, [-0.3, -0.1, 0.05], "roll"), (check.flipped, [0.3, -0.1, 0.05], "same pose"),
    (check.flipped, ..., "Put your line"), (check.contrast, "sharp", "a tensor"), (check.unrelated, [1.0, 1.0], "offset k"),
])  # fmt: skip
def test_wrong_answers_get_their_hint(ask, answer, hint):
    verdict = ask(answer)
    assert not verdict.right and hint in verdict.text


def test_the_closed_form_of_unrelated_lips_is_the_metric():
    """Lips at a right angle to every sound: the exercise's numbers come out of `lse` itself."""
    lips, sound = torch.zeros(46, 4), torch.zeros(46, 4)
    lips[:, 0], sound[:, 1] = 1, 1
    found = lse(lips, sound)
    assert check.unrelated(list(found[:2])).right and abs(found.offset) == 15


def test_few_pictures_is_what_the_means_add():
    rng = np.random.default_rng(0)
    gaps = [((rng.normal(size=(50, 20)).mean(0) - rng.normal(size=(50, 20)).mean(0)) ** 2).sum() for _ in range(300)]
    assert check.few_pictures(2 * 20 / 50, 20, 50).right and np.mean(gaps) == pytest.approx(0.8, rel=0.06)
