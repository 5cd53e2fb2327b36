"""Notebook 04: its checks give the right hint, its figures show the numbers that they were given."""

import numpy as np
import pytest
import torch

from nfs_lib import audio, samples
from nfs_lib.audio2exp import Audio2Exp, speech_to_expression
from nfs_lib.exercises import audio2exp as check
from nfs_lib.training import visemes
from nfs_lib.training.speech import Phoneme
from nfs_lib.training.speech_clips import expression_names
from nfs_lib.viz import sound as plots

NAMES = expression_names()
JAW, BROW = NAMES.index("jawOpen"), NAMES.index("browInnerUp")


@pytest.fixture(scope="module")
def wave():
    return audio.load_speech(samples.speech_file("hello"))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Audio2Exp().eval()


@pytest.fixture(scope="module")
def heard():
    return torch.randn(121, 512, generator=torch.Generator().manual_seed(1))


def curve(frames=200, seed=0):
    """A smooth course of values."""
    noise = np.random.default_rng(seed).standard_normal(frames + 8)
    return np.convolve(noise, np.hanning(11) / 5, mode="same")[4:-4]


# the checks

RIGHT = {
    "latency": (lambda a: check.latency(a), 132.5),
    "quieter": (lambda a: check.quieter(a), 8 * 20 * np.log10(0.1) / 100),
    "keeping_scale": (lambda a: check.keeping_scale(a, 0.8, 0.6), 0.52 / 0.32),
    "halved_scale": (lambda a: check.halved_scale(a, 0.92, 0.88), [0.92, 0.44]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_answer_is_right_and_the_empty_one_gets_a_hint(name):
    judge, answer = RIGHT[name]
    assert judge(answer).right
    assert judge(torch.tensor(answer)).right
    for nothing in (..., None, "?", {"a": 1}):
        assert not judge(nothing).right and judge(nothing).text


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("latency", 107.5, "centred"),
        ("latency", (3000 + 800) / 16 - 80, "half of it"),
        ("latency", (200 * 16 + 400) / 16 - 80, "numbers 0 to 15"),
        ("latency", 3400 / 16, "shown at 80 ms"),
        ("latency", 0.1325, "milliseconds"),
        ("latency", 3400 - 1280, "16 of them"),
        ("latency", 50.0, "Which sample"),
        ("quieter", 1.6, "Which way"),
        ("quieter", -0.8, "not powers"),
        ("quieter", -20, "100 dB are 8 units"),
        ("quieter", 0.1, "shifts them"),
        ("quieter", -4.0, "How many dB"),
        ("keeping_scale", 0.4 * 0.8 / 0.52, "λ_exp = 1."),
        ("keeping_scale", 1.5 * 0.4 * 0.8 / 0.52, "λ_exp = 1.5"),
        ("keeping_scale", 1 / 0.8, "first frame"),
        ("keeping_scale", 1 / (0.4 * 0.8), "brings back"),
        ("keeping_scale", (1 - 0.4 * 0.8) / (0.6 * 0.8), "β_init has"),
        ("keeping_scale", 1.48 / 0.32, "sign"),
        ("keeping_scale", 1.5, "training"),
        ("keeping_scale", 1.0, "solve for p"),
        ("halved_scale", [0.46, 0.44], "half its height"),
        ("halved_scale", [0.92, 0.88], "half as far"),
        ("halved_scale", [0.92, 1.76], "half the slope"),
        ("halved_scale", [0.44, 0.92], "order"),
        ("halved_scale", [0.1, 0.2], "Which of them"),
        ("halved_scale", 0.92, "shape"),
    ],
)
def test_a_typical_wrong_answer_gets_its_hint(name, answer, hint):
    verdict = RIGHT[name][0](answer)
    assert not verdict.right and hint in verdict.text


def test_the_latency_is_what_a_window_hears(wave):
    """132.5 ms after frame 2 no sample changes its window; just before, one does."""
    end = round((0.08 + 0.1325) * audio.SAMPLE_RATE)
    before = audio.mel_windows(wave)[2]
    for sample, same in ((end + 1, True), (end - 40, False)):
        changed = wave.copy()
        changed[sample:] += 0.5
        assert np.array_equal(audio.mel_windows(changed)[2], before) == same


def test_the_scale_is_the_one_with_which_the_recursion_keeps_a_face(net):
    with torch.no_grad():
        silent = Audio2Exp().eval()
        for part in (silent.mapping1.weight, silent.mapping1.bias):
            part.zero_()
        silent.mapping1.weight[BROW, 512 + BROW] = 0.8
    own = torch.zeros(52)
    own[BROW] = 1.0
    shown = speech_to_expression(silent, np.full((40, 80, 16), -4, np.float32), own, momentum=0.6, scale=1.625)
    assert shown[-1, BROW] == pytest.approx(1.0, abs=1e-4) and check.keeping_scale(1.625, 0.8, 0.6).right
    assert shown[0, BROW] == pytest.approx(1.3)


# what is measured

@pytest.mark.parametrize("late", [-3, 0, 2])
def test_lag_finds_a_shift(late):
    base = curve(260)
    assert plots.lag_ms(base[20:220], base[20 - late : 220 - late]) == pytest.approx(40 * late, abs=6)


def test_jerk_doesnt_depend_on_size_and_falls_when_smoothed():
    base = curve()
    assert plots.jerk(3 * base) == pytest.approx(plots.jerk(base))
    assert plots.jerk(np.convolve(base, [0.25, 0.5, 0.25], "valid")) < 0.9 * plots.jerk(base)


def test_respeak_is_speech_to_expression(net, wave):
    windows = audio.mel_windows(wave)[20:32]
    own = torch.linspace(0, 1, 52)
    with torch.no_grad():
        embedded = net.embed(torch.from_numpy(windows)[:, None])
    again = plots.respeak(net, embedded, own, 0.7, 2.0)
    assert torch.allclose(again, speech_to_expression(net, windows, own, momentum=0.7, scale=2.0), atol=1e-5)


def test_a_wave_from_a_mel_spectrogram_has_that_spectrogram(wave):
    mel = audio.mel_spectrogram(wave[8000:16000])
    again = audio.mel_spectrogram(plots.from_mel(mel))
    loud = (mel > -1)[:, 4:-4]
    assert again.shape == mel.shape
    assert np.corrcoef(again[:, 4:-4][loud], mel[:, 4:-4][loud])[0, 1] > 0.9


def test_the_sounds_of_hello_fit_its_wave(wave):
    sounds = plots.hello_sounds()
    assert all(a.end == b.start for a, b in zip(sounds, sounds[1:], strict=False))
    assert sounds[-1].end < len(wave) / audio.SAMPLE_RATE

    def level(chosen):
        pieces = [wave[int(s.start * 16000) : int(s.end * 16000)] for s in chosen]
        return np.sqrt(np.mean(np.concatenate(pieces) ** 2))

    vowels = [s for s in sounds if set(s.ipa) & visemes.VOWELS]
    assert level(vowels) > 10 * level([s for s in sounds if not s.ipa][:1])
    assert "".join(s.ipa for s in sounds).startswith("həlˈoʊwiː")


def test_shut_lips_are_found():
    target = np.zeros(20)
    target[5:8] = 0.35
    assert plots.lips_shut(target) == [Phoneme("p/b/m", 4.5 / 25, 7.5 / 25)]
    assert plots.lips_shut(np.zeros(5)) == []


# the figures

def lines(axes):
    """The y values of the lines, by label."""
    return {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}


def test_one_column_ends_in_the_spectrogram(wave):
    figure = plots.one_column(wave, 0.59)
    tops = [bar.get_y() + bar.get_height() for bar in figure.axes[3].patches]
    assert np.allclose(tops, audio.mel_spectrogram(wave)[:, round(0.59 * 80)], atol=1e-5)
    assert figure.axes[0].get_xlim()[0] < 590 < figure.axes[0].get_xlim()[1]


def test_windows_shows_what_the_network_gets(wave):
    figure = plots.windows(audio.mel_spectrogram(wave[: 121 * 640]), 121, [0, 60, 120])
    whole, *cells = figure.axes
    for cell, window in zip(cells, audio.mel_windows(wave)[[0, 60, 120]], strict=True):
        assert np.array_equal(cell.images[0].get_array(), window)
    box = whole.patches[1]
    assert box.get_x() == pytest.approx((int(3.2 * 58) - 0.5) / 80) and box.get_width() == pytest.approx(0.2)
    assert box.get_x() < 60 / 25 < box.get_x() + box.get_width()


def test_layers_ends_with_all_512(net, wave):
    window = torch.from_numpy(audio.mel_windows(wave)[30])
    figure = plots.layers(net, window)
    assert [a.get_title(loc="left").split(": ")[1] for a in figure.axes] == [
        "1 × 80 × 16", "32 × 80 × 16", "64 × 27 × 16", "128 × 9 × 6", "256 × 3 × 3", "512 × 1 × 1"]  # fmt: skip
    assert np.array_equal(figure.axes[0].images[0].get_array(), window)
    assert figure.axes[-1].images[0].get_array().shape == (32, 16)


def test_against_truth_draws_both_and_writes_the_sounds(wave):
    right, predicted = curve(121), curve(121) + curve(121, 1)
    figure = plots.against_truth(wave, {"jawOpen": (right, predicted)}, plots.hello_sounds())
    drawn = lines(figure.axes[1])
    assert np.array_equal(drawn["right"], right) and np.array_equal(drawn["predicted"], predicted)
    assert f"{np.corrcoef(right, predicted)[0, 1]:.2f}" in figure.axes[1].get_title(loc="left")
    assert [t.get_text() for t in figure.axes[0].texts][:3] == ["h", "ə", "l"]
    assert "(orange: vowels, blue: lips shut)" in figure.axes[0].get_title(loc="left")
    shaded = len(figure.axes[1].patches)
    assert shaded == sum(bool(set(s.ipa) & (visemes.VOWELS | set("pbm"))) for s in plots.hello_sounds())


def test_the_title_names_what_is_shaded_and_no_more(wave):
    shut = plots.lips_shut(np.repeat([0.0, 0.4, 0.0], 10))
    for sounds, shaded in ((shut, " (blue: lips shut)"), ((), "")):
        figure = plots.against_truth(audio.mel_spectrogram(wave), {"jawOpen": (curve(30), curve(30, 1))}, sounds)
        assert figure.axes[0].get_title(loc="left") == "what is heard" + shaded and len(figure.axes[1].patches) == len(sounds)


def test_agreement_says_how_late():
    base = curve(300)
    figure = plots.agreement(base[20:280], base[19:279])
    assert "+40 ms" in figure.axes[1].get_legend().get_texts()[0].get_text()
    assert lines(figure.axes[1])["_child0"].argmax() == 6


def test_memory_draws_what_it_is_given():
    figure = plots.memory([0, 0.5, 1], {"a": [0, 5, 9]}, {"a": [200, 150, 50]}, {"b": [1.2, 1, 0]}, {"b": [1.2, 1, 0]})
    assert lines(figure.axes[0])["a"].tolist() == [0, 5, 9]
    assert lines(figure.axes[1])["a"].tolist() == [1, 0.75, 0.25]
    assert lines(figure.axes[2])["b"].tolist() == [1.2, 1, 0]


def test_scales_is_least_where_the_prediction_is_right():
    target = np.abs(curve())
    figure = plots.scales(target, target / 1.5)
    error = figure.axes[1].lines[0]
    assert error.get_xdata()[error.get_ydata().argmin()] == pytest.approx(1.5)
    assert np.allclose(lines(figure.axes[0])["λ_exp = 3"], 2 * target[:95])


def test_orders_and_conditions_draw_their_curves():
    course = np.linspace(0.5, 9, 25)
    figure = plots.orders({"inside": course}, 0.5)
    assert np.array_equal(lines(figure.axes[0])["inside"], course)
    clean, noisy = np.abs(curve(50)), np.abs(curve(50, 3))
    figure = plots.conditions(clean, {"noise": noisy, "none": clean})
    assert np.array_equal(figure.axes[0].lines[1].get_ydata(), noisy)
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["clean", "worse"]
    assert "none: r = 1.00" in figure.axes[1].get_title(loc="left")


def test_moving_tells_driven_from_still():
    betas = torch.zeros(50, 52)
    betas[:, JAW] = torch.linspace(0, 1, 50)
    bars = plots.moving(betas, NAMES).axes[0].containers
    driven = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in bars[0]}
    assert driven[JAW] == pytest.approx(float(betas[:, JAW].std()))
    assert len(bars[0]) + len(bars[1]) == 52
    assert BROW not in driven


def test_mouths_move_and_stand_under_the_wave(wave):
    person = samples.truth(1)
    closed, wide = torch.zeros(52), torch.zeros(52)
    wide[JAW] = 0.9
    mouths = plots.mouth_pictures(person, torch.stack([closed, wide]), 128)
    assert mouths[0].shape == mouths[1].shape == (24, 30, 3)
    assert np.abs(mouths[0].astype(int) - mouths[1]).mean() > 5
    figure = plots.mouth_strip(wave, plots.hello_sounds(), [16, 98], {"right": mouths, "predicted": mouths[::-1]})
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [16 / 25, 98 / 25]
    last, first = figure.axes[1], figure.axes[3]                        # rows are drawn from below
    assert np.array_equal(first.images[0].get_array(), mouths[0])
    assert np.array_equal(last.images[0].get_array(), mouths[1])
    assert first.get_position().y0 > last.get_position().y0


def test_play_draws_these_settings_over_the_usual_ones(net, heard, wave):
    figure = plots.play(net, heard, torch.zeros(52), NAMES, wave, alpha_m=0.9, lambda_exp=3.0, smile=0.2)
    own = plots.with_smile(torch.zeros(52), NAMES, 0.2)
    assert torch.equal(own.nonzero().flatten(), torch.tensor([NAMES.index(f"mouthSmile{side}") for side in ("Left", "Right")]))
    expected = plots.respeak(net, heard, own, 0.9, 3.0)[:, JAW]
    assert np.allclose(lines(figure.axes[1])["jawOpen"], expected)
    assert np.allclose(figure.axes[1].lines[0].get_ydata(), plots.respeak(net, heard, own)[:, JAW])
    assert "α_m = 0.9, λ_exp = 3" in figure.axes[1].get_title(loc="left")
