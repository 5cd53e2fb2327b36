"""What the notebooks' sliders call, and the clock of their stages. Plain functions: they work without a slider too."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor

from nfs_lib.checks import by_hand
from nfs_lib.talking_head import TalkingHead
from nfs_lib.viz.plots import picture_grid
from nfs_lib.viz.style import Plot


class Stopwatch:
    """Seconds by stage: ``with clock("fitting"): ...``; the same name twice adds up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


def expression_with(head: TalkingHead, jaw: float, smile: float, pucker: float) -> Float[Tensor, "1 E"]:
    """The portrait's own expression with these three facial actions set (0 = rest, 1 = full)."""
    beta = head.face.expression.clone()
    for strength, *names in ((jaw, "jawOpen"), (smile, "mouthSmileLeft", "mouthSmileRight"), (pucker, "mouthPucker")):
        for name in names:
            beta[0, head.model.action(name)] = strength
    return beta


@by_hand(jaw=(0, 2), smile=(0, 2), pucker=(0, 2), yaw=(-90, 90))
def pose_face(head: TalkingHead, jaw: float = 0.5, smile: float = 0.0, pucker: float = 0.0, yaw: float = 0.0) -> Plot:
    """One picture of a talking head with these facial actions (0 = rest, 1 = full), turned by `yaw` degrees to the
    image's right; what a slider calls."""
    pose = head.inversion.pose.clone()
    pose[0, 0] = math.radians(yaw)
    (picture,) = head.frames(expression_with(head, jaw, smile, pucker), pose)
    return picture_grid([[picture]], [f"jaw {jaw:g}, smile {smile:g}, pucker {pucker:g}, yaw {yaw:g}°"], size=3.2)
