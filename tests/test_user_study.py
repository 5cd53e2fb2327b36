"""A user study: blind, written at once, resumed; its analysis against scipy, closed cases, simulation. All ballots are made up.
"""

import csv
import gc
import itertools
import math
import multiprocessing
import os

import av
import numpy as np
import pytest
from ipywidgets import Widget
from ipywidgets.embed import embed_minimal_html
from scipy.stats import binomtest, chisquare

from nfs_lib.errors import BadInput
from nfs_lib.studies import user_study, votes
from nfs_lib.studies.user_study import FIELDS, MADE_UP, Ballot, Study, make_up_ballots, read_ballot
from nfs_lib.video import read_video, write_video
from nfs_lib.viz.ballot import BallotPage, anonymous
from nfs_lib.viz.votes import vote_shares

METHODS = ["alpha-method", "beta-method", "gamma-method"]
QUESTIONS = {"lips": "Whose lips?", "look": "Which <looks> best?"}


def film(path, shade):
    """Three frames of one shade, with sound, and the method's name in the file's metadata."""
    plain = path.with_name("plain.mp4")
    write_video(plain, [np.full((32, 32, 3), shade, np.uint8)] * 3, np.zeros(2000, np.float32))
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        target.metadata["title"] = f"made by {path.parent.name}"
        streams[0].metadata["handler_name"] = path.parent.name
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    plain.unlink()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three methods × two clips; the grey of a clip tells the method."""
    folder = tmp_path_factory.mktemp("videos")
    for k, method in enumerate(METHODS):
        (folder / method).mkdir()
        for clip in ("one", "two"):
            film(folder / method / f"{clip}.mp4", 40 + 80 * k)
    return folder


@pytest.fixture
def study(videos):
    return Study.from_folder(videos, QUESTIONS)


def shade(data):
    """The grey of the first frame of a video in memory."""
    import io

    with av.open(io.BytesIO(data)) as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24").mean()


# ------------------------------------------------------------------------------------------------ what is shown


def test_a_folder_becomes_methods_clips_and_trials(study):
    assert study.methods == METHODS and study.clips == ["one", "two"]
    trials = study.trials("p1")
    assert sorted((t.question, t.clip) for t in trials) == sorted(itertools.product(QUESTIONS, study.clips))
    assert all(sorted(t.order) == METHODS for t in trials)
    assert trials == study.trials("p1")


def test_each_participant_and_question_has_an_order_of_its_own_and_no_place_is_favoured(study):
    orders = [t.order for k in range(600) for t in study.trials(f"p{k}")]
    counts = [orders.count(order) for order in itertools.permutations(METHODS)]
    assert chisquare(counts).pvalue > 0.001                    # six orders, 2400 draws
    within = [{t.order for t in study.trials(f"p{k}")} for k in range(100)]
    assert np.mean([len(own) > 1 for own in within]) > 0.9     # not one order for all questions
    first = [study.trials(f"p{k}")[0].clip for k in range(200)]
    assert 60 < first.count("one") < 140


@pytest.mark.parametrize("change", ["missing", "broken", "one method", "twice", "no question", "no folder"])
def test_a_folder_that_is_no_study_is_one_clear_error(tmp_path, change):
    for method in METHODS:
        (tmp_path / method).mkdir()
        film(tmp_path / method / "one.mp4", 100)
    questions, folder, said = QUESTIONS, tmp_path, None
    if change == "missing":
        (tmp_path / METHODS[1] / "one.mp4").unlink()
        said = "lacks beta-method/one"
    elif change == "broken":
        (tmp_path / METHODS[2] / "one.mp4").write_bytes(b"nothing")
        said = "gamma-method/one.mp4 can't be decoded"
    elif change == "one method":
        folder, said = tmp_path / "study", "expected two or more folders"
        (folder / "only").mkdir(parents=True)
    elif change == "twice":
        (tmp_path / METHODS[0] / "one.webm").write_bytes(b"")
        said = "two files of one name"
    elif change == "no question":
        questions, said = {}, "needs questions"
    else:
        folder, said = tmp_path / "nowhere", "isn't a folder"
    with pytest.raises(BadInput, match=said):
        Study.from_folder(folder, questions)


def test_a_clip_is_shown_without_its_metadata_and_is_otherwise_the_same(videos):
    path = videos / METHODS[1] / "one.mp4"
    assert METHODS[1].encode() in path.read_bytes()            # so the test can fail
    data = anonymous(path)
    assert METHODS[1].encode() not in data
    copy = videos.parent / "copy.mp4"
    copy.write_bytes(data)
    was, now = read_video(path), read_video(copy)
    assert (was.frames == now.frames).all() and np.array_equal(was.audio, now.audio)


# ------------------------------------------------------------------------------------------------ what is kept


def test_a_vote_is_on_the_disk_at_once_and_whole(study, tmp_path):
    ballot = Ballot(study, tmp_path, "p1")
    trial = ballot.next()
    ballot.vote(trial, METHODS[2], 3.14159)
    assert [p.name for p in tmp_path.iterdir()] == ["ballot_p1.csv"]
    with (tmp_path / "ballot_p1.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == FIELDS and row["choice"] == METHODS[2] and row["order"].split(";") == list(trial.order)
    assert row["seconds"] == "3.14" and row["made_up"] == "no" and row["time"].endswith("+00:00")
    assert read_ballot(ballot.path) == ballot.votes


@pytest.mark.parametrize("code", ["", "Ann", "a b", "../a", "a.b", "-a", "ä", "a" * 33, "a/b", "a\n"])
def test_a_code_that_may_not_name_a_file_is_refused(study, tmp_path, code):
    with pytest.raises(BadInput, match="participant code"):
        Ballot(study, tmp_path, code)


def test_a_second_vote_on_the_same_trial_is_refused_also_from_another_window(study, tmp_path):
    one, other = Ballot(study, tmp_path, "p1"), Ballot(study, tmp_path, "p1")
    trial = one.next()
    one.vote(trial, METHODS[0], 1.0)
    before = one.path.read_bytes()
    with pytest.raises(BadInput, match="already"):
        other.vote(trial, METHODS[1], 1.0)
    assert one.path.read_bytes() == before
    other.vote(other.next(), METHODS[1], 1.0)                  # it has taken over what the first one wrote
    assert [v.choice for v in read_ballot(one.path)] == METHODS[:2]
    with pytest.raises(BadInput, match="can't be chosen"):
        one.vote(one.next(), "delta-method", 1.0)


HEAD = ",".join(FIELDS)
GOOD = "p1,lips,one,a;b,a,1.0,2026-01-01T00:00:00+00:00,yes"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1"),
        ("nonsense\n", "line 1"),
        (f"{HEAD}\n{GOOD[:20]}\n", "line 2"),
        (f"{HEAD}\n{GOOD}\n{GOOD}\n", "line 3: a second vote"),
        (f"{HEAD}\n{GOOD.replace('a;b,a', 'a;b,c')}\n", "line 2"),
        (f"{HEAD}\n{GOOD.replace('a;b,a', 'a;a,a')}\n", "line 2"),
        (f"{HEAD}\n{GOOD.replace('1.0', 'soon')}\n", "line 2"),
        (f"{HEAD}\n{GOOD.replace('1.0', '-1')}\n", "line 2"),
        (f"{HEAD}\n{GOOD.replace('1.0', 'nan')}\n", "line 2"),
        (f"{HEAD}\n{GOOD.replace('2026', 'year')}\n", "line 2"),
        (f"{HEAD}\n{GOOD.replace('yes', 'maybe')}\n", "line 2"),
        (f"{HEAD}\n{GOOD.replace('p1', 'p2')}\n", "line 2"),
        (f'{HEAD}\n"{GOOD}\n', "can't be read"),
        ("\udcff", "can't be read"),
    ],
)
def test_a_corrupt_ballot_is_one_clear_error_and_stays_as_it_is(study, tmp_path, text, said):
    path = tmp_path / "ballot_p1.csv"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    before = path.read_bytes()
    for call in (lambda: read_ballot(path), lambda: Ballot(study, tmp_path, "p1"), lambda: votes.analyse(tmp_path)):
        with pytest.raises(BadInput) as error:
            call()
        assert said in str(error.value) and str(path) in str(error.value)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_the_line_that_the_corrupt_ones_are_made_from_is_read(tmp_path):
    path = tmp_path / "ballot_p1.csv"
    path.write_text(f"{HEAD}\n{GOOD}\n")
    assert read_ballot(path)[0].order == ("a", "b")


def test_a_ballot_of_another_study_or_kind_is_refused(study, videos, tmp_path):
    Ballot(study, tmp_path, "p1").vote(study.trials("p1")[0], METHODS[0], 1.0)
    with pytest.raises(BadInput, match="another study"):
        Ballot(Study.from_folder(videos, {"other": "?"}), tmp_path, "p1")
    fewer = Study({m: study.videos[m] for m in METHODS[:2]}, QUESTIONS)
    with pytest.raises(BadInput, match="another study"):
        Ballot(fewer, tmp_path, "p1")
    with pytest.raises(BadInput, match="mixes made-up and real"):
        Ballot(study, tmp_path, "p1", made_up=True)
    with pytest.raises(BadInput, match="isn't a folder"):
        Ballot(study, tmp_path / "nowhere", "p1")


# ------------------------------------------------------------------------------------------------ the page


def tree(widget):
    """A widget and all within it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from tree(child)


def sit(page, choose, n=1000):
    """Click through up to n questions; choose: the shown clips' greys → which letter."""
    greys = []
    while page.trial is not None and len(greys) < n:
        greys.append([shade(video.value) for video in page.videos])
        page.choice.value = choose(greys[-1])
        assert not page.save.disabled
        page.save.click()
        assert page.trial is None or (page.choice.value is None and page.save.disabled)
    return greys


def begin(page, code):
    page.code.value = code
    page.start.click()
    return page


def test_a_sitting_records_what_was_shown_and_chosen(study, tmp_path):
    page = begin(BallotPage(study, tmp_path), " P1 ")
    greys = sit(page, lambda g: int(np.argmax(g)))              # always the brightest: the third method
    written = read_ballot(tmp_path / "ballot_p1.csv")
    assert [v.choice for v in written] == [METHODS[2]] * 4
    for own, vote in zip(greys, written, strict=True):          # the order in the file is the order on the page
        assert [METHODS[round((g - 40) / 80)] for g in own] == list(vote.order)
    assert "Thank you" in page.question.value and page.count.value == "4 of 4 answered"
    assert page.clips.layout.display == page.buttons.layout.display == "none"
    page.save.click()                                          # nothing more to vote on
    assert len(read_ballot(tmp_path / "ballot_p1.csv")) == 4


def _sit_in_a_kernel(folder, votes_folder, n):
    page = begin(BallotPage(Study.from_folder(folder, QUESTIONS), votes_folder), "p1")
    sit(page, lambda g: int(np.argmin(g)), n)
    os._exit(9)                                                # no goodbye, as a kernel that is killed


def test_a_killed_kernel_loses_nothing_and_the_page_goes_on(study, videos, tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_sit_in_a_kernel, args=(videos, tmp_path, 2))
    process.start()
    process.join()
    assert process.exitcode == 9
    before = read_ballot(tmp_path / "ballot_p1.csv")
    assert len(before) == 2
    page = begin(BallotPage(study, tmp_path), "p1")
    assert "2 of 4" in page.message.value and page.progress.value == 2
    assert page.trial == study.trials("p1")[2]
    sit(page, lambda g: int(np.argmax(g)))
    after = read_ballot(tmp_path / "ballot_p1.csv")
    assert after[:2] == before and [v.choice for v in after] == [METHODS[0]] * 2 + [METHODS[2]] * 2
    assert begin(BallotPage(study, tmp_path), "p1").trial is None


def test_nothing_on_the_page_names_a_method(study, tmp_path):
    page = begin(BallotPage(study, tmp_path, made_up=True), "p1")
    words = [b"alpha", b"beta", b"gamma", bytes(study.videos[METHODS[0]]["one"].parent.parent)]

    def seen():
        states = [repr(w.get_state()).encode() for part in tree(page.widget) for w in (part, part.layout)]
        buffers = [bytes(v.value) for v in page.videos]
        page_file = tmp_path / "page.html"
        embed_minimal_html(page_file, views=[page.widget])
        return b"".join([*states, *buffers, page_file.read_bytes()])

    while page.trial is not None:
        shown = seen()
        assert not [w for w in words if w in shown]
        assert b"Whose lips?" in shown or b"Which &lt;looks&gt; best?" in shown         # the page is there, and escaped
        page.choice.value = 0
        page.save.click()
    assert not [w for w in words if w in seen()]


def test_what_goes_wrong_is_said_and_names_no_method(study, tmp_path):
    page = begin(BallotPage(study, tmp_path), "not a code")
    assert "participant code" in page.message.value and page.trial is None and page.entry.layout.display != "none"
    begin(page, "p1")
    assert page.message.value == "" and page.trial is not None
    page.save.click()                                          # nothing chosen
    assert not (tmp_path / "ballot_p1.csv").exists()
    other = begin(BallotPage(study, tmp_path), "p1")           # a second window answers first
    other.choice.value = 1
    other.save.click()
    page.choice.value = 0
    page.save.click()
    assert "already" in page.message.value and page.trial == study.trials("p1")[1]
    assert len(read_ballot(tmp_path / "ballot_p1.csv")) == 1
    (tmp_path / "ballot_p2.csv").write_text("nonsense")
    page = begin(BallotPage(study, tmp_path), "p2")
    assert "left as it is" in page.message.value and page.trial is None
    assert not any(m in page.message.value for m in METHODS)


def test_a_clip_that_has_gone_stops_the_page_without_naming_it(study, tmp_path):
    gone = {m: dict.fromkeys(study.clips, tmp_path / m / "gone.mp4") for m in METHODS}
    page = begin(BallotPage(Study(gone, QUESTIONS), tmp_path), "p1")
    assert page.message.value.startswith("A clip can") and page.clips.layout.display == "none"
    assert not any(m in repr([w.get_state() for w in tree(page.widget)]) for m in METHODS)
    page.choice.value = 0
    page.save.click()
    assert not (tmp_path / "ballot_p1.csv").exists()


def test_a_vote_that_cannot_be_written_keeps_the_question(study, tmp_path, monkeypatch):
    page = begin(BallotPage(study, tmp_path), "p1")
    trial = page.trial

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(user_study, "replacing", full)
    page.choice.value = 0
    page.save.click()
    assert "No space left" in page.message.value and page.trial == trial
    monkeypatch.undo()
    page.save.click()
    assert page.trial != trial and len(read_ballot(tmp_path / "ballot_p1.csv")) == 1


def test_a_page_keeps_a_fixed_number_of_widgets(study, tmp_path):
    page = begin(BallotPage(study, tmp_path), "p1")
    before = len(list(tree(page.widget)))
    sit(page, lambda g: 0)
    assert len(list(tree(page.widget))) == before
    Widget.close_all()
    gc.collect()


# ------------------------------------------------------------------------------------------------ what the votes say


def test_wilson_is_scipys_for_whole_numbers():
    for k, n in [(0, 5), (1, 7), (13, 40), (40, 40)]:
        low, high = binomtest(k, n).proportion_ci(method="wilson")
        assert votes.wilson(k / n, n) == pytest.approx((low, high), abs=1e-9)


def test_independent_votes_count_each_and_agreeing_ones_once():
    one_each = np.array([[1, 0]] * 30 + [[0, 1]] * 10)                 # 40 people, one vote each
    (share, low, high), _ = votes.shares(one_each)
    assert share == 0.75 and (low, high) == pytest.approx(votes.wilson(0.75, 40), abs=1e-9)
    assert votes.shares(8 * one_each)[0] == pytest.approx((share, low, high))     # eight equal votes each add nothing
    spread = np.array([[3, 1]] * 40)                                    # all people alike: as many votes as there are
    assert votes.shares(spread)[0][1:] == pytest.approx(votes.wilson(0.75, 160))
    assert votes.shares(np.array([[5, 0]]))[0][1:] == pytest.approx(votes.wilson(1.0, 1))   # one person says little


def test_intervals_hold_the_true_share_of_a_clustered_population():
    rng = np.random.default_rng(1)
    held, naive = [], []
    for _ in range(600):
        tastes = rng.dirichlet([1.5, 0.9, 0.6], size=25)                # true shares 0.5, 0.3, 0.2
        counts = np.array([rng.multinomial(8, p) for p in tastes])
        found = votes.shares(counts)
        held += [low <= p <= high for (_, low, high), p in zip(found, (0.5, 0.3, 0.2), strict=True)]
        naive += [low <= p <= high for (low, high), p in
                  zip([votes.wilson(s, 200) for s, _, _ in found], (0.5, 0.3, 0.2), strict=True)]  # fmt: skip
    assert 0.92 < np.mean(held) < 0.98
    assert np.mean(naive) < 0.85                                        # as if the votes were independent


def test_the_permutation_test_equals_counting_all_cases():
    counts = np.array([[3, 1], [2, 0], [4, 2], [1, 2]])
    totals = [sum(np.array(case)) for case in itertools.product(*[[(a, b), (b, a)] for a, b in counts.tolist()])]
    exact = np.mean([(np.array(t) ** 2).sum() >= (counts.sum(0) ** 2).sum() for t in totals])
    assert votes.permutation_test(counts, 20_000) == pytest.approx(exact, abs=0.01)
    assert votes.permutation_test(np.array([[4, 4], [2, 2]]), 99) == 1.0
    one_sided = votes.permutation_test(np.array([[1, 0, 0]] * 20), 999)
    assert one_sided == 1 / 1000                                        # the smallest that it can say


def test_one_vote_each_makes_the_permutation_test_the_chi_square_test():
    counts = np.eye(3, dtype=int)[[0] * 26 + [1] * 18 + [2] * 16]
    assert votes.permutation_test(counts, 20_000) == pytest.approx(chisquare([26, 18, 16]).pvalue, abs=0.03)


def test_under_the_null_five_per_cent_are_below_five_per_cent():
    rng = np.random.default_rng(0)
    runs, permutation, chi_square = 600, [], []
    for run in range(runs):
        tastes = rng.dirichlet([0.5] * 4, size=15)                      # people differ, methods don't
        counts = np.array([rng.multinomial(6, p) for p in tastes])
        permutation.append(votes.permutation_test(counts, 399, seed=run))
        chi_square.append(chisquare(counts.sum(0)).pvalue)
    share = np.mean(np.array(permutation) < 0.05)
    assert binomtest(int(share * runs), runs, 0.05).pvalue > 0.001      # 2.3 % to 8.3 %
    assert np.mean(np.array(chi_square) < 0.05) > 0.2                   # why it isn't the main test


def test_sign_tests_are_scipys_and_holm_is_stepping_down():
    counts = np.array([[3, 1, 0]] * 9 + [[0, 2, 2]] * 2 + [[1, 1, 2]])
    pairs = {(p.one, p.other): p for p in votes.sign_tests(counts, ["a", "b", "c"])}
    ab, ac, bc = pairs["a", "b"], pairs["a", "c"], pairs["b", "c"]
    assert [(pair.for_one, pair.for_other) for pair in (ab, ac, bc)] == [(9, 2), (9, 3), (9, 1)]
    assert bc.p == binomtest(9, 10).pvalue and ab.p == binomtest(9, 11).pvalue
    assert bc.p_holm == pytest.approx(3 * bc.p) and ab.p_holm == pytest.approx(2 * ab.p)
    assert ac.p_holm == pytest.approx(max(2 * ab.p, ac.p))
    assert votes.holm(np.array([0.04, 0.01, 0.5])) == pytest.approx([0.08, 0.03, 0.5])
    assert votes.holm(np.array([0.4, 0.9])) == pytest.approx([0.8, 0.9])
    assert votes.sign_tests(np.array([[1, 1]]), ["a", "b"])[0].p == 1.0                     # all tied


def test_an_analysis_counts_what_the_ballots_hold_and_says_that_they_are_made_up(study, tmp_path):
    make_up_ballots(study, tmp_path, 40, {METHODS[0]: 6.0, METHODS[1]: 1.0, METHODS[2]: 1.0}, taste=0.5)
    found = votes.analyse(tmp_path, permutations=2000)
    assert MADE_UP in found.title and "not a result" in found.title
    assert all(row["ballots"] == MADE_UP for row in [*found.table(), *found.pairs()])
    rows = [r for path in tmp_path.glob("*.csv") for r in csv.DictReader(path.open(newline=""))]
    for answer in found.answers:
        assert answer.participants == 40 and answer.votes == 80
        for share in answer.shares:
            count = sum(r["question"] == answer.question and r["choice"] == share.method for r in rows)
            assert share.votes == count and share.share == count / 80 and share.low < share.share < share.high
        assert answer.permutation_p < 0.05                              # the weights are far from equal
        assert answer.chi_square_p == chisquare([s.votes for s in answer.shares]).pvalue
        assert answer.shares[0].share > 1 / 3
    assert len(found.table()) == 6 and len(found.pairs()) == 6
    assert votes.analyse(tmp_path, permutations=2000) == found          # the same again

    figure = vote_shares(found)
    words = " ".join([figure.get_suptitle(), *(a.get_title(loc="left") for a in figure.axes), figure.axes[-1].get_xlabel()])
    assert words.count(MADE_UP) == 2 and "lips: 80 votes" in words
    bars = [bar.get_width() for bar in figure.axes[0].patches]
    assert bars == pytest.approx([100 * s.share for s in found.answers[0].shares])


def test_collected_ballots_are_not_called_made_up_and_are_not_mixed_with_them(study, tmp_path):
    for code, choice in [("p1", 0), ("p2", 1)]:
        ballot = Ballot(study, tmp_path, code)
        while trial := ballot.next():
            ballot.vote(trial, METHODS[choice], 1.0)
    found = votes.analyse(tmp_path, permutations=99)
    assert not found.made_up and MADE_UP not in found.title and {row["ballots"] for row in found.table()} == {"collected"}
    assert MADE_UP not in vote_shares(found).axes[-1].get_xlabel()
    make_up_ballots(study, tmp_path, 1, dict.fromkeys(METHODS, 1.0))
    with pytest.raises(BadInput, match="made-up ballots among collected"):
        votes.analyse(tmp_path)


def test_what_cannot_be_analysed_is_one_clear_error(study, tmp_path):
    with pytest.raises(BadInput, match="no ballot with a vote"):
        votes.analyse(tmp_path)
    make_up_ballots(study, tmp_path, 1, dict.fromkeys(METHODS, 1.0))
    fewer = Study({m: study.videos[m] for m in METHODS[:2]}, QUESTIONS)
    ballot = Ballot(fewer, tmp_path, "zz", made_up=True)
    ballot.vote(ballot.next(), METHODS[0], 1.0)
    with pytest.raises(BadInput, match="other methods than"):
        votes.analyse(tmp_path)
    with pytest.raises(BadInput, match="from 0 up for each"):
        make_up_ballots(study, tmp_path, 1, {METHODS[0]: math.nan})
