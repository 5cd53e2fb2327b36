"""The correspondence debugger: pick skin in the picture, see whose samples follow it, where to, and whether rightly so.

`Debugger` holds a state and does everything by plain calls (`set`, `pick`, `pick_box`, `pick_ray`), which its sliders and the
picture's lasso call too; so all of it works, and is tested, without a browser.
"""

import html
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib.camera import Camera, project
from nfs_lib.checks import check_number
from nfs_lib.correspondence import BEHIND_MM, RULES, Correspondence, Examination, anatomy, examine
from nfs_lib.errors import BadInput
from nfs_lib.talking_head import TalkingHead
from nfs_lib.viz import debugger_figures as draw
from nfs_lib.viz.correspondence import table
from nfs_lib.viz.overlays import OVERLAYS
from nfs_lib.viz.style import pixels

YAWS, PITCHES, STRIDES = range(-45, 46, 15), range(-15, 16, 15), (1, 2, 4)
NO_ACTION = "none"


@dataclass(frozen=True)
class State:
    """What is looked at. action: a facial action, or both sides of one ("mouthSmile"), set to strength on top of frame `time`
    of the clip (without a clip: of rest); yaw, pitch: of the camera, degrees; rule, stride: of Eq. 6; overlay: see OVERLAYS."""

    action: str = "jawOpen"
    strength: float = 0.7
    time: int = 0
    yaw: int = 0
    pitch: int = 0
    rule: str = "paper"
    stride: int = 1
    overlay: str = "error"


def actions(names: list[str]) -> dict[str, list[int]]:
    """Facial actions by name, and both sides of one under the name without its side: name → places in β."""
    found: dict[str, list[int]] = {NO_ACTION: []}
    for i, name in enumerate(names):
        both = name.removesuffix("Left").removesuffix("Right")
        if both != name and both + "Left" in names and both + "Right" in names:
            found.setdefault(both, []).append(i)
        found[name] = [i]
    return found


class Debugger:
    """A picture and a head, linked, and their controls; show it by making it a cell's last value.

    betas (T, E): the expressions of a clip. The pictures of all yaws at pitch 0 are drawn at the start (prefetch=False: when
    they are needed, like the others; each takes as long as a frame of video). state: fields of `State`.

    seen: the examination of the present state; picked: numbers of the vertices that are picked, within those that take part;
    last_update_ms: what the last change took in Python.
    """

    def __init__(self, head: TalkingHead, betas: Float[Tensor, "T E"] | None = None, *, prefetch: bool = True, **state: Any):
        self.head, self.betas, self.body = head, betas, anatomy(head)
        self.actions = actions(head.model.expression_names)
        self.state, self.picked = State(), torch.zeros(0, dtype=torch.long)
        self.last_update_ms = 0.0
        self._pictures: dict[tuple[int, int], np.ndarray] = {}
        self._pairs: dict[tuple[int, int, str, int], Correspondence] = {}
        self._busy = False
        self._check(replace(self.state, **state))
        self.state = replace(self.state, **state)
        if prefetch:
            for yaw in YAWS:
                self.picture(yaw, 0)
        self.size = len(self.picture(self.state.yaw, self.state.pitch))
        self.seen = self._examine()
        self._build()
        self._redraw(None)

    # what is looked at

    def beta(self) -> Float[Tensor, "1 E"]:
        """The expression of the present state."""
        beta = self.head.face.expression.clone() if self.betas is None else self.betas[self.state.time, None].clone()
        beta[0, self.actions[self.state.action]] = self.state.strength
        return beta

    def camera(self) -> Camera:
        """The camera of the present state."""
        return Camera.from_pose(torch.tensor([[math.radians(self.state.yaw), math.radians(self.state.pitch), 0.0]]))

    def picture(self, yaw: int, pitch: int) -> np.ndarray:
        """The portrait at rest from there, (H, W, 3) 8 bit, drawn by the generator; remembered."""
        if (yaw, pitch) not in self._pictures:
            pose = torch.tensor([[math.radians(yaw), math.radians(pitch), 0.0]])
            self._pictures[yaw, pitch] = pixels(self.head.inversion.picture(pose))
        return self._pictures[yaw, pitch]

    def _check(self, state: State) -> None:
        check_number(state.strength, "strength", -2, 2)
        offered = {"action": list(self.actions), "rule": RULES, "stride": STRIDES, "overlay": (*OVERLAYS, draw.DEPTH),
                   "time": range(1 if self.betas is None else len(self.betas)), "yaw": range(-60, 61),
                   "pitch": range(-30, 31)}  # fmt: skip
        for name, values in offered.items():
            given = getattr(state, name)
            if given not in values:
                few = f"{values[0]} to {values[-1]}" if isinstance(values, range) else ", ".join(map(str, values))
                raise BadInput(f"{name} = {given!r} isn't on offer; choose from {few}")

    def look(self, **changes: Any) -> Examination:
        """The examination of another state; nothing is redrawn, the present state stays."""
        present = self.state
        self._check(replace(present, **changes))
        try:
            self.state = replace(present, **changes)
            return self._examine()
        finally:
            self.state = present

    def _examine(self) -> Examination:
        s = self.state
        key, camera = (s.yaw, s.pitch, s.rule, s.stride), self.camera()
        pairs = None if s.rule == "now" else self._pairs.get(key)
        seen = examine(self.head, self.beta(), camera, s.rule, s.stride, body=self.body, pairs=pairs)
        if len(self._pairs) > 40:                     # about 1 MB each
            self._pairs.clear()
        self._pairs[key] = seen.pairs
        return seen

    # what can be done

    def set(self, **changes: Any) -> None:
        """Change the state (fields of `State`) and redraw what depends on it. Raises BadInput for what isn't on offer."""
        begin, before = time.perf_counter(), self.state
        self._check(replace(before, **changes))
        self.state = replace(before, **changes)
        if self.state.stride != before.stride:        # vertex numbers mean something else now
            self.picked = self.picked[:0]
        if replace(self.state, overlay="") != replace(before, overlay=""):
            self.seen = self._examine()
        self._redraw(before)
        self.last_update_ms = 1000 * (time.perf_counter() - begin)

    def pick(self, vertices: Any) -> None:
        """Pick vertices by their numbers (within those that take part); an empty list lets go."""
        begin = time.perf_counter()
        chosen = torch.as_tensor(np.asarray(vertices, dtype=np.int64)).unique()
        if len(chosen) and not 0 <= int(chosen[0]) <= int(chosen[-1]) < len(self.seen.chosen):
            raise BadInput(f"vertices {chosen[0]} to {chosen[-1]} were picked; there are {len(self.seen.chosen)}")
        self.picked = chosen
        self._redraw(self.state, picked=True)
        self.last_update_ms = 1000 * (time.perf_counter() - begin)

    def let_go(self) -> None:
        """Pick nothing."""
        self.pick([])

    def pick_box(self, left: float, top: float, right: float, bottom: float) -> None:
        """Pick the vertices that lie within this box of the picture, pixels."""
        x, y, _ = project(self.seen.v_init[None, self.seen.chosen], self.seen.camera, self.size)[0].T
        self.pick(torch.nonzero((x >= left) & (x <= right) & (y >= top) & (y <= bottom))[:, 0])

    def pick_ray(self, row: int, column: int) -> None:
        """Pick the vertices that the samples of one ray follow within the head."""
        n, side = self.seen.pairs.n_samples, self.side()
        numbers = torch.arange(n) + (row * side + column) * n
        self.pick(self.seen.pairs.matched.index[numbers[self.seen.pairs.inside[numbers]], 0])

    def side(self) -> int:
        """Rays in a row."""
        return round((len(self.seen.pairs.points) / self.seen.pairs.n_samples) ** 0.5)

    def selection(self) -> dict[str, float]:
        """Numbers of what is picked: vertices, samples that follow them, samples far behind them, and ways in mm."""
        pairs, mm, own = self.seen.pairs, self.seen.unit_mm, self.seen.chosen[self.picked]
        samples = pairs.followers(self.picked)
        inside = samples[pairs.inside[samples]]

        def longest(ways: Tensor) -> float:
            return float(ways.norm(dim=1).max()) * mm if len(ways) else 0.0

        return {"vertices": len(self.picked), "samples": len(samples), "at the skin": int(pairs.skin[samples].sum()),
                "behind": int((pairs.gap[inside] * mm > BEHIND_MM).sum()),
                "skin moves mm": longest((self.seen.v_t - self.seen.v_init)[own]),
                "samples move mm": longest(self.seen.motion.way[samples])}  # fmt: skip

    # what is shown

    def report_html(self) -> str:
        """What is picked, and the report, as HTML."""
        s = self.selection()
        chosen = (
            f"<b>Picked: <span class='nfs-picked-vertices'>{s['vertices']:.0f}</span> vertices</b>, followed by "
            f"<b><span class='nfs-picked-samples'>{s['samples']:.0f}</span> samples</b> over the face: "
            f"{s['at the skin']:.0f} at the skin, {s['behind']:.0f} within the head more than {BEHIND_MM:.0f} mm behind it. "
            f"The skin moves up to {s['skin moves mm']:.1f} mm, the samples up to {s['samples move mm']:.1f} mm."
        )
        rows = table(self.seen.report)
        lines = "".join(f"<tr><td>{html.escape(a)}</td><td style='padding-left:1em'><b>{b}</b></td></tr>" for a, b in rows)
        look = "" if self.state.overlay == draw.DEPTH else f"<p>Overlay: {OVERLAYS[self.state.overlay].look}.</p>"
        return f"<div style='line-height:1.35'><p>{chosen}</p>{look}<table>{lines}</table></div>"

    def _build(self) -> None:
        rays = self.side()
        picture = draw.picture_uri(self.picture(self.state.yaw, self.state.pitch))
        self.figure = go.FigureWidget(draw.traces(self.head.model.triangles, rays, self.size), draw.layout(self.size, picture))
        self.figure.add_class("nfs-figure")
        self.traces = {t.name: t for t in self.figure.data}
        vertices = self.traces["vertices"]
        vertices.on_selection(lambda trace, points, how: self.pick(points.point_inds))
        vertices.on_click(lambda trace, points, how: self.pick(points.point_inds) if points.point_inds else None)
        vertices.on_deselect(lambda trace, points: self.let_go())
        self.report = widgets.HTML()
        self.report.add_class("nfs-report")
        self.controls = self._controls()
        clear = widgets.Button(description="let go")
        clear.add_class("nfs-clear")
        clear.on_click(lambda button: self.let_go())
        rows = (("action", "strength", "time"), ("yaw", "pitch", "overlay"), ("rule", "stride"))
        bars = [widgets.HBox([self.controls[n] for n in row if n in self.controls]) for row in rows]
        bars[-1].children = (*bars[-1].children, clear)
        self.widget = widgets.VBox([*bars, self.figure, self.report])
        self.widget.add_class("nfs-debugger")

    def _controls(self) -> dict[str, Any]:
        s, wide = self.state, widgets.Layout(width="330px")
        made: dict[str, Any] = {
            "action": widgets.Dropdown(options=list(self.actions), value=s.action),
            "strength": widgets.FloatSlider(value=s.strength, min=0, max=1.2, step=0.1),
            "yaw": widgets.SelectionSlider(options=[*YAWS], value=s.yaw),
            "pitch": widgets.SelectionSlider(options=[*PITCHES], value=s.pitch),
            "overlay": widgets.Dropdown(options=[*OVERLAYS, draw.DEPTH], value=s.overlay),
            "rule": widgets.Dropdown(options=list(RULES), value=s.rule),
            "stride": widgets.Dropdown(options=list(STRIDES), value=s.stride),
        }
        if self.betas is not None:
            made["time"] = widgets.IntSlider(value=s.time, min=0, max=len(self.betas) - 1)
        for name, control in made.items():
            control.description, control.layout = name, wide
            control.add_class(f"nfs-{name}")
            control.observe(lambda change, name=name: None if self._busy else self.set(**{name: change["new"]}), "value")
        return made

    def _redraw(self, before: State | None, picked: bool = False) -> None:
        """Send what has changed since `before` (None: all of it)."""
        s, everything = self.state, before is None
        names = set(draw.FLAT + draw.SOLID) - {"axes"}
        turned = before is None or (s.yaw, s.pitch) != (before.yaw, before.pitch)
        if picked:
            names = {"samples", "mesh", "picked", "followers", "skin moves", "samples move"}
        new = draw.contents(self.seen, self.picked, s.overlay, self.size)
        if before is not None and not turned and s.stride == before.stride:
            new.pop("vertices")
        if before is not None and (s.action, s.strength, s.time) == (before.action, before.strength, before.time):
            for axis in "xyz":
                new["mesh"].pop(axis)                 # only its colours have changed
        with self.figure.batch_update():
            for name in names & set(new):
                self.traces[name].update(new[name])
            if turned and not everything:
                self.figure.layout.images[0].source = draw.picture_uri(self.picture(s.yaw, s.pitch))
            self.traces["vertices"].selectedpoints = self.picked.tolist() if len(self.picked) else None
        self.report.value = self.report_html()
        self._busy = True
        for name, control in self.controls.items():
            if getattr(s, name) in getattr(control, "options", [getattr(s, name)]):
                control.value = getattr(s, name)
        self._busy = False

    def __repr__(self) -> str:
        return f"Debugger({self.state})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        self.figure._repr_mimebundle_()               # it brings its state up to date only when it is shown itself
        bundle = self.widget._repr_mimebundle_(**kwargs)
        data = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
        return data | {"text/plain": repr(self)}
