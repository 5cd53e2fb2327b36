"""CPBD on pictures whose edges have a width that is known. (The official code's numbers: test_parity.)"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nfs_lib import portraits
from nfs_lib.errors import BadInput
from nfs_lib.metrics import cpbd, luminance
from nfs_lib.metrics.cpbd import edge_widths


def edge(width, height=150.0, falling=False):
    """128 × 128 pixels, dark to bright over `width` pixels in each block, steepest at one of them."""
    column = np.clip((np.arange(64) - 30) / width, 0, 1) ** 0.9
    ramp = 50 + height * (1 - np.cos(np.pi * column)) / 2
    return np.tile(np.concatenate([ramp, ramp[::-1]]) if not falling else np.concatenate([ramp[::-1], ramp]), (128, 1))


@pytest.mark.parametrize("width", [2, 3, 4, 6, 9])
@pytest.mark.parametrize("falling", [False, True])
def test_width_of_an_edge_is_what_was_drawn(width, falling):
    widths, contrasts = edge_widths(edge(width, falling=falling))
    assert len(widths) >= 2 * 126 and set(widths) == {width} and set(contrasts) == {150}


@pytest.mark.parametrize(("height", "widest"), [(150, 3), (45, 5)])
def test_blur_is_noticed_beyond_3_pixels_and_5_at_low_contrast(height, widest):
    assert [cpbd(edge(width, height)) for width in (2, widest, widest + 1, 9)] == [1, 1, 0, 0]


def test_share_of_the_sharp_edges():
    grey = np.concatenate([edge(2), edge(2), edge(7)])
    assert cpbd(grey) == pytest.approx(2 / 3, abs=0.01)


def test_horizontal_edges_and_flat_pictures_have_no_width():
    assert cpbd(edge(2).T) == 0 and cpbd(np.full((64, 64), 90.0)) == 0


def test_a_portrait_loses_with_every_blur():
    grey = luminance(portraits.portrait(9_360_300, 256).image)
    values = [cpbd(gaussian_filter(grey, sigma) if sigma else grey) for sigma in (0, 0.7, 1.2, 2)]
    assert values == sorted(values, reverse=True) and values[0] - values[-1] > 0.3


def test_bytes_and_luminance():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (70, 90), np.uint8)
    assert cpbd(grey) == cpbd(grey.astype(float))
    assert luminance(np.array([[[255, 255, 255], [255, 0, 0]]], np.uint8)) == pytest.approx(np.array([[255, 76.245]]))


def test_what_cpbd_cannot_use():
    with pytest.raises(BadInput, match="64×64"):
        cpbd(np.zeros((63, 200)))
    with pytest.raises(BadInput, match="finite"):
        cpbd(np.full((64, 64), np.nan))
