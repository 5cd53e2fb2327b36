"""Speech to train on, with the time of every phoneme: eSpeak NG says random sentences in many voices.

The synthesiser comes with the PyPI package `espeakng-loader` (extra `train`) and is needed only here; what
it says is free to use. It reports each phoneme with the sample at which it begins, so that the face's
movements can be computed exactly (`visemes.py`).
"""

import ctypes
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from nfs_lib.audio import SAMPLE_RATE
from nfs_lib.errors import BadInput
from nfs_lib.paths import data_file

# eSpeak's names. A language is spoken by any of its dialects in any of the variants (timbres).
DIALECTS = {
    "en": ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc"),
    "de": ("de",),
    "fr": ("fr",),
    "es": ("es", "es-419"),
    "it": ("it",),
    "pt": ("pt", "pt-br"),
    "sv": ("sv",),
}
VARIANTS = (
    "",
    *"m1 m2 m3 m4 m5 m7 f1 f2 f3 f4 adam anika belinda boris david edward gustave ian john".split(),
    *"klatt2 linda marcelo max miguel norbert pablo paul robert steph travis zac".split(),
    *"Andrea Annie Denis Henrique".split(),
)
# never used in training: these timbres, and the whole of Dutch
HELD_OUT_VOICES = ("en-us+f5", "en+m8", "de+m6", "fr+Alicia", "es+Michael", "it+f5", "nl+m8", "nl+Alicia")


class Phoneme(NamedTuple):
    """One speech sound in IPA with eSpeak's stress marks; empty for a pause. Times in seconds."""

    ipa: str
    start: float
    end: float


class Utterance(NamedTuple):
    """A spoken sentence: 16 kHz mono in [-1, 1], its phonemes in order, and how it was made."""

    wave: Float32[np.ndarray, " samples"]
    phonemes: list[Phoneme]
    text: str
    voice: str


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_SYNCHRONOUS, _PHONEME_EVENTS, _IN_IPA, _DO_NOT_EXIT = 2, 1, 2, 1 << 15
_END_OF_LIST, _PHONEME = 0, 7
_RATE, _PITCH = 1, 3
_UTF8, _BY_CHARACTER = 1, 1


class Synthesiser:
    """eSpeak NG through its C interface.

    The library keeps one global state, its random numbers included: make one of these, and the same calls
    in the same order in a new process give the same sound.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise BadInput("making speech needs eSpeak NG: pip install 'espeakng-loader>=0.2.4'") from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, data, _PHONEME_EVENTS | _IN_IPA | _DO_NOT_EXIT
        )
        if self.rate <= 0:
            raise BadInput(f"eSpeak NG didn't start (code {self.rate}); reinstall espeakng-loader")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(0))  # else it starts from the clock
        self._samples: list[np.ndarray] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _CALLBACK(self._receive)  # kept: the library calls it through a bare pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: ctypes._Pointer, count: int, events: ctypes._Pointer) -> int:
        if samples and count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _END_OF_LIST:
            if events[index].type == _PHONEME:
                name = bytes(events[index].id.string).split(b"\0")[0].decode("utf8", "replace")
                self._events.append((events[index].sample, name))
            index += 1
        return 0

    def speak(self, text: str, voice: str, words_per_minute: int, pitch: int, warp: float = 1.0) -> Utterance:
        """Say `text`. voice: LANGUAGE or LANGUAGE+VARIANT; pitch: 0 to 100.

        warp: the sound is played so many times faster, which shortens the speaker's vocal tract as well.
        Raises ValueError if eSpeak doesn't know the voice (by itself it would go on with the last one).
        """
        self._samples.clear()
        self._events.clear()
        encoded = text.encode() + b"\0"
        calls = (
            ("SetVoiceByName", voice.encode()),
            ("SetParameter", _RATE, words_per_minute, 0),
            ("SetParameter", _PITCH, pitch, 0),
            ("Synth", encoded, len(encoded), 0, _BY_CHARACTER, 0, _UTF8, None, None),
        )
        for name, *arguments in calls:
            code = getattr(self._library, f"espeak_{name}")(*arguments)
            if code != 0:
                raise ValueError(f"eSpeak's {name} returned {code} for voice {voice}, text {text!r}")
        wave = np.concatenate(self._samples).astype(np.float32) / 32768.0
        phonemes = _with_closures(wave, self._phonemes(len(wave)), self.rate)
        played = self.rate * warp
        return Utterance(
            _to_16k(wave, played), [Phoneme(p, a / played, b / played) for p, a, b in phonemes], text, voice
        )

    def _phonemes(self, samples: int) -> list[tuple[str, int, int]]:
        """(IPA, first sample, last sample); the marks of a change of language, "(en)", are no sounds."""
        sounds = [(start, name) for start, name in self._events if not name.startswith("(")]
        ends = [start for start, _ in sounds[1:]] + [samples]
        return [(name, start, end) for (start, name), end in zip(sounds, ends, strict=True) if end > start]


def _to_16k(wave: Float32[np.ndarray, " n"], rate: float) -> Float32[np.ndarray, " m"]:
    import soxr

    return soxr.resample(wave, rate, SAMPLE_RATE).astype(np.float32)


def _with_closures(
    wave: Float32[np.ndarray, " n"], phonemes: list[tuple[str, int, int]], rate: int
) -> list[tuple[str, int, int]]:
    """Let p, t, k begin with their silent closure: eSpeak reports them at the burst, some 45 ms later."""
    step, moved = rate // 200, [phonemes[0]]
    for name, start, end in phonemes[1:]:
        before, first, _ = moved[-1]
        if name[:1] in tuple("ptkcq"):
            earliest = max(start - (rate * 12) // 100, first + (start - first) // 3)
            while start - step > earliest and np.abs(wave[start - step : start]).max() < 0.01:
                start -= step
        moved[-1] = (before, first, start)
        moved.append((name, start, end))
    return moved


@cache
def words() -> dict[str, list[str]]:
    """Language -> its words (data/speech/words.txt)."""
    text = data_file("speech/words.txt", "git checkout data/speech/words.txt").read_text(encoding="utf8")
    paragraphs = [paragraph.split(":", 1) for paragraph in text.split("\n\n")[1:]]
    return {language.strip(): list(dict.fromkeys(listed.split())) for language, listed in paragraphs}


def sentence(language: str, rng: np.random.Generator, held_out: bool = False) -> str:
    """Four to twelve random words with a comma now and then. Every tenth word occurs only when held out."""
    vocabulary = [word for i, word in enumerate(words()[language]) if held_out or i % 10]
    chosen = rng.choice(vocabulary, rng.integers(4, 13)).tolist()
    spaced = [word + ("," if rng.random() < 0.12 else "") for word in chosen[:-1]] + chosen[-1:]
    return " ".join(spaced).capitalize() + rng.choice([".", ".", "?", "!"])


def utterances(
    synthesiser: Synthesiser, count: int, rng: np.random.Generator, held_out: bool = False
) -> Iterator[Utterance]:
    """Random sentences, voices, rates, pitches and vocal tracts; held out: other voices, and new words."""
    for _ in range(count):
        if held_out:
            voice = str(rng.choice(HELD_OUT_VOICES))
            language = voice[:2]
        else:
            language = str(rng.choice(list(DIALECTS), p=[0.4, *[0.1] * 6]))
            voice = "+".join(filter(None, (rng.choice(DIALECTS[language]), rng.choice(VARIANTS))))
        yield synthesiser.speak(
            sentence(language, rng, held_out),
            voice,
            words_per_minute=int(rng.integers(105, 200)),
            pitch=int(rng.integers(20, 80)),
            warp=float(rng.uniform(0.88, 1.14)),
        )


def with_pauses(utterance: Utterance, before: float, after: float) -> Utterance:
    """Seconds of silence added at both ends."""
    wave = np.pad(utterance.wave, (round(before * SAMPLE_RATE), round(after * SAMPLE_RATE)))
    shifted = [Phoneme(p.ipa, p.start + before, p.end + before) for p in utterance.phonemes]
    return utterance._replace(wave=wave, phonemes=shifted)


def degrade(
    wave: Float32[np.ndarray, " n"], rng: np.random.Generator, amount: float = 1.0
) -> Float32[np.ndarray, " n"]:
    """As a microphone, a room and a telephone might: each fault with some probability times `amount`.

    Echo, band limits, a change of tone, background noise (white, pink or mains hum), level, clipping.
    """
    from scipy.signal import butter, fftconvolve, sosfilt

    spoken, happens = wave.astype(np.float64), lambda probability: rng.random() < probability * amount
    if happens(0.35):  # a room: exponentially decaying noise after the direct sound
        time = np.arange(int(0.3 * SAMPLE_RATE)) / SAMPLE_RATE
        echo = rng.standard_normal(len(time)) * np.exp(-time / rng.uniform(0.02, 0.09))
        echo *= rng.uniform(0.01, 0.06)
        echo[0] = 1.0
        spoken = fftconvolve(spoken, echo)[: len(wave)]
    if happens(0.4):  # telephone, cheap microphone, low-rate codec
        low, high = rng.uniform(60, 350), rng.uniform(3200, 7500)
        spoken = sosfilt(butter(2, [low, high], "bandpass", fs=SAMPLE_RATE, output="sos"), spoken)
    if happens(0.5):  # tone: mix with a band of it
        centre = rng.uniform(200, 5000)
        band = butter(1, [centre / 1.5, centre * 1.5], "bandpass", fs=SAMPLE_RATE, output="sos")
        spoken = spoken + rng.uniform(-0.7, 1.5) * sosfilt(band, spoken)
    level = max(1e-6, float(np.sqrt(np.mean(spoken**2))))
    if happens(0.7):
        spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
        frequency = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
        colour = rng.integers(3)
        if colour == 1:
            spectrum /= np.sqrt(np.maximum(frequency, 20.0))
        elif colour == 2:
            spectrum *= np.exp(-((np.mod(frequency + 25.0, 50.0) - 25.0) ** 2) / 2.0) * (frequency < 800)
        noise = np.fft.irfft(spectrum, len(wave))
        spoken = spoken + noise / max(1e-9, noise.std()) * level * 10.0 ** (-rng.uniform(8, 40) / 20.0)
    spoken = spoken * 10.0 ** (rng.uniform(-26, -12) / 20.0) / level
    if happens(0.1):
        spoken = np.tanh(spoken * rng.uniform(2, 6))
    return np.clip(spoken, -1.0, 1.0).astype(np.float32)
