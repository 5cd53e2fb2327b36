"""The studies: cases, scores against the truth, intervals, ablation and pose robustness."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from nfs_lib import portraits, samples
from nfs_lib.audio2exp import speech_to_expression
from nfs_lib.errors import BadInput
from nfs_lib.metrics.backend import load_backend
from nfs_lib.portraits.chart import face_model
from nfs_lib.studies import ablation, cases, flip, kept, scoring, tables
from nfs_lib.studies.statistics import paired
from nfs_lib.talking_head import TalkingHead
from nfs_lib.worlds import load

T = 8


@pytest.fixture(scope="module")
def world():
    return load("open")


@pytest.fixture(scope="module")
def who():
    """The first sample portrait, which is inverted already."""
    inverted = samples.inverted()
    return cases.Person(0, samples.truth(1), inverted.face, inverted)


@pytest.fixture(scope="module")
def clip():
    return cases.clips(1, T)[0]


@pytest.fixture(scope="module")
def true(who, clip):
    return cases.truth(who, clip, torch.from_numpy(who.portrait.pose) + cases.sway(T))


def test_clips_are_pieces_of_different_sentences_and_sound_fits_face(world):
    pieces = cases.clips(3, 40)
    assert len({p.number for p in pieces}) == 3
    jaw, said, done = face_model().action("jawOpen"), [], []
    for piece in pieces:
        assert piece.heard.shape == (40, 80, 16) and piece.actions.shape == (40, 52)
        said.append(speech_to_expression(world.audio2exp, piece.heard, torch.zeros(52))[:, jaw].numpy())
        done.append(piece.actions[:, jaw])
    said, done = np.stack(said), np.stack(done)
    fits = {k: np.corrcoef(np.roll(said, k, 1)[:, 5:-5].ravel(), done[:, 5:-5].ravel())[0, 1] for k in (-4, 0, 4)}
    assert fits[0] > 0.7 and fits[0] > max(fits[-4], fits[4]) + 0.2


def test_a_person_can_be_inverted_where_gradients_are_off_and_is_kept(world, who, monkeypatch, tmp_path):
    calls = []

    def fit(model, estimator, image):
        assert torch.is_grad_enabled()
        return who.face

    def invert(generator, image, pose, **options):
        assert torch.is_grad_enabled()
        calls.append(options["profile"])
        return who.inversion

    monkeypatch.setattr(cases.fitting, "fit", fit)
    monkeypatch.setattr(cases.inversion, "invert", invert)
    with torch.no_grad():
        first = cases.person(world, 9_999_999, 0.5, tmp_path)
        again = cases.person(world, 9_999_999, 0.5, tmp_path)
    assert calls == ["fast"] and torch.equal(first.inversion.w, again.inversion.w)
    assert first.portrait.pose.tolist() == pytest.approx([0.5, 0, 0])


def test_the_head_sways_from_rest_to_rest():
    turn = cases.sway(25)
    assert turn[0].abs().max() < 1e-6 and turn[-1].abs().max() < 1e-6
    assert turn[:, 0].max() == pytest.approx(cases.SWAY, rel=0.01) and (turn[:, 1:] == 0).all()


def test_the_truth_is_the_renderers_picture_of_the_same_person(who, clip, true):
    k = 3
    alone = portraits.render(who.portrait.scene.replace(expression=true.betas[k].numpy()), true.poses[k].numpy())
    assert np.array_equal(true.frames[k], alone.image)


def test_the_truth_scores_perfectly_against_itself(world, who, clip, true):
    found, features = scoring.score(true.frames, true, who, clip, world, load_backend(world))
    assert found["PSNR"] == found["mouth PSNR"] == math.inf
    assert found["motion"] == pytest.approx(1)
    assert found["CSIM"] > 0.9                       # the same person, speaking
    assert len(features) == T
    assert set(found) == set(scoring.DIRECTIONS)


def test_a_blurred_still_face_scores_worse_in_each_column_that_it_harms(world, who, clip, true):
    backend = load_backend(world)
    still = np.repeat(who.portrait.image[None], T, 0)
    held, _ = scoring.score(still, true, who, clip, world, backend)
    perfect, _ = scoring.score(true.frames, true, who, clip, world, backend)
    assert held["motion"] == 0 and held["mouth PSNR"] < 40
    blurred = torch.nn.functional.avg_pool2d(scoring.tensor(true.frames), 5, 1, 2)
    soft, _ = scoring.score(((blurred + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy(), true, who, clip, world, backend)
    assert soft["CPBD"] < perfect["CPBD"] and soft["PSNR"] < 40


def test_interval_of_equal_differences_is_a_point_and_of_one_person_unknown():
    assert paired(np.full(6, 0.25), [1, 1, 2, 2, 3, 3]) == (0.25, 0.25)
    assert all(math.isnan(v) for v in paired(np.array([1.0, 2.0]), [7, 7]))


def test_interval_counts_people_not_clips():
    rng = np.random.default_rng(0)
    each = rng.normal(0, 1, 12)
    once = paired(each, list(range(12)))
    five = paired(np.repeat(each, 5), np.repeat(np.arange(12), 5).tolist())
    assert five == pytest.approx(once, abs=0.05)     # five copies of a clip are no new evidence
    low, high = paired(np.repeat(each, 5), list(range(60)))
    assert high - low < 0.6 * (five[1] - five[0])    # what counting clips would have claimed


def test_interval_holds_the_mean_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(1), 0
    for trial in range(200):
        people = np.repeat(np.arange(20), 3)
        differences = rng.normal(0.3, 1, 20)[people] + rng.normal(0, 0.5, 60)
        low, high = paired(differences, people.tolist(), seed=trial)
        hits += low <= 0.3 <= high
    assert 0.88 <= hits / 200 <= 0.98                # 0.95 less what percentiles lose with 20 people


def test_tables_come_back_as_they_were_written(tmp_path):
    rows = [{"variant": "α, β", "value": 1.25, "low": float("nan")}, {"variant": "b", "value": -2.0, "low": 3.0}]
    tables.write_csv(tmp_path / "t.csv", rows, "nfs ablate --profile fast")
    made_by, back = tables.read_csv(tmp_path / "t.csv")
    assert made_by == "nfs ablate --profile fast"
    assert back[0]["variant"] == "α, β" and back[0]["value"] == 1.25 and math.isnan(back[0]["low"]) and back[1] == rows[1]
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "# x\n", "# x\na,b\n1\n"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(BadInput, match="make it again"):
        tables.read_csv(tmp_path / "t.csv")
    with pytest.raises(BadInput, match="doesn't exist"):
        tables.read_csv(tmp_path / "none.csv")


def test_kept_cases_come_back_and_their_key_follows_the_weights(tmp_path):
    network = torch.nn.Linear(2, 2)
    before = kept.key(network, about="x")
    assert before == kept.key(network, about="x") != kept.key(network, about="y")
    with torch.no_grad():
        network.weight[0, 0] += 1
    assert kept.key(network, about="x") != before
    kept.save(tmp_path / "new" / "a.npz", {"person": 3}, {"truth": np.ones((2, 3))})
    assert kept.load(tmp_path / "new" / "a.npz")["arrays"]["truth"].shape == (2, 3)


def test_each_variant_names_a_base_that_is_there_and_changes_something():
    names = [v.name for v in ablation.VARIANTS]
    assert len(set(names)) == len(names)
    plain = dataclasses.asdict(next(v for v in ablation.VARIANTS if v.name == "the method"))
    for v in ablation.VARIANTS:
        assert v.base in names
        changed = {k for k, x in dataclasses.asdict(v).items() if x != plain[k]} - {"group", "name"}
        assert changed or v.name == "the method", v.name


def test_the_ablations_whole_method_is_what_talk_makes(world, who, clip, true, monkeypatch):
    monkeypatch.setattr(ablation, "VARIANTS", [v for v in ablation.VARIANTS if v.name in ("the method", "without LipaintNet")])
    about, features = ablation.measure(world, who, clip)
    betas = speech_to_expression(world.audio2exp, clip.heard, who.face.expression[0])
    poses = who.face.pose + cases.sway(T)
    for name, options in (("the method", {}), ("without LipaintNet", {"lipaint": False})):
        made = scoring.gather(TalkingHead(world, who.inversion, who.face, **options).frames(betas, poses))
        expected, seen = scoring.score(made, true, who, clip, world, load_backend(world))
        assert about["scores"][name] == pytest.approx(expected, rel=1e-4)
        assert np.allclose(features[name], seen, atol=1e-3)
    assert about["scores"]["the method"]["mouth PSNR"] != about["scores"]["without LipaintNet"]["mouth PSNR"]


def test_the_ablations_table_pairs_each_variant_with_its_base(monkeypatch):
    chosen = [v for v in ablation.VARIANTS if v.name in ("the method", "without LipaintNet")]
    monkeypatch.setattr(ablation, "VARIANTS", chosen)
    rng, done = np.random.default_rng(0), []
    for person in range(6):
        base = {c: float(rng.normal(20, 5)) for c in scoring.DIRECTIONS}          # people differ much, the variant by 1
        cloud = rng.normal(0, 1, (9, 3))
        done.append({"person": person, "clip": 0,
                     "scores": {"the method": base, "without LipaintNet": {c: v - 1 for c, v in base.items()}},
                     "arrays": {"truth": cloud, "the method": cloud, "without LipaintNet": cloud + 2}})
    rows = {(r["variant"], r["metric"]): r for r in ablation.table(done)}
    row = rows["without LipaintNet", "PSNR"]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((-1, -1, -1))
    assert rows["the method", "FID"]["value"] == pytest.approx(0, abs=1e-6)
    assert rows["without LipaintNet", "FID"]["value"] == pytest.approx(12)        # a shift by 2 in three numbers
    assert rows["without LipaintNet", "PSNR"]["people"] == 6


def test_a_method_that_ignores_the_pose_has_internal_differences_of_exactly_0(world, who, clip, monkeypatch):
    def still(world, person, clip, poses):
        return iter(np.repeat(person.portrait.image[None], len(poses), 0))

    def turning(world, person, clip, poses):
        return (portraits.render(person.portrait.scene, p.numpy()).image for p in poses)

    monkeypatch.setattr(flip, "METHODS", {"still": still, "turning": turning})
    monkeypatch.setattr(flip, "person", lambda world, seed, yaw: dataclasses.replace(
        who, portrait=portraits.render(who.portrait.scene, np.array([yaw, 0, 0], np.float32)),
        face=who.face.replace(pose=torch.tensor([[yaw, 0.0, 0.0]]))))
    about, arrays = flip.measure(world, 0, clip, (30,))
    rows = flip.table([{**about, "arrays": arrays}] * 2, (30,))
    delta = {(r["method"], r["metric"]): r["value"] for r in rows if r["run"] == "Δ"}
    without_truth = ("CSIM", "CPBD", "LSE-D", "LSE-C")
    assert all(delta["still", metric] == 0 for metric in without_truth)
    assert all(delta["turning", metric] != 0 for metric in without_truth)
    found = {(r["run"], r["method"], r["metric"]): r["value"] for r in rows}
    assert found["flipped", "still", "PSNR"] < found["own", "still", "PSNR"] - 5  # only the truth sees that it didn't turn
    assert abs(found["flipped", "turning", "PSNR"] - found["own", "turning", "PSNR"]) < 5


@pytest.mark.parametrize("study", [ablation.ablate, flip.flip])
def test_studies_refuse_what_they_cannot_use(study, tmp_path):
    with pytest.raises(BadInput, match="profile"):
        study("quick", tmp_path)
    with pytest.raises(BadInput, match="isn't a folder"):
        study("fast", tmp_path / "none")
