"""Notebook 10: its made-up studies against closed forms and scipy, its figures show what they say, its checks know right from
wrong."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm, t

from nfs_lib.exercises import user_study as check
from nfs_lib.studies import simulate
from nfs_lib.studies.statistics import paired
from nfs_lib.studies.user_study import Study, Trial, make_up_ballots, read_ballot
from nfs_lib.viz import chance as plots
from nfs_lib.viz.style import COLOURS

RIGHT, WRONG = COLOURS[0], COLOURS[1]

# made-up studies


@pytest.mark.parametrize("alike", [0.0, 0.6, 1.0])
def test_clips_of_a_person_are_as_alike_as_they_are_told_to_be(alike):
    d = simulate.differences(50, 4, alike, effect=0.7, studies=400)
    assert d.shape == (400, 50, 4)
    assert d.mean() == pytest.approx(0.7, abs=0.03) and d.var() == pytest.approx(1, abs=0.03)
    assert np.corrcoef(d[..., 0].ravel(), d[..., 3].ravel())[0, 1] == pytest.approx(alike, abs=0.03)
    by_formula = (alike + (1 - alike) / 4) / 50                        # the notebook's variance of a study's mean
    assert d.mean((1, 2)).var() == pytest.approx(by_formula, rel=0.25)


def test_the_interval_is_what_the_bootstrap_comes_to():
    values = np.random.default_rng(0).standard_normal((3, 30))
    for row, (low, high) in zip(values, simulate.interval(values), strict=True):
        assert (low, high) == pytest.approx(paired(row, range(30)), abs=0.04)
    assert simulate.holds(np.array([[-1.0, 1.0], [0.1, 1.0], [-2.0, -0.1]])).tolist() == [True, False, False]


@pytest.mark.parametrize(("clips", "alike"), [(1, 0.6), (3, 0.6), (10, 0.6), (5, 0.0), (5, 1.0)])
def test_coverage_is_that_of_theory(clips, alike):
    found = simulate.coverage(20, clips, alike, studies=4000)
    people = 1 - 2 * t.sf(simulate.Z * math.sqrt(19 / 20), 19)
    assert found.people == pytest.approx(people, abs=0.015)
    variance = (alike + (1 - alike) / clips) / 20                       # of a study's mean
    if clips >= 3:                                                      # then the spread is nearly that of all studies
        half = simulate.Z * math.sqrt((1 - variance) / (20 * clips))
        assert found.clips == pytest.approx(1 - 2 * norm.sf(half / math.sqrt(variance)), abs=0.03)
    if alike == 0:
        assert found.clips == pytest.approx(0.95, abs=0.02)


def test_rows_that_do_nothing_shine_as_often_as_they_should_and_together():
    means, intervals = simulate.null_tables(8, 3, 20, studies=1500)
    assert means.shape == (1500, 8, 3) and intervals.shape == (1500, 8, 3, 2)
    false = ~simulate.holds(intervals)
    assert false.mean() == pytest.approx(2 * t.sf(simulate.Z * math.sqrt(19 / 20), 19), abs=0.01)
    assert np.corrcoef(means[:, 0, 0], means[:, 5, 0])[0, 1] == pytest.approx(0.5, abs=0.06)    # one base for all rows
    assert abs(np.corrcoef(means[:, 0, 0], means[:, 0, 1])[0, 1]) < 0.1


def test_votes_are_those_that_make_up_ballots_makes_up(tmp_path):
    weights = np.array([5.0, 3.0, 2.0])
    plain = simulate.counts(10, 6, weights, 0.0, studies=500)
    assert plain.shape == (500, 10, 3) and (plain.sum(2) == 6).all()
    assert plain.mean((0, 1)) == pytest.approx(6 * weights / 10, abs=0.08)
    names = ["a", "b", "c"]
    study = Study({m: {f"{k}": Path(m, f"{k}.mp4") for k in range(6)} for m in names}, {"q": "?"})
    make_up_ballots(study, tmp_path, 150, dict(zip(names, weights, strict=True)), taste=1.5)
    ballots = [[v.choice for v in read_ballot(path)] for path in tmp_path.glob("*.csv")]
    real = np.array([[own.count(m) for m in names] for own in ballots])
    many = simulate.counts(5000, 6, weights, 1.5)[0]
    assert real.mean(0) == pytest.approx(many.mean(0), abs=0.5)
    assert (real.max(1) == 6).mean() == pytest.approx((many.max(1) == 6).mean(), abs=0.1)       # as stubborn


def test_sign_test_is_scipys():
    for one, other in ((0, 0), (3, 3), (10, 2), (2, 10), (40, 60)):
        p = binomtest(one, one + other).pvalue if one + other else 1.0
        assert simulate.sign_test(np.array([one]), np.array([other]))[0] == pytest.approx(p)


@pytest.mark.parametrize(("n", "share"), [(50, 0.6), (200, 0.6), (30, 0.8), (100, 0.5)])
def test_power_is_the_sum_over_the_splits(n, share):
    k = np.arange(n + 1)
    exact = binom.pmf(k, n, share)[[binomtest(int(i), n).pvalue < 0.05 for i in k]].sum()
    assert simulate.power(n, share) == pytest.approx(exact, abs=0.03)


def test_more_clips_help_people_of_one_mind_only():
    one, many, divided = (simulate.power(60, clips=c, taste=s) for c, s in ((1, 0.0), (9, 0.0), (9, 2.0)))
    assert many > one + 0.4 and divided < one + 0.1


def test_only_the_test_by_participants_keeps_its_word():
    alone = simulate.p_values(clips=1, taste=1.0)
    assert all((p < 0.05).mean() < 0.1 for p in alone.values())
    chi, permuted = simulate.p_values(clips=12, taste=1.0).values()
    assert (chi < 0.05).mean() > 0.3 and (permuted < 0.05).mean() < 0.1 and abs(permuted.mean() - 0.5) < 0.07


# figures


def title(axis):
    return axis.get_title(loc="left")


def test_pairs_and_intervals_are_drawn_as_given():
    base, value = np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.5, 4.0])
    figure = plots.pairing(base, value, {"wide": (-1.0, 2.0), "narrow": (0.2, 0.8)}, truth=0.5)
    pair, ways = figure.axes
    assert [line.get_ydata().tolist() for line in pair.lines] == [[1, 2], [2, 1.5], [3, 4]]
    assert [line.get_color() for line in pair.lines] == [RIGHT, WRONG, RIGHT] and "up in 2" in title(pair)
    assert list(ways.lines[0].get_xdata()) == [-1, 2] and list(ways.lines[1].get_xdata()) == [0.2, 0.8]
    assert ways.lines[0].get_color() == plots.QUIET and ways.lines[1].get_color() == RIGHT
    assert [label.get_text() for label in ways.get_yticklabels()] == ["wide", "narrow"]


def test_intervals_that_miss_the_truth_are_orange():
    figure = plots.coverage(clips=8, people=15, alike=0.8, shown=40)
    found = simulate.coverage(15, 8, 0.8)
    for axis, share in zip(figure.axes, found, strict=True):
        bars = axis.lines[:40]
        missed = [not line.get_ydata()[0] <= 0 <= line.get_ydata()[1] for line in bars]
        assert [line.get_color() == WRONG for line in bars] == missed
        assert f"{100 * share:.0f} of 100" in title(axis)
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_the_null_table_counts_its_alarms():
    figure = plots.null_table(rows=5, columns=4, people=10, table=3)
    _, intervals = simulate.null_tables(5, 4, 10, seed=3)
    false = ~simulate.holds(intervals[0])
    for k, axis in enumerate(figure.axes):
        bars = [line for line in axis.lines[:10] if len(line.get_xdata()) == 2]
        assert [line.get_color() == WRONG for line in bars] == false[:, k].tolist()
        assert title(axis) == f"metric {k + 1}: {false[:, k].sum()}"
    assert f"{false.sum()} of 20" in figure.get_suptitle()


def test_curves_of_lips_and_sound_lie_at_their_shifts():
    curve = np.ones(31)
    curve[15 - 4] = 0.5                                                 # LSE's offset 4
    (axis,) = plots.sync_curves({"a": curve}, moments=12).axes
    assert axis.lines[0].get_xdata()[curve.argmin()] == 4
    assert [(p.get_x(), round(p.get_x() + p.get_width(), 1)) for p in axis.patches] == [(-15.4, -12), (12, 15.4)]


def test_turned_heads_and_their_cosine():
    pictures = {0.0: np.zeros((8, 8, 3), np.uint8), 20.0: np.full((8, 8, 3), 9, np.uint8)}
    figure = plots.turned(pictures, [1.0, 0.9])
    assert [axis.images[0].get_array().max() for axis in figure.axes[:2]] == [0, 9]
    assert figure.axes[2].lines[0].get_xydata().tolist() == [[0, 1], [20, 0.9]]


def test_sheets_show_each_participants_order():
    frames = {name: np.full((8, 8, 3), k, np.uint8) for k, name in enumerate(("x", "y"))}
    trials = {"p1": Trial("q", "c", ("y", "x")), "p2": Trial("q", "c", ("x", "y"))}
    figure = plots.sheets(trials, frames)
    assert [axis.images[0].get_array().max() for axis in figure.axes] == [1, 0, 0, 1]
    assert [axis.texts[0].get_text() for axis in figure.axes] == ["y", "x", "x", "y"]
    assert [axis.get_title() for axis in figure.axes] == ["A", "B", "A", "B"]


def test_bars_of_ballots_are_stacked_and_sorted():
    counts = np.array([[1, 5], [4, 2], [6, 0]])
    (axis,) = plots.ballots(counts, ["m", "n"]).axes
    heights = np.array([bar.get_height() for bar in axis.patches]).reshape(2, 3)
    assert heights.tolist() == [[6, 4, 1], [0, 2, 5]]
    assert [bar.get_y() for bar in axis.patches[3:]] == [6, 4, 1] and "made-up" in axis.get_xlabel()


def test_small_p_is_the_orange_bar():
    values = np.array([0.01, 0.02, 0.04, 0.06, 0.9])
    figure = plots.p_values({"one": values, "other": values[3:]})
    first = figure.axes[0].patches[0]
    assert first.get_height() == 3 and first.get_x() == pytest.approx(0) and first.get_width() == pytest.approx(0.05)
    assert "60 of 100" in title(figure.axes[0]) and "0 of 100" in title(figure.axes[1])


def test_power_marks_the_first_number_that_is_enough(monkeypatch):
    monkeypatch.setattr(simulate, "power", lambda n, *args, **options: min(1.0, n / 100))
    (axis,) = plots.power(0.6).axes
    assert axis.lines[-1].get_xydata().tolist() == [[85, 0.85]] and "About 85" in title(axis)
    monkeypatch.setattr(simulate, "power", lambda *args, **options: 0.3)
    assert "aren't enough" in title(plots.power(0.55).axes[0])
    monkeypatch.setattr(simulate, "power", lambda *args, **options: 0.9)
    assert "10 participants are enough" in title(plots.power(0.9).axes[0])


# checks


def test_right_answers():
    for verdict in (
        check.worth([20 * K / (1 + (K - 1) * 0.6) for K in (3, 30)]),
        check.worth(np.array([27.3, 32.6])),
        check.false_alarm(1 - 0.95**16),
        check.false_alarm(0.56),
        check.padded_distance(1),
        check.padded_distance(torch.linalg.norm(torch.nn.functional.normalize(torch.ones(7), dim=0))),
        check.first_place([0.72, 0.57]),
        check.smallest_p(2 / 2**8),
        check.smallest_p(0.0078),
    ):
        assert repr(verdict).startswith("Right. "), verdict


def test_worth_is_one_over_the_variance():
    d = simulate.differences(20, 3, 0.6, studies=20_000)
    assert check.worth([1 / d.mean((1, 2)).var(), 600 / 18.4]).right        # this seed is within the check's 1 %


@pytest.mark.parametrize(
    ("judge", "answer", "hint"),
    [
        (check.worth, [60, 600], "every clip"),
        (check.worth, [20, 20], "people only"),
        (check.worth, [33.33, 33.33], "ever more"),
        (check.worth, [1 / 27.27, 1 / 32.6], "variance"),
        (check.worth, [150, 1500], "forgets the people"),
        (check.worth, [33.33, 47.62], "not the person's"),
        (check.worth, 27.3, "(2,)"),
        (check.worth, [1, 2], "solve for n"),
        (check.false_alarm, 0.8, "expected"),
        (check.false_alarm, 0.95**16, "no row"),
        (check.false_alarm, 0.05, "single row"),
        (check.false_alarm, 56, "per cent"),
        (check.false_alarm, 0.95, "named row"),
        (check.false_alarm, 0.3, "stay quiet"),
        (check.padded_distance, 2**0.5, "right angle"),
        (check.padded_distance, 0, "two equal"),
        (check.padded_distance, 2, "opposite"),
        (check.padded_distance, 15, "How long"),
        (check.first_place, [0.57, 0.72], "other way round"),
        (check.first_place, [0.72, 0.6], "careful"),
        (check.first_place, [0.72, 0.42], "half of the time"),
        (check.first_place, [0.9, 0.75], "only the other voters"),
        (check.first_place, [0.6, 0.6], "nobody"),
        (check.first_place, [0.5, 0.5], "two groups"),
        (check.smallest_p, 1 / 256, "two-sided"),
        (check.smallest_p, 2 / 2**48, "single votes"),
        (check.smallest_p, 0, "single votes"),
        (check.smallest_p, 256, "number of dealings"),
        (check.smallest_p, 0.05, "How many dealings"),
        (check.smallest_p, ..., "your line"),
        (check.worth, None, "your line"),
        (check.first_place, "A", "str"),
    ],
)
def test_wrong_answers_get_a_hint(judge, answer, hint):
    verdict = judge(answer)
    assert not verdict.right and hint in verdict.text


def test_the_smallest_p_is_that_of_all_dealings():
    counts = np.array([[6, 0]] * 8)
    seen = (counts.sum(0) ** 2).sum()
    dealings = [np.where(np.array(flip)[:, None], counts[:, ::-1], counts) for flip in itertools.product((0, 1), repeat=8)]
    assert check.smallest_p(np.mean([(dealt.sum(0) ** 2).sum() >= seen for dealt in dealings])).right
