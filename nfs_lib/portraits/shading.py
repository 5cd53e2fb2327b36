"""Colours of a portrait, sample by sample: procedural albedo in the face's rest coordinates, spherical-
harmonics light.

colour = albedo · Σ_b Y_b(normal)·(γ_b + 0.8·[b = 0]) · occlusion, exactly as in Deep3DFaceReconstruction but
for the baked occlusion; on top of that (the part that isn't SH) lie small highlights on skin, lips, eyes,
teeth and hair.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from nfs_lib.portraits.albedo import (
    EYE_X,
    EYE_Y,
    bell,
    blend,
    collar_distance,
    eye_albedo,
    hair_albedo,
    skin_albedo,
    step,
    tint,
    tooth_albedo,
)
from nfs_lib.portraits.light import harmonics, options
from nfs_lib.portraits.rasteriser import FAR

BACKGROUND, SKIN, BROWS, EYES, LIPS, MOUTH, TEETH, HAIR, CLOTHES, NECK, EARS = range(11)
REGIONS = ("background", "skin", "brows", "eyes", "lips", "mouth", "teeth", "hair", "clothes", "neck", "ears")
# columns of the per-vertex attributes that the kernel interpolates
NORMAL, REST, OCCLUSION, LIP, RIM, EAR, OPACITY, DEEP = 0, 3, 6, 7, 8, 9, 10, 11
TANGENT, COLUMNS = 12, 15


@njit(**options)
@no_type_check
def shade_sample(out, at, attributes, corner, u, v, part, gamma, eye, line, scalp_alpha, look):
    """Colour of one sample of triangle corners ``corner`` with weights u, v, 1−u−v.

    Writes out (4,): RGB, opacity; at (COLUMNS,) is scratch space. part: label of the triangle (10 = hair);
    eye (3,): direction to the camera; line (L,): hairline elevation by azimuth. Returns the region label.
    """
    w = 1 - u - v
    for k in range(COLUMNS):
        at[k] = u * attributes[corner[0], k] + v * attributes[corner[1], k] + w * attributes[corner[2], k]
    length = 1 / (np.sqrt(at[0] * at[0] + at[1] * at[1] + at[2] * at[2]) + 1e-9)
    nx, ny, nz = at[0] * length, at[1] * length, at[2] * length
    facing = nx * eye[0] + ny * eye[1] + nz * eye[2]
    x, y, z = at[REST], at[REST + 1], at[REST + 2]
    ax, occlusion, warmth, gloss, power, region = abs(x), at[OCCLUSION], 0.35, 0.0, 18.0, 1
    out[3] = 1.0
    if part == 10:
        if facing < 0:  # the inside of a curtain
            nx, ny, nz = -nx, -ny, -nz
        strand = hair_albedo(out, x, y, at[DEEP], look)
        if facing < 0:
            for k in range(3):
                out[k] *= 0.55
        out[3], region, occlusion = min(1.0, at[OPACITY]), 7, 0.97
    elif part == 1 or part == 2:
        eye_albedo(out, x, y, z, look)
        region, occlusion, warmth = 3, 0.96, 0.0
    elif part == 8:
        r = np.sqrt((ax - EYE_X) ** 2 + (y - EYE_Y) ** 2)
        out[0], out[1], out[2] = 0.07, 0.05, 0.045
        out[3] = (0.22 + 0.66 * look.makeup) * step(0.27, 0.15, r)
        region, occlusion = 3, 1.0
    elif part == 6 or part == 7:
        tooth_albedo(out, x, y, z, part == 6)
        region, gloss, power, occlusion = 6, 0.10, 40.0, 0.92
    elif part == 5:
        out[0], out[1], out[2] = 0.74, 0.34, 0.34
        dark = 0.22 + 0.78 * step(0.45, 0.86, z)
        tint(out, 0.14, 0.16, 0.16, bell(x, 0.02))
        for k in range(3):
            out[k] *= dark
        region, gloss, power, occlusion = 5, 0.06, 20.0, 0.85
    elif part == 4 and at[LIP] < 0.3:
        dark = 0.16 + 0.84 * step(0.35, 0.98, z)
        out[0], out[1], out[2] = 0.46 * dark, 0.15 * dark, 0.15 * dark
        region, occlusion = 5, 0.85
    else:
        cloth = collar_distance(ax, y, z, look.collar) if y < -0.8 else -1.0
        m = step(-0.012, 0.012, cloth)
        region, gloss = 1, 0.055
        if m < 1:
            alpha = 0.0
            if at[EAR] < 0.4 and (y > 0.3 or z < 0.45) and y > -0.75:
                px, py, pz = x, y - 0.25, z
                distance = np.sqrt(px * px + py * py + pz * pz)
                azimuth, elevation = np.arctan2(px, pz), np.arcsin(py / distance)
                place = (azimuth + np.pi) / (2 * np.pi) * (line.shape[0] - 1)
                i = min(line.shape[0] - 2, int(place))
                edge = line[i] + (line[i + 1] - line[i]) * (place - i)
                burn = scalp_alpha[i] + (scalp_alpha[i + 1] - scalp_alpha[i]) * (place - i)
                thin = 1 - 0.97 * step(0.35, 0.95, look.bare) * step(
                    0.25, 0.8, py / distance + 0.35 * pz / distance
                )
                alpha = step(-0.03, 0.15, elevation - edge) * burn * thin * 0.92
                shade = step(-0.26, 0.02, elevation - edge) * burn * thin
                occlusion *= 1 - 0.22 * shade
            region, gloss = skin_albedo(out, x, y, z, at[LIP], at[RIM], at[EAR], look, line, alpha)
            if region == 1:
                region = 10 if at[EAR] > 0.5 else 9 if (part == 9 or y < -1.06) else 1
            occlusion *= 1 - 0.22 * step(-0.10, 0.0, cloth)
        if m > 0:
            blend(out, look.cloth, m)
            seam = bell(cloth - 0.075, 0.014)
            tint(out, 0.16, 0.16, 0.16, m * seam)
            gloss *= 1 - m
            region = 8 if m > 0.5 else region
            warmth *= 1 - m
            occlusion = occlusion * (1 - m) + m * min(1.0, 0.35 + 0.7 * at[OCCLUSION])
        if m < 1 and part != 4:
            occlusion = min(1.0, 0.30 + 0.78 * occlusion)
    basis = harmonics(nx, ny, nz)
    for k in range(3):
        total = 0.8 * basis[0]
        for b in range(9):
            total += gamma[9 * k + b] * basis[b]
        tone = occlusion + (warmth if k == 0 else -0.25 * warmth) * occlusion * (
            1 - occlusion
        )  # light inside skin turns red
        out[k] *= max(total, 0.02) * tone
    hx, hy, hz = eye[0] + look.key[0], eye[1] + look.key[1], eye[2] + look.key[2]
    half = 1 / np.sqrt(hx * hx + hy * hy + hz * hz)
    hx, hy, hz = hx * half, hy * half, hz * half
    towards = max(0.0, nx * hx + ny * hy + nz * hz)
    if part == 10:
        tx, ty, tz = at[TANGENT], at[TANGENT + 1], at[TANGENT + 2]
        along = (tx * hx + ty * hy + tz * hz) / (np.sqrt(tx * tx + ty * ty + tz * tz) + 1e-9)
        sine = np.sqrt(max(0.0, 1 - along * along))
        sheen = sine**36 * towards * (1 - 0.8 * look.curl) * (0.3 + look.gloss) * strand
        for k in range(3):
            out[k] += sheen * (0.34 * look.hair[k] + 0.085)
        out[3] *= step(0.02, 0.20, abs(facing)) * 0.6 + 0.4
    elif part == 1 or part == 2:
        glint = (towards**20) ** 20 * 0.95
        for k in range(3):
            out[k] += glint
    elif gloss > 0:
        shine = (
            gloss * towards**18 * (towards**16 if power > 30 else 1.0) * (0.35 + look.gloss) * occlusion * 1.3
        )
        for k in range(3):
            out[k] += shine
    return region


@njit(**options)
@no_type_check
def layered_sample(out, soft, at, a, c, back, scene, solid_layer, soft_layer):
    """Both layers' colour at sample (a, c), blended over the background. Returns (opacity, depth, region)."""
    triangles, parts, attributes, gamma, eye, line, scalp_alpha, look = scene
    depth, face, weight = solid_layer
    soft_depth, soft_face, soft_weight = soft_layer
    alpha, d, region = 0.0, FAR, 0
    out[0], out[1], out[2] = back[0], back[1], back[2]
    t = face[a, c]
    if t >= 0:
        region = shade_sample(
            out,
            at,
            attributes,
            triangles[t],
            weight[a, c, 0],
            weight[a, c, 1],
            parts[t],
            gamma,
            eye,
            line,
            scalp_alpha,
            look,
        )
        alpha, d = 1.0, depth[a, c]
    out_of_head = t < 0
    t = soft_face[a, c]
    if t >= 0:
        over = shade_sample(
            soft,
            at,
            attributes,
            triangles[t],
            soft_weight[a, c, 0],
            soft_weight[a, c, 1],
            parts[t],
            gamma,
            eye,
            line,
            scalp_alpha,
            look,
        )
        if out_of_head and parts[t] == 10:
            soft[3] += (step(0.0, 0.3, soft[3]) - soft[3]) * step(
                0.6, 0.15, look.bare
            )  # no see-through rim over the background
        blend(out, soft, soft[3])
        alpha += (1 - alpha) * soft[3]
        if soft[3] > 0.5:
            d, region = soft_depth[a, c], over
    for k in range(3):
        out[k] = min(1.0, max(0.0, out[k]))
    return alpha, d, region


@njit(**options)
@no_type_check
def shade_image(samples, scene, solid_layer, soft_layer, scratch, image, out_depth, out_alpha, out_region):
    """Shade the samples of both layers, blend the soft one over the solid one, and average into the picture.

    samples: per pixel and direction. scene: triangles, parts, attributes, gamma (27,), eye, line,
    scalp_alpha, look, see ``shade_sample``. Layers: (depth, face, weight) of ``rasterise``. scratch (6,
    COLUMNS). Writes image (size, size, 3) float in [0, 1], out_depth, out_alpha, out_region (size, size):
    depth and region of each pixel's nearest sample. A pixel whose samples lie on one part and whose first and
    last sample agree to 1/40 isn't sampled any further.
    """
    depth, face, size, n = solid_layer[0], solid_layer[1], image.shape[0], samples * samples
    parts, soft_face = scene[1], soft_layer[1]
    colour, soft, at, back, total, first = (
        scratch[0],
        scratch[1],
        scratch[2],
        scratch[3],
        scratch[4],
        scratch[5],
    )
    for i in range(size):
        for j in range(size):
            v, h = (i + 0.5) / size, 2 * (j + 0.5) / size - 1
            fall, glow = 0.5 * v + 0.5 * v * v, bell(np.sqrt(h * h + 1.3 * (v - 0.40) ** 2), 0.75)
            look = scene[7]
            for k in range(3):
                back[k] = (
                    look.back_top[k]
                    + (look.back_bottom[k] - look.back_top[k]) * fall
                    + look.back_centre[k] * glow
                )
                total[k] = 0.0
            part, empty, alike = -1, True, True
            for q in range(n):
                a, c = i * samples + q // samples, j * samples + q % samples
                t = face[a, c]
                empty = empty and t < 0 and soft_face[a, c] < 0
                p = parts[t] if t >= 0 else -1
                alike = alike and soft_face[a, c] < 0 and (q == 0 or p == part)
                part = p
            covered, nearest, label, used = 0.0, FAR, 0, 0
            if empty:
                total[0], total[1], total[2], used = back[0], back[1], back[2], 1
            else:
                for q in range(n):
                    place = n - 1 - q // 2 if q % 2 else q // 2  # first, last, second, last but one, ...
                    alpha, d, region = layered_sample(
                        colour,
                        soft,
                        at,
                        i * samples + place // samples,
                        j * samples + place % samples,
                        back,
                        scene,
                        solid_layer,
                        soft_layer,
                    )
                    covered += alpha
                    used += 1
                    for k in range(3):
                        total[k] += colour[k]
                    if d < nearest:
                        nearest, label = d, region
                    if q == 0:
                        first[0], first[1], first[2] = colour[0], colour[1], colour[2]
                    if (
                        q == 1
                        and alike
                        and max(
                            abs(colour[0] - first[0]), abs(colour[1] - first[1]), abs(colour[2] - first[2])
                        )
                        < 0.025
                    ):
                        break
                if alike:
                    for q in range(n):
                        nearest = min(nearest, depth[i * samples + q // samples, j * samples + q % samples])
            for k in range(3):
                image[i, j, k] = total[k] / used
            out_alpha[i, j], out_region[i, j] = covered / used, label
            out_depth[i, j] = nearest if nearest < FAR else 0.0
