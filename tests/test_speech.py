"""Visemes: lips that must meet do, curves follow the sounds. With eSpeak NG: voices, times, repeatability."""

import numpy as np
import pytest

from nfs_lib.training import speech, visemes
from nfs_lib.training.speech import Phoneme
from nfs_lib.training.speech_clips import expression_names

NAMES = expression_names()
HALF = 16_000 // 2


def spoken(*sounds: str, each: float = 0.12) -> list[Phoneme]:
    return [Phoneme(ipa, 0.4 + i * each, 0.4 + (i + 1) * each) for i, ipa in enumerate(sounds)]


def face(*sounds: str, each: float = 0.12) -> dict[str, np.ndarray]:
    """Facial actions while the sounds are spoken from 0.4 s on, at even loudness."""
    wave = np.full(int(16_000 * (0.8 + each * len(sounds))), 0.1, np.float32)
    return dict(zip(NAMES, visemes.facial_actions(spoken(*sounds, each=each), wave, NAMES).T, strict=True))


def middle(index: int, each: float = 0.12) -> int:
    return round((0.4 + (index + 0.5) * each) * 25)


def test_lips_close_for_p_b_m():
    for sound in "pbm":
        actions = face("ˈa", sound, "ˈa")
        gap = actions["jawOpen"] - actions["mouthClose"]
        assert gap[middle(1)] < 0.02 and actions["mouthPressLeft"][middle(1)] > 0.25
        assert gap[middle(0)] > 0.3 and gap[middle(2)] > 0.3


def test_what_the_lips_show():
    opened, round_, spread, teeth, flared = (face("t", s, "t") for s in ("ˈɑː", "ˈuː", "ˈiː", "f", "ʃ"))
    at = middle(1)
    assert opened["jawOpen"][at] > 0.35 > 0.2 > round_["jawOpen"][at]
    assert round_["mouthPucker"][at] > 0.4 > 0.1 > spread["mouthPucker"][at]
    assert spread["mouthSmileLeft"][at] > 0.2 > 0.1 > opened["mouthSmileLeft"][at]
    assert teeth["mouthRollLower"][at] > 0.3 and flared["mouthFunnel"][at] > 0.25
    assert face("a", "θ", "a")["tongueOut"][at] > 0.1


def test_rounding_is_anticipated():
    before_u, before_i = face("ˈa", "s", "ˈu"), face("ˈa", "s", "ˈi")
    assert before_u["mouthPucker"][middle(1)] > before_i["mouthPucker"][middle(1)] + 0.1


def test_at_rest_before_and_after():
    actions = face("ˈa", "p", "ˈa")
    for curve in actions.values():
        assert curve[:5].max() < 0.02 and curve[-3:].max() < 0.02


def test_amplitudes_are_natural():
    for sound in visemes._shapes():
        for name, curve in face("ˈ" + sound, each=0.3).items():
            assert 0 <= curve.min() and curve.max() < 0.8, name
    assert 0.45 < face("ˈɑː", each=0.3)["jawOpen"].max() < 0.66


def test_left_and_right_move_alike_and_the_rest_stays():
    actions = face("ˈa", "f", "ˈu", "m")
    assert np.array_equal(actions["mouthSmileLeft"], actions["mouthSmileRight"])
    driven = {name for moved in visemes.ACTIONS.values() for name in moved}
    assert all((curve == 0).all() for name, curve in actions.items() if name not in driven)


def test_louder_opens_wider():
    wave = np.full(16_000, 0.02, np.float32)
    wave[HALF:] = 0.4
    level = visemes.loudness(wave, 25)
    assert level[5] < 0.9 < level[20] <= 1.15
    assert np.array_equal(level, visemes.loudness(wave / 2, 25)) or np.allclose(level, visemes.loudness(wave / 2, 25))


def test_diphthongs_long_sounds_and_marks():
    assert [(s, round(b - a, 3)) for s, a, b, _ in visemes.sounds_of(Phoneme("ˈaɪ", 1.0, 1.2))] == [("a", 0.1), ("ɪ", 0.1)]
    assert [(s, round(b - a, 3)) for s, a, b, _ in visemes.sounds_of(Phoneme("ɑːɹ", 0.0, 0.25))] == [("ɑ", 0.15), ("ɹ", 0.1)]
    assert visemes.sounds_of(Phoneme("", 0.0, 1.0)) == [("_", 0.0, 1.0, 1.0)]
    assert visemes.sounds_of(Phoneme("ɔ̃", 0.0, 1.0))[0][0] == "ɔ"
    assert visemes.sounds_of(Phoneme("ˈa", 0, 1))[0][3] > visemes.sounds_of(Phoneme("a", 0, 1))[0][3]


def test_reference_keeps_all_but_the_mouth():
    reference = np.random.default_rng(0).uniform(0, 1, len(NAMES)).astype(np.float32)
    talking = np.zeros((3, len(NAMES)), np.float32)
    talking[:, NAMES.index("jawOpen")] = 0.4
    shown = dict(zip(NAMES, visemes.with_reference(talking, reference, NAMES)[0], strict=True))
    given = dict(zip(NAMES, reference, strict=True))
    assert shown["jawOpen"] == pytest.approx(0.4) and shown["mouthPucker"] == 0
    assert shown["eyeBlinkLeft"] == given["eyeBlinkLeft"]
    assert shown["mouthSmileLeft"] == pytest.approx(given["mouthSmileLeft"] / 2)


def test_words_and_sentences():
    assert set(speech.DIALECTS) < set(speech.words()) and all(len(w) >= 100 for w in speech.words().values())
    rng = np.random.default_rng(0)
    reserved = {word.lower() for i, word in enumerate(speech.words()["de"]) if i % 10 == 0}
    used = " ".join(speech.sentence("de", rng) for _ in range(200)).lower()
    assert not reserved & set(used.translate(str.maketrans("", "", ".,!?")).split())
    heard = {voice.split("+")[1] for voice in speech.HELD_OUT_VOICES}
    assert not heard & set(speech.VARIANTS) and "nl" not in speech.DIALECTS


def test_degraded_speech_is_still_that_speech():
    wave = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    wave[:HALF] *= 0.01
    for seed in range(8):
        heard = speech.degrade(wave, np.random.default_rng(seed))
        assert heard.shape == wave.shape and heard.dtype == np.float32 and np.abs(heard).max() <= 1
        assert heard[HALF:].std() > 1.8 * heard[:HALF].std()


@pytest.fixture(scope="module")
def synthesiser():
    pytest.importorskip("espeakng_loader")
    return speech.Synthesiser()


def test_phonemes_lie_where_the_sound_is(synthesiser):
    said = synthesiser.speak("Papa.", "en-us", 120, 50)
    letters = [p.ipa.lstrip("ˈˌ") for p in said.phonemes]
    assert letters[:4] == ["p", "ɑː", "p", "ə"]
    times = [(p.start, p.end) for p in said.phonemes]
    assert all(a < b for a, b in times) and all(b == c for (_, b), (c, _) in zip(times, times[1:], strict=False))
    first, closure = said.phonemes[1], said.phonemes[2]

    def level(a: float, b: float) -> float:
        return float(np.abs(said.wave[int(a * 16_000) : int(b * 16_000)]).max())

    assert level(first.start, first.end) > 0.1
    assert level(closure.start + 0.005, closure.start + 0.03) < 0.03  # p begins with its silence, not with its burst


def test_warp_changes_time_and_phonemes_alike(synthesiser):
    slow, fast = (synthesiser.speak("Ein Baum.", "de", 140, 50, warp) for warp in (1.0, 1.2))
    assert len(slow.wave) / len(fast.wave) == pytest.approx(1.2, abs=0.02)
    assert slow.phonemes[-1].end / fast.phonemes[-1].end == pytest.approx(1.2, abs=0.02)
    assert fast.phonemes[-1].end == pytest.approx(len(fast.wave) / 16_000, abs=0.001)


def test_an_unknown_voice_is_refused(synthesiser):
    with pytest.raises(ValueError, match="SetVoiceByName"):
        synthesiser.speak("Hello.", "xx-nowhere", 150, 50)


def test_pauses(synthesiser):
    said = synthesiser.speak("Bob.", "en-us", 150, 50)
    later = speech.with_pauses(said, 0.5, 0.25)
    assert len(later.wave) == len(said.wave) + 12_000
    assert later.phonemes[0].start == pytest.approx(said.phonemes[0].start + 0.5)
