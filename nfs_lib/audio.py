"""Speech in: any sound file -> 16 kHz mono -> mel spectrogram -> one window of 16 mel frames per video frame.

The numbers are those that Audio2Exp's published weights were trained with (Wav2Lip, SadTalker and
NeRFFaceSpeech share them). The mel filters and the spectrogram are written out here, in float64, because
they must match those weights for good, whatever a sound library makes of its defaults next.
"""

import math
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int

from nfs_lib.errors import BadInput
from nfs_lib.paths import check_input

SAMPLE_RATE = 16_000
FPS = 25
N_FFT, HOP, N_MELS = 800, 200, 80  # 50 ms windows, 80 mel frames a second
F_MIN, F_MAX = 55.0, 7600.0
PREEMPHASIS, REF_DB, MIN_DB, MAX_ABS = 0.97, 20.0, -100.0, 4.0
WINDOW = 16  # mel frames that the network sees at once
SHORTEST, LONGEST = 0.2, 600.0  # seconds
RATES = (1000, 768_000)  # Hz that a file may have
QUIETEST = 1e-3  # of full scale (-60 dB): nobody speaks below

Wave = Float32[np.ndarray, "samples"]


def load_speech(path: str | os.PathLike) -> Wave:
    """Read speech as mono float32 at 16 kHz, in [-1, 1].

    path: wav, mp3, flac, ogg, or anything else that ffmpeg can decode (m4a, opus, the sound of a video ...), any rate,
        any number of channels (their mean is taken). A file cut short gives what can still be decoded.

    Raises BadInput if nothing can be decoded, or if the speech is shorter than 0.2 s, longer than 10 min,
    not finite, or silent.
    """
    path = check_input(path, "a sound file (wav, mp3, flac, ogg)")
    if path.stat().st_size == 0:
        raise BadInput(f"{path}: the file is empty; give a sound file (wav, mp3, flac, ogg)")
    wave = resampled(_decode(path), path)
    seconds = len(wave) / SAMPLE_RATE
    if seconds > LONGEST:
        raise BadInput(f"{path}: the sound is longer than {LONGEST / 60:.0f} minutes; cut it into parts")
    if seconds < SHORTEST:
        raise BadInput(f"{path}: the sound lasts {seconds:.3f} s; at least {SHORTEST} s of speech is needed")
    if not np.isfinite(wave).all():
        raise BadInput(f"{path}: the sound holds numbers that aren't finite (NaN or infinity); export it again")
    loudest = float(np.abs(wave - wave.mean()).max())
    if loudest < QUIETEST:
        raise BadInput(
            f"{path}: no speech in it: its loudest sample is {loudest:.2g} of full scale, at least "
            f"{QUIETEST:g} is expected; choose another recording or raise its level"
        )
    return wave / max(1.0, float(np.abs(wave).max()))


def _decode(path: Path) -> Iterator[tuple[Float32[np.ndarray, " n"], int]]:
    """Pieces of the mean of the channels, each with its sample rate; at most a second more than the longest allowed.

    Packets that can't be decoded are left out, so that a damaged or unfinished file gives what it holds. No other file
    or address that the file may name is opened.
    """
    import av

    rate, samples, fault, floats = 0, 0, "nothing in it can be decoded", None
    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            if not container.streams.audio:
                raise BadInput(f"{path}: there is no sound in this file; give a sound file (wav, mp3, flac, ogg)")
            for packet in container.demux(container.streams.audio[0]):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    continue
                for frame in frames:
                    rate = rate or frame.sample_rate
                    floats = floats or av.AudioResampler(format="flt", rate=rate)  # in planes PyAV crashes on 9 channels
                    for piece in floats.resample(frame):
                        yield piece.to_ndarray().reshape(piece.samples, -1).mean(axis=1, dtype=np.float32), rate
                        samples += piece.samples
                if samples > (LONGEST + 1) * rate:
                    break
    except (av.FFmpegError, ValueError, OSError, MemoryError) as error:
        fault = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if not samples:
        raise BadInput(f"{path}: this can't be read as sound ({fault}); give a wav, mp3, flac or ogg file")


def resampled(pieces: Iterable[tuple[Float32[np.ndarray, " n"], int]], name: str | os.PathLike) -> Wave:
    """Pieces of a sound with their sample rate (the first one's counts) as a whole at 16 kHz; no more is held than that.

    Raises BadInput, naming `name`, for a rate that no sound has.
    """
    import soxr

    parts: list[np.ndarray] = [np.zeros(0, np.float32)]
    stream: soxr.ResampleStream | None = None
    for piece, rate in pieces:
        if not RATES[0] <= rate <= RATES[1]:
            raise BadInput(f"{name}: its sound has {rate} samples a second; {RATES[0]} to {RATES[1]} are read: export it again")
        if stream is None and rate != SAMPLE_RATE:
            stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        parts.append(stream.resample_chunk(piece) if stream else piece)
    if stream:
        parts.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(parts)


@cache
def mel_filters() -> Float32[np.ndarray, "80 401"]:
    """Triangular filters on Slaney's mel scale, each of unit area: weight of FFT bin k in mel band m.

    The scale is linear below 1 kHz (3 mel per 200 Hz) and logarithmic above (27 mel per factor 6.4).
    """
    step = math.log(6.4) / 27.0
    top = 15.0 + math.log(F_MAX / 1000.0) / step
    mels = np.linspace(F_MIN * 3.0 / 200.0, top, N_MELS + 2)
    edges = np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp(step * (mels - 15.0)))  # Hz
    bins = np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.maximum(0.0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    return (triangles * 2.0 / (high - low)).astype(np.float32)


def preemphasise(wave: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """y[n] = x[n] - 0.97 x[n-1], with x[-1] = 0, in float64: lifts the high frequencies that speech lacks."""
    wave = wave.astype(np.float64)
    return np.concatenate([wave[:1], wave[1:] - PREEMPHASIS * wave[:-1]])


def log_mel(padded: Float[np.ndarray, " n"]) -> Float32[np.ndarray, "80 frames"]:
    """Mel spectrogram in [-4, 4] of a pre-emphasised wave that already carries its 400 samples of padding.

    Amplitude (not power) spectrum, in dB above -100 dB after taking 20 dB off, scaled linearly to [-4, 4].
    """
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(N_FFT) / N_FFT)  # periodic
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    bands = np.empty((N_MELS, len(frames)))
    for start in range(0, len(frames), 1024):  # a bounded piece at a time: ten minutes would need 600 MB
        amplitude = np.abs(np.fft.rfft(frames[start : start + 1024] * hann))
        bands[:, start : start + 1024] = mel_filters().astype(np.float64) @ amplitude.T
    decibels = 20.0 * np.log10(np.maximum(10.0 ** (MIN_DB / 20.0), bands)) - REF_DB
    scaled = 2.0 * MAX_ABS * (decibels - MIN_DB) / -MIN_DB - MAX_ABS
    return np.clip(scaled, -MAX_ABS, MAX_ABS).astype(np.float32)


def mel_spectrogram(wave: Float[np.ndarray, " samples"]) -> Float32[np.ndarray, "80 frames"]:
    """Mel spectrogram of a 16 kHz wave in [-1, 1]; column c is centred on sample 200 c, silence is -4.

    frames = 1 + samples // 200. Both ends are padded with zeros (SadTalker's and NeRFFaceSpeech's choice;
    the older Wav2Lip reflects, which changes the first two and last two columns).
    """
    return log_mel(np.pad(preemphasise(wave), N_FFT // 2))


def window_columns(frames: int, mel_frames: int) -> Int[np.ndarray, "frames 16"]:
    """Mel columns that each video frame's window takes; beyond either end the last column is repeated.

    Frame i starts at int(80 (i - 2) / 25), truncated towards zero, which matters for i = 0 and 1. Its
    window reaches from about 85 ms before i / 25 s to 103 ms after it: centred some 9 ms late.
    """
    starts = np.array([int(80.0 * (i - 2) / FPS) for i in range(frames)], dtype=np.int64)
    return np.clip(starts[:, None] + np.arange(WINDOW), 0, mel_frames - 1)


def video_frames(wave: Float[np.ndarray, " samples"]) -> int:
    """How many whole video frames (1/25 s) the wave lasts."""
    return len(wave) * FPS // SAMPLE_RATE


def mel_windows(wave: Float[np.ndarray, " samples"]) -> Float32[np.ndarray, "T 80 16"]:
    """The network's input: one mel window per video frame of a 16 kHz wave, which is cut to whole frames."""
    frames = video_frames(wave)
    mel = mel_spectrogram(wave[: frames * SAMPLE_RATE // FPS])
    return np.ascontiguousarray(mel[:, window_columns(frames, mel.shape[1])].transpose(1, 0, 2))


def mfcc(samples: Int[np.ndarray, " samples"]) -> Float[np.ndarray, "13 frames"]:
    """Cepstral coefficients as SyncNet hears them: of int16 samples at 16 kHz, one column per 10 ms.

    Windows of 25 ms without a taper, 512-point power spectrum, 26 triangles on the HTK mel scale from 0 to
    8 kHz with their corners on FFT bins, orthonormal DCT, sine lifter of 22; row 0 is the log energy.
    """
    from scipy.fft import dct

    emphasised = preemphasise(samples.astype(np.float64))
    count = 1 + max(0, math.ceil((len(emphasised) - 400) / 160))
    padded = np.pad(emphasised, (0, max(0, (count - 1) * 160 + 400 - len(emphasised))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160][:count]
    power = np.abs(np.fft.rfft(frames, 512)) ** 2 / 512
    mels = np.linspace(0.0, 2595.0 * math.log10(1.0 + 8000.0 / 700.0), 28)
    corners = np.floor(513 * 700.0 * (10.0 ** (mels / 2595.0) - 1.0) / SAMPLE_RATE)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.arange(257)
    rising = (bins >= low) & (bins < centre)
    falling = (bins >= centre) & (bins < high)
    filters = rising * (bins - low) / (centre - low) + falling * (high - bins) / (high - centre)
    tiny = np.finfo(np.float64).eps
    bands = power @ filters.T
    cepstrum = dct(np.log(np.where(bands == 0, tiny, bands)), type=2, norm="ortho")[:, :13]
    cepstrum *= 1.0 + 11.0 * np.sin(np.pi * np.arange(13) / 22.0)
    energy = power.sum(axis=1)
    cepstrum[:, 0] = np.log(np.where(energy == 0, tiny, energy))
    return cepstrum.T
