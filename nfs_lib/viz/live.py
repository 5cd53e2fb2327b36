"""The talking head by hand: a picture that follows sliders for the camera and for the moment of the clip."""

import io
import math
import time
from collections import deque
from dataclasses import replace
from typing import Any

import ipywidgets as widgets
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from nfs_lib.camera import Camera
from nfs_lib.cpu import keep_freed_memory
from nfs_lib.errors import BadInput
from nfs_lib.images import to_uint8
from nfs_lib.talking_head import TalkingHead

YAW, PITCH = 45, 20                                   # degrees to each side
AVERAGED = 10                                         # pictures that the rate is taken over


def jpeg(picture: UInt8[ndarray, "H W 3"]) -> bytes:
    """A picture as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def live(head: TalkingHead, betas: Float[Tensor, "T E"]) -> widgets.VBox:
    """The head as sliders set it: yaw and pitch in degrees, and which of the clip's expressions, betas, it shows (a frame's
    number). Each move makes a new picture (Eq. 6 to 14); the line above it says how long the last ones took, and how many
    a second that makes.

    The widget's children: the three sliders, the line, the picture. No queue builds up behind a slider that is dragged: the
    browser keeps its newest value until the picture of an earlier one is done. A head that jumps about in time has no frames
    before this one, so the masks aren't averaged (n = 1 in Eq. 13); those of `head` itself aren't touched.
    Raises BadInput for a clip without frames.
    """
    if not len(betas):
        raise BadInput("the clip has no frames; give the expressions of one frame or more")
    keep_freed_memory()
    head, seconds = replace(head, mask_frames=1), deque[float](maxlen=AVERAGED)
    pose = head.inversion.pose.clone()                # its roll stays
    start_yaw, start_pitch = (round(math.degrees(angle)) for angle in pose[0, :2].tolist())
    wide = widgets.Layout(width="384px")
    yaw = widgets.IntSlider(start_yaw, -YAW, YAW, description="yaw", layout=wide)
    pitch = widgets.IntSlider(start_pitch, -PITCH, PITCH, description="pitch", layout=wide)
    frame = widgets.IntSlider(0, 0, len(betas) - 1, description="frame", layout=wide)
    rate, picture = widgets.Label(), widgets.Image(format="jpeg", layout=wide)

    def render(change: Any = None) -> None:
        begin = time.perf_counter()
        pose[0, 0], pose[0, 1] = math.radians(yaw.value), math.radians(pitch.value)
        picture.value = jpeg(to_uint8(head.frame(betas[frame.value, None], Camera.from_pose(pose))))
        seconds.append(time.perf_counter() - begin)
        each = sum(seconds) / len(seconds)
        rate.value = f"{1000 * each:.0f} ms a picture: {1 / each:.0f} a second"

    for slider in (yaw, pitch, frame):
        slider.observe(render, "value")
    render()
    return widgets.VBox([yaw, pitch, frame, rate, picture])
