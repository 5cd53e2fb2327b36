"""The debugger as one HTML file: opens in any browser, needs no kernel, no server and no network."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import torch

from nfs_lib.viz import debugger_figures as draw
from nfs_lib.viz.debugger import Debugger
from nfs_lib.writing import replacing

SENT = ("overlay", "mesh", "skin moves")  # the traces that a step of the slider changes

# picking in the picture shows the same vertices, and the samples that follow them, in the head
LINK = """
const plot = document.getElementById('{plot_id}'), pairs = PAIRS, data = plot.data;
const at = name => data.findIndex(t => t.name === name);
const pick = event => {
  const chosen = event ? event.points.filter(p => p.curveNumber === at('vertices')).map(p => p.pointNumber) : [];
  const wanted = new Set(chosen), s = [], v = chosen.map(i => pairs.vertices[i]);
  pairs.follows.forEach((vertex, i) => { if (wanted.has(vertex)) s.push(i); });
  const axis = (rows, k) => rows.map(r => r[k]), p = s.map(i => pairs.samples[i]);
  Plotly.restyle(plot, {x: [axis(v, 0), axis(p, 0)], y: [axis(v, 1), axis(p, 1)], z: [axis(v, 2), axis(p, 2)],
    'marker.color': ['#d55e00', s.map(i => pairs.behind[i])]}, [at('picked'), at('followers')]);
  document.getElementById('picked').textContent =
    chosen.length + ' vertices picked, ' + s.length + ' samples within the head follow them';
};
plot.on('plotly_selected', pick);
plot.on('plotly_deselect', () => pick(null));
"""

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 14px sans-serif; margin: 1.5em; max-width: 1120px }} td {{ padding: 1px 1em 1px 0 }}</style></head>
<body><h1>{title}</h1>
<p>Left: draw a lasso around skin. Right: these vertices, and every sample that follows them, coloured by how far behind it
lies. The slider: strength of <b>{action}</b>. <b id="picked">nothing picked</b></p>
{plot}
<h2>The numbers at strength {strength:g}</h2>
{report}
</body></html>
"""


def pair_figure(debugger: Debugger, strengths: Sequence[float]) -> go.Figure:
    """Picture and head side by side in one figure, with a frame of the slider for each strength of the facial action."""
    state, size = debugger.state, debugger.size
    picture = draw.picture_uri(debugger.picture(state.yaw, state.pitch))
    figure = go.Figure(draw.traces(debugger.head.model.triangles, debugger.side(), size), draw.layout(size, picture))
    figure.update_layout(height=580, margin_b=100)
    nobody = torch.zeros(0, dtype=torch.long)
    names = [t.name for t in figure.data]
    for name, arrays in draw.contents(debugger.seen, debugger.picked, state.overlay, size).items():
        figure.data[names.index(name)].update(arrays)
    high = 1.0
    frames = []
    for strength in strengths:
        new = draw.contents(debugger.look(strength=strength), nobody, state.overlay, size)
        high = max(high, float(new["mesh"]["cmax"]))
        frames.append((f"{strength:g}", new))
    kinds = {"overlay": go.Heatmap, "mesh": go.Mesh3d, "skin moves": go.Scatter3d}
    for _, new in frames:
        new["mesh"] |= dict(cmax=high)
        new["overlay"] |= dict(zmax=high)
    figure.frames = [go.Frame(name=label, traces=[names.index(n) for n in SENT], data=[kinds[n](new[n]) for n in SENT])
                     for label, new in frames]  # fmt: skip
    jump = dict(mode="immediate", frame=dict(duration=0, redraw=True), transition=dict(duration=0))
    steps = [dict(label=label, method="animate", args=[[label], jump]) for label, _ in frames]
    if steps:
        nearest = min(range(len(strengths)), key=lambda i: abs(strengths[i] - state.strength))
        figure.update_layout(sliders=[dict(steps=steps, active=nearest, currentvalue=dict(prefix=f"{state.action}: "))])
    return figure


def pair_data(debugger: Debugger) -> dict[str, Any]:
    """What the page needs for picking: vertices, the samples within the head, whom they follow, mm behind."""
    seen = debugger.seen
    inside = seen.pairs.inside | seen.pairs.skin
    return {
        "vertices": [[round(c, 3) for c in v] for v in seen.v_t[seen.chosen].tolist()],
        "samples": [[round(c, 3) for c in p] for p in seen.pairs.points[inside].tolist()],
        "follows": seen.pairs.matched.index[inside, 0].tolist(),
        "behind": [round(g) for g in (seen.pairs.gap[inside] * seen.unit_mm).tolist()],
    }


def export_html(debugger: Debugger, path: str | Path, strengths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)) -> Path:
    """Write the debugger's present view as one HTML file of about 7 MB, plotly.js within; a slider over `strengths`.

    Returns its path. The file appears only when it is whole.
    """
    path = Path(path)
    link = LINK.replace("PAIRS", json.dumps(pair_data(debugger), separators=(",", ":")))
    plot = pair_figure(debugger, strengths).to_html(full_html=False, include_plotlyjs=True, post_script=link, auto_play=False,
                                                    config=dict(displaylogo=False, plotlyServerURL=""))  # fmt: skip
    s = debugger.state
    title = f"Who follows whom? Rule {s.rule}, stride {s.stride}, yaw {s.yaw}°, pitch {s.pitch}°"
    page = PAGE.format(title=html.escape(title), action=html.escape(s.action), plot=plot, strength=s.strength,
                       report=debugger.report_html())  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path
