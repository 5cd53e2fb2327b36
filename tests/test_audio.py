"""Audio: mel windows against the official numbers and librosa, MFCC against goldens, sound files of all kinds."""

import math
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from nfs_lib import audio
from nfs_lib.errors import BadInput

GOLDENS = Path(__file__).parent / "goldens" / "networks" / "audio"
RNG = np.random.default_rng(0)


def tone(seconds: float = 1.0, rate: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_mel_is_what_torch_computes():
    wave = RNG.normal(0, 0.1, 9_001).astype(np.float32)
    emphasised = torch.from_numpy(wave).double()
    emphasised[1:] -= 0.97 * torch.from_numpy(wave[:-1]).double()
    hann = torch.hann_window(800).double()
    spectrum = torch.stft(emphasised, 800, 200, window=hann, pad_mode="constant", return_complex=True)
    mel = audio.mel_filters() @ spectrum.abs().numpy()
    theirs = np.clip(8 * (20 * np.log10(np.maximum(1e-5, mel)) - 20 + 100) / 100 - 4, -4, 4)
    np.testing.assert_allclose(audio.mel_spectrogram(wave), theirs, atol=1e-5)


def test_mel_filters_are_librosas():
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(sr=16_000, n_fft=800, n_mels=80, fmin=55, fmax=7600)
    np.testing.assert_allclose(audio.mel_filters(), theirs, atol=1e-7)


def test_ends_are_padded_with_zeros_not_by_reflection():
    from safetensors.numpy import load_file

    reflected = load_file(GOLDENS / "golden.safetensors")["mel_reflect_edges"]
    mel = audio.mel_spectrogram(audio.load_speech(GOLDENS / "speech.wav")[:32_000])
    ends = np.concatenate([mel[:, :3], mel[:, -3:]], axis=1)
    differ = np.abs(ends - reflected).max(axis=0) > 1e-3
    assert differ.tolist() == [True, True, False, False, True, True]


def test_a_click_shows_in_the_column_centred_on_it():
    wave = np.zeros(16_000, np.float32)
    wave[7_000] = 1.0
    mel = audio.mel_spectrogram(wave)
    assert mel.max(axis=0).argmax() == 7_000 // 200
    assert mel.shape == (80, 1 + 16_000 // 200)
    assert (mel[:, :30] == -4).all()


def test_a_tone_is_loudest_in_its_band():
    band = audio.mel_spectrogram(tone(hertz=1000.0))[:, 40].argmax()
    assert abs(audio.mel_filters()[band].argmax() * 20 - 1000) < 40


@given(st.integers(0, 5000), st.integers(1, 20_000))
def test_window_columns(frames, mel_frames):
    columns = audio.window_columns(frames, mel_frames)
    assert columns.shape == (frames, 16)
    for i in {0, 1, 2, frames // 2, frames - 1} & set(range(frames)):
        start = math.trunc(80 * (i - 2) / 25)
        assert columns[i].tolist() == [min(max(start + k, 0), mel_frames - 1) for k in range(16)]


def test_first_windows_are_truncated_towards_zero():
    columns = audio.window_columns(10, 1000)
    assert (columns[:, 15] - 15).tolist() == [-6, -3, 0, 3, 6, 9, 12, 16, 19, 22]


def test_a_window_is_centred_on_its_frame():
    """The middle of window i lies 9 ms after i / 25 s on average, and never more than 14 ms."""
    columns = audio.window_columns(1000, 100_000)[10:]
    late = columns.mean(axis=1) / 80 - np.arange(10, 1000) / 25
    assert 0.0085 < late.mean() < 0.0095 and np.abs(late).max() < 0.014


@given(st.integers(640, 30_000))
def test_windows_cover_whole_frames(samples):
    wave = np.full(samples, 0.01, np.float32)
    windows = audio.mel_windows(wave)
    assert windows.shape == (samples // 640, 80, 16) and windows.dtype == np.float32


def test_long_sound_is_the_same_in_pieces():
    wave = RNG.normal(0, 0.1, 16_000 * 30).astype(np.float32)
    mel = audio.mel_spectrogram(wave)  # more than one piece of 1024 frames
    part = audio.mel_spectrogram(wave[200 * 1000 :])
    np.testing.assert_allclose(mel[:, 1010:1200], part[:, 10:200], atol=1e-6)


def test_mfcc_of_less_than_a_window():
    assert audio.mfcc(np.ones(100, np.int16)).shape == (13, 1)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_kinds_of_files(tmp_path, suffix, rate, channels):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(1.0, rate)] * channels, axis=1), rate)
    wave = audio.load_speech(path)
    assert wave.dtype == np.float32 and abs(len(wave) - 16_000) < 2_000
    middle = wave[4_000:12_000]
    assert np.abs(np.fft.rfft(middle)).argmax() * 2 == 440
    assert abs(np.abs(middle).max() - 0.5) < 0.06


@pytest.mark.parametrize(("suffix", "codec"), [("m4a", "aac"), ("mkv", "libopus"), ("mov", "pcm_s16le")])
def test_what_only_ffmpeg_reads(tmp_path, suffix, codec):
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([tone(1, 48_000)] * 2), format="fltp", layout="stereo")
        frame.sample_rate = 48_000
        resampler = av.AudioResampler(stream.format, stream.layout, 48_000, frame_size=stream.frame_size or 0)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    wave = audio.load_speech(path)
    assert abs(len(wave) - 16_000) < 2_000
    assert np.abs(np.fft.rfft(wave[4_000:12_000])).argmax() * 2 == 440


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac"])
def test_decoded_as_libsndfile_does_and_without_delay(tmp_path, suffix):
    wave = np.convolve(RNG.normal(0, 0.1, 48_000), np.ones(8) / 8, mode="same").astype(np.float32)
    soundfile.write(tmp_path / f"a.{suffix}", wave, 16_000)
    ours, theirs = audio.load_speech(tmp_path / f"a.{suffix}"), soundfile.read(tmp_path / f"a.{suffix}")[0]
    assert len(ours) == len(theirs) == len(wave)
    assert np.abs(ours - theirs).max() < 2e-3
    assert np.corrcoef(ours, wave)[0, 1] > 0.9


def test_16_khz_passes_unchanged(tmp_path):
    samples = RNG.integers(-9_000, 9_000, 8_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    np.testing.assert_array_equal(audio.load_speech(tmp_path / "a.wav"), samples / np.float32(32768))


def test_too_loud_floats_are_brought_into_range(tmp_path):
    soundfile.write(tmp_path / "a.wav", 40 * tone(), 16_000, subtype="FLOAT")
    assert np.abs(audio.load_speech(tmp_path / "a.wav")).max() == pytest.approx(1.0)


@pytest.mark.parametrize("suffix", ["mp3", "wav", "flac", "ogg"])
def test_a_file_cut_short_gives_what_is_there(tmp_path, capfd, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(8.0) + RNG.normal(0, 0.02, 128_000), 16_000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    wave = audio.load_speech(path)
    assert 2.0 < len(wave) / 16_000 <= 8.0
    assert np.abs(np.fft.rfft(wave[4_000:12_000])).argmax() * 2 == 440
    path.write_bytes(content[:60])
    with pytest.raises(BadInput):
        audio.load_speech(path)
    assert capfd.readouterr().err == ""  # decoders keep their remarks to themselves


def test_damage_in_the_middle_is_skipped(tmp_path, capfd):
    path = tmp_path / "a.mp3"
    soundfile.write(path, tone(8.0) + RNG.normal(0, 0.02, 128_000), 16_000)
    content = path.read_bytes()
    path.write_bytes(content[:6_000] + RNG.bytes(3_000) + content[9_000:])
    wave = audio.load_speech(path)
    assert len(wave) > 5 * 16_000
    assert np.abs(np.fft.rfft(wave[-12_000:-4_000])).argmax() * 2 == 440
    assert capfd.readouterr().err == ""


def test_no_file_named_inside_is_opened(tmp_path):
    soundfile.write(tmp_path / "secret.wav", tone(), 16_000)
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:1/{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(BadInput):
        audio.load_speech(tmp_path / "list.m3u8")


def _silent(path):
    soundfile.write(path, np.zeros(16_000), 16_000)


def _offset(path):
    soundfile.write(path, np.full(16_000, 0.5), 16_000)


def _short(path):
    soundfile.write(path, tone(0.19), 16_000)


def _no_samples(path):
    soundfile.write(path, np.zeros(0), 16_000)


def _long(path):
    soundfile.write(path, tone(601.0, 4_000), 4_000)


def _not_a_number(path):
    soundfile.write(path, np.where(np.arange(16_000) == 500, np.nan, tone()), 16_000, subtype="FLOAT")


def _text(path):
    path.write_text("Hello, I am not a sound. " * 100)


def _noise(path):
    path.write_bytes(RNG.bytes(20_000))


def _picture(path):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(path, "PNG")


BAD = [
    (lambda path: None, "doesn't exist"),
    (lambda path: path.mkdir(), "is a folder"),
    (lambda path: path.touch(), "empty"),
    (_silent, "no speech in it: its loudest sample is 0 "),
    (_offset, "no speech in it"),
    (_short, "at least 0.2 s"),
    (_no_samples, "can't be read|at least 0.2 s"),
    (_long, "longer than 10 minutes"),
    (_not_a_number, "NaN"),
    (_text, "can't be read|no sound"),
    (_noise, "can't be read|no sound"),
    (_picture, "no sound"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_input_is_named(tmp_path, make, message):
    path = tmp_path / "speech.wav"
    make(path)
    with pytest.raises(BadInput, match=message) as caught:
        audio.load_speech(path)
    assert "speech.wav" in str(caught.value) and "\n" not in str(caught.value)


@given(st.binary(max_size=300), st.sampled_from([b"RIFF", b"ID3\x04", b"OggS", b"fLaC", b"\xff\xfb\x90\x64", b""]))
def test_garbage_never_gets_through(tmp_path_factory, content, magic):
    path = tmp_path_factory.getbasetemp() / "garbage.wav"
    path.write_bytes(magic + content)
    with pytest.raises(BadInput):
        audio.load_speech(path)
