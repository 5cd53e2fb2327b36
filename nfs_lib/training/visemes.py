"""From phonemes with times to facial actions: the targets that Audio2Exp learns.

Each speech sound asks for a mouth shape, more or less insistently; neighbours overlap, and the shape at any
moment is the mean of what they ask for, weighted by how much each insists there (the dominance model of
Cohen and Massaro, 1993). Lips that must meet, do: see `SHAPES`, column seal.

The table's numbers are this project's own, chosen by looking at the open world's face model: jawOpen 0.52
parts its lips by a third of the mouth's width, as a clearly spoken "ah" does; most speech stays below half
of that. They are natural amplitudes, the face as it should be seen, before any scaling.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import gaussian_filter1d

from nfs_lib.audio import FPS, SAMPLE_RATE
from nfs_lib.training.speech import Phoneme

AXES = tuple("jaw pucker funnel smile stretch upper lower press rollLower rollUpper tongue seal".split())
ACTIONS = {
    "jaw": ("jawOpen",),
    "pucker": ("mouthPucker",),
    "funnel": ("mouthFunnel",),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "stretch": ("mouthStretchLeft", "mouthStretchRight"),
    "upper": ("mouthUpperUpLeft", "mouthUpperUpRight"),
    "lower": ("mouthLowerDownLeft", "mouthLowerDownRight"),
    "press": ("mouthPressLeft", "mouthPressRight"),
    "rollLower": ("mouthRollLower",),
    "rollUpper": ("mouthRollUpper",),
    "tongue": ("tongueOut",),
    "seal": ("mouthClose",),  # which is seal * jaw: just what closes the gap that the jaw leaves
}
# How insistently a sound asks: J for the jaw, R for rounding (pucker, funnel), S for spreading (smile,
# stretch, upper, lower), C for contact of the lips (press, rolls, seal), T for the tongue.
GROUPS = "JRRSSSSCCCTC"
# Seconds over which a claim falls to 1/e: rounding is anticipated most, contact of the lips least.
REACH = {"J": 0.040, "R": 0.070, "S": 0.050, "C": 0.014, "T": 0.030}
SHAPES = """
# sounds   jaw pkr fnl smi str upp low prs roL roU tng seal|  J   R   S   C   T
aɑäɶ       .52 0   .05 .05 .10 .10 .20 0   0   0   0   0    | 1.6 .7  1.0 1.5 .5   # open
ɐʌ         .42 0   .05 .05 .10 .08 .15 0   0   0   0   0    | 1.2 .6  .8  1.5 .5
æ          .46 0   0   .15 .25 .18 .25 0   0   0   0   0    | 1.5 .7  1.2 1.5 .5
eɛ         .30 0   0   .20 .25 .14 .20 0   0   0   0   0    | 1.3 .7  1.2 1.5 .5
iɪɨj       .12 0   0   .35 .30 .10 .18 0   0   0   0   0    | 1.0 .9  1.5 1.5 .5   # spread
əɜɘɚɝ      .22 .03 .06 .03 .08 .05 .10 0   0   0   0   0    | .6  .3  .5  1.2 .4   # undemanding
ɔɒ         .42 .15 .40 0   0   .05 .10 0   0   0   0   0    | 1.4 1.3 .8  1.5 .5   # round
oɵ         .28 .40 .35 0   0   0   .05 0   0   0   0   0    | 1.2 1.5 .8  1.5 .5
uʊwʉɥ      .12 .72 .22 0   0   0   0   0   0   0   0   0    | 1.2 1.9 1.0 1.5 .5   # most pursed
yʏøœ       .16 .52 .30 0   0   .05 .05 0   0   0   0   0    | 1.0 1.7 .9  1.5 .5
pbm        .05 0   0   0   0   0   0   .35 .12 .12 0   1    | 3.0 .3  .6  5   .5   # lips shut
β          .12 0   0   0   .05 .05 .05 .08 .05 .05 0   .5   | 1.5 .3  .5  3   .5   # nearly
fvʋ        .09 0   0   0   .05 .22 0   0   .45 0   0   0    | 2.0 .6  1.0 4   .5   # lip to teeth
θð         .14 0   0   .05 .10 .08 .15 0   0   0   .22 0    | 1.2 .3  .6  1   4    # tongue tip
tdnɾrɲcʝ   .12 0   0   .05 .10 .06 .14 0   0   0   .03 0    | 1.0 .2  .5  1   2
lʎɫ        .20 0   0   .05 .08 .06 .14 0   0   0   .10 0    | .9  .2  .5  1   3
sz         .06 0   .03 .12 .25 .12 .25 0   0   0   0   0    | 1.8 .5  1.2 1   1    # teeth close
ʃʒɕç       .08 .28 .45 0   0   .12 .12 0   0   0   0   0    | 1.8 1.6 1.0 1   1    # lips flared
ɹ          .16 .32 .18 0   0   .05 .08 0   0   0   0   0    | .8  1.0 .5  1   1
kɡgŋxɣqʁħ  .18 0   0   .03 .06 .05 .08 0   0   0   0   0    | .8  .1  .2  .8  1    # behind the lips
hɦʔ        .20 0   0   .03 .06 .05 .08 0   0   0   0   0    | .15 .05 .1  .5  .3
_          0   0   0   0   0   0   0   0   0   0   0   0    | .8  .8  .8  .8  .8   # rest
"""
VOWELS = set("aɑäɶɐʌæeɛiɪɨəɜɘɚɝɔɒoɵuʊʉyʏøœ")
STEPS = 8  # fine time steps per video frame: 5 ms


@cache
def _shapes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Sound -> (what it asks for, how insistently), one number per axis."""
    table = {}
    for line in SHAPES.strip().splitlines()[1:]:
        left, right = line.split("#")[0].split("|")
        sounds, *shape = left.split()
        asked = np.array(shape, dtype=np.float64)
        insistence = dict(zip("JRSCT", map(float, right.split()), strict=True))
        for sound in sounds:
            table[sound] = (asked, np.array([insistence[group] for group in GROUPS]))
    return table


def sounds_of(phoneme: Phoneme) -> list[tuple[str, float, float, float]]:
    """(sound, start, end, emphasis) of the simple sounds in a phoneme: "ˈaɪ" is a, then ɪ; a pause is "_".

    A length mark gives its sound half as much time again; marks that don't move the lips are skipped.
    """
    emphasis = 1.1 if "ˈ" in phoneme.ipa else 1.0 if "ˌ" in phoneme.ipa else 0.88
    letters: list[str] = []
    shares: list[float] = []
    for letter in phoneme.ipa:
        if letter in _shapes() and letter != "_":
            letters.append(letter)
            shares.append(1.0)
        elif letter in "ː:" and shares:
            shares[-1] = 1.5
    if not letters:
        return [("_", phoneme.start, phoneme.end, 1.0)]
    edges = phoneme.start + (phoneme.end - phoneme.start) * np.cumsum([0.0, *shares]) / sum(shares)
    loud = [emphasis if letter in VOWELS else 1.0 for letter in letters]
    return list(zip(letters, edges[:-1].tolist(), edges[1:].tolist(), loud, strict=True))


def mouth_curves(phonemes: Sequence[Phoneme], frames: int) -> Float[np.ndarray, "frames 12"]:
    """The mouth along `AXES` at times 0, 1/25, 2/25 ... s, for speech of even loudness.

    A sound's claim is full in its core, all but the first and last quarter of its time (60 ms at most),
    and falls off exponentially on either side.
    """
    times = np.arange(frames * STEPS) / (FPS * STEPS)
    end = times[-1] + 1.0
    first, last = phonemes[0].start, phonemes[-1].end
    sounds = [("_", -1.0, first, 1.0), *(s for p in phonemes for s in sounds_of(p)), ("_", last, end, 1.0)]
    asked = np.stack([_shapes()[name][0] for name, *_ in sounds])
    asked[:, 0] *= [emphasis for *_, emphasis in sounds]
    insistence = np.stack([_shapes()[name][1] for name, *_ in sounds])
    start, stop = np.array([sound[1:3] for sound in sounds]).T
    flank = np.minimum((stop - start) / 4, 0.06)
    away = np.abs(times[:, None] - (start + stop) / 2) - ((stop - start) / 2 - flank)  # s outside the core
    curves = np.empty((len(times), len(AXES)))
    for group, reach in REACH.items():
        axes = [i for i, g in enumerate(GROUPS) if g == group]
        claim = np.exp(-np.maximum(away, 0.0) / reach)[:, :, None] * insistence[:, axes]
        mean = (claim * asked[:, axes]).sum(1) / claim.sum(1)
        curves[:, axes] = gaussian_filter1d(mean, 0.012 * FPS * STEPS, axis=0, mode="nearest")
    return curves[::STEPS]


def loudness(wave: Float32[np.ndarray, " samples"], frames: int) -> Float[np.ndarray, " frames"]:
    """How much the mouth opens for being louder or softer than the clip's loud parts: 0.75 to 1.15."""
    power = gaussian_filter1d(wave.astype(np.float64) ** 2, 0.04 * SAMPLE_RATE, mode="constant")
    level = np.sqrt(np.maximum(power[:: SAMPLE_RATE // FPS][:frames], 1e-12))
    return np.clip((level / np.percentile(level, 80)) ** 0.25, 0.75, 1.15)


def facial_actions(
    phonemes: Sequence[Phoneme], wave: Float32[np.ndarray, " samples"], names: Sequence[str]
) -> Float32[np.ndarray, "T E"]:
    """The named facial actions while `wave` (16 kHz, undegraded) is spoken, one row per video frame.

    Row i is the face at i / 25 s. Actions that speech doesn't drive are 0.
    """
    frames = len(wave) * FPS // SAMPLE_RATE
    curves = mouth_curves(phonemes, frames)
    of = {axis: i for i, axis in enumerate(AXES)}
    opening = [of["jaw"], of["upper"], of["lower"]]
    curves[:, opening] *= loudness(wave, frames)[:, None]
    seal = curves[:, of["seal"]].copy()
    curves[:, [of["funnel"], of["upper"], of["lower"]]] *= 1.0 - seal[:, None]
    curves[:, of["seal"]] = seal * curves[:, of["jaw"]]
    actions = np.zeros((frames, len(names)), dtype=np.float32)
    for axis, moved in ACTIONS.items():
        for name in moved:
            actions[:, list(names).index(name)] = np.clip(curves[:, of[axis]], 0.0, 1.0)
    return actions


def with_reference(
    spoken: Float32[np.ndarray, "T E"], reference: Float[np.ndarray, " E"], names: Sequence[str]
) -> Float32[np.ndarray, "T E"]:
    """The face of somebody whose expression is `reference` while speaking: actions of the whole face.

    Speech moves its own actions and takes them over, but half of a smile stays; all others keep to the
    reference.
    """
    driven = {name for moved in ACTIONS.values() for name in moved}
    share = [0.0 if name in driven else 1.0 for name in names]
    share = [0.5 if name.startswith("mouthSmile") else kept for name, kept in zip(names, share, strict=True)]
    return (spoken + np.array(share) * reference).astype(np.float32)
