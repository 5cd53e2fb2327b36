"""One look for all figures: sizes, colours, panels. A figure shows itself in a notebook, without pyplot's state."""

import base64
import io
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from nfs_lib.images import to_uint8

STYLE: Any = {
    "font.size": 9, "axes.titlesize": 9, "axes.titlelocation": "left", "axes.labelsize": 9, "axes.labelcolor": "#333333",
    "axes.edgecolor": "#888888", "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "xtick.color": "#555555", "ytick.color": "#555555", "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.frameon": False, "legend.fontsize": 8, "lines.linewidth": 1.6, "figure.facecolor": "white",
}  # fmt: skip
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by colour-blind eyes too
DPI = 96

styled = matplotlib.rc_context(STYLE)  # a decorator: the function draws in this style, the caller's settings stay


class Plot(Figure):
    """A matplotlib figure that a notebook shows when it is a cell's last value: as PNG, or, where pictures of people make that
    more than twice as large, as JPEG, so that a notebook stays small."""

    def _encoded(self, kind: str) -> bytes:
        buffer = io.BytesIO()
        options: dict[str, Any] = {}
        if kind == "jpeg":
            options["pil_kwargs"] = {"quality": 90, "subsampling": 0, "optimize": True}
        self.savefig(buffer, format=kind, dpi=DPI, **options)
        return buffer.getvalue()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        png, jpeg = self._encoded("png"), self._encoded("jpeg")
        kind, data = ("image/jpeg", jpeg) if 2 * len(jpeg) < len(png) else ("image/png", png)
        return {kind: base64.b64encode(data).decode(), "text/plain": repr(self)}


def panels(rows: int, columns: int, width: float, height: float, heights: list[float] | None = None,
           widths: list[float] | None = None, share_x: bool = False) -> tuple[Plot, np.ndarray]:
    """A figure of `width` × `height` inches and its axes, (rows, columns); heights, widths: shares of rows and columns."""
    figure = Plot(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share_x, height_ratios=heights, width_ratios=widths)
    return figure, axes


def pixels(picture: Float[Tensor, "... 3 _ _"] | UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A picture, (3, H, W) or (1, 3, H, W) in [-1, 1] or 8 bits already, as 8 bits."""
    if isinstance(picture, Tensor):
        return to_uint8(picture.reshape(picture.shape[-3:]))
    return picture


def show(axes: Axes, picture: Float[Tensor, "... 3 _ _"] | UInt8[np.ndarray, "H W 3"], title: str = "") -> None:
    """A picture without ticks and frame. Pixel (0, 0) has its top left corner at (0, 0), as `camera.project` counts."""
    drawn = pixels(picture)
    axes.imshow(drawn, extent=(0, drawn.shape[1], drawn.shape[0], 0))
    axes.set_axis_off()
    axes.set_title(title)
