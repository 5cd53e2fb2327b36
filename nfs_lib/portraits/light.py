"""Light as second-order spherical harmonics, with Deep3DFaceReconstruction's constants and signs."""

from typing import no_type_check

import numpy as np
from numba import njit

from nfs_lib.cpu import remade

K0, K1, K2 = 0.8862269, 1.7724539, 2.4270324  # Deep3DFaceReconstruction's SH constants
# _nrt=False: no reference counting in the kernels (they allocate nothing): three times as fast
options = dict(cache=True, fastmath=True, nogil=True, _nrt=False)


@remade
@njit(**options)
@no_type_check
def harmonics(x, y, z):
    """Deep3DFaceReconstruction's nine second-order SH functions of a unit normal."""
    return (
        K0,
        -K1 * y,
        K1 * z,
        -K1 * x,
        K2 * x * y,
        -K2 * y * z,
        K2 / (2 * 3**0.5) * (3 * z * z - 1),
        -K2 * x * z,
        K2 / 2 * (x * x - y * y),
    )


def light_coefficients(
    direction: np.ndarray, key: np.ndarray, ambient: np.ndarray, sky: float = 0.10
) -> np.ndarray:
    """27 SH numbers γ (colour-major) of an ambient light, a faint sky gradient and one soft key light.

    direction (3,): unit vector towards the key light, head frame; key, ambient (3,): RGB strengths. The key
    is a clamped cosine, max(0, n·l) ≈ 1/4 + c/2 + 5/32·(3c² − 1), of which the second order is damped to .7
    (a soft, large source). colour = albedo · Σ_b Y_b(n)·(γ_b + 0.8·[b = 0]), Y as in Deep3DFaceReconstruction
    (see ``harmonics``).
    """
    x, y, z = direction
    q = 0.7 * 5 / 32
    lobe = np.array(
        [
            0.25 / K0,
            -0.5 * y / K1,
            0.5 * z / K1,
            -0.5 * x / K1,
            q * 6 * x * y / K2,
            -q * 6 * y * z / K2,
            q * (3 * z * z - 1) / 2 / (K2 / (2 * np.sqrt(3))),
            -q * 6 * x * z / K2,
            q * 1.5 * (x * x - y * y) / (K2 / 2),
        ]
    )
    flat, up = np.eye(9)[0] / K0, -np.eye(9)[1] / K1
    gamma = np.outer(key, lobe) + np.outer(ambient, flat + sky * up)
    gamma[:, 0] -= 0.8
    return gamma.reshape(27).astype(np.float32)
