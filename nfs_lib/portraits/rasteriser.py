"""A z-buffer in numba: which triangle does each sample see, where inside it, and how far away."""

from typing import no_type_check

import numba
import numpy as np

from nfs_lib.cpu import remade

FAR = 1e9  # depth of nothing (fastmath knows no infinity)


@remade
@numba.njit(cache=True, fastmath=True, nogil=True)
@no_type_check
def rasterise(screen, triangles, which, depth, face, weight, test, value, threshold):
    """Draw triangles into (depth, face, weight), keeping the nearest; all four buffers are changed in place.

    which (n,): the triangles to draw, in this order. screen (V, 3): x right, y down in samples (centres at
    +0.5), positive depth. triangles (F, 3). depth (H, W): filled with FAR beforehand, or with an earlier
    pass. face (H, W): triangle number, -1 where none. weight (H, W, 2): perspective-correct barycentric
    weights of corners 0 and 1. test (H, W): nothing behind this depth is drawn (pass ``depth`` itself for
    none). value (V,), threshold: samples whose interpolated value lies below the threshold are left out (cut-
    out transparency).
    """
    height, width = depth.shape
    for t in which:
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = (
            screen[a, 0],
            screen[a, 1],
            screen[b, 0],
            screen[b, 1],
            screen[c, 0],
            screen[c, 1],
        )
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-9:
            continue
        x0, x1 = (
            max(0, int(np.floor(min(ax, bx, cx) - 0.5))),
            min(width - 1, int(np.ceil(max(ax, bx, cx) - 0.5))),
        )
        y0, y1 = (
            max(0, int(np.floor(min(ay, by, cy) - 0.5))),
            min(height - 1, int(np.ceil(max(ay, by, cy) - 0.5))),
        )
        inverse = 1.0 / area
        za, zb, zc = 1.0 / screen[a, 2], 1.0 / screen[b, 2], 1.0 / screen[c, 2]
        for i in range(y0, y1 + 1):
            py = i + 0.5
            for j in range(x0, x1 + 1):
                px = j + 0.5
                u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * inverse
                v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * inverse
                w = 1.0 - u - v
                if u < 0 or v < 0 or w < 0:
                    continue
                z = 1.0 / (u * za + v * zb + w * zc)
                if z < depth[i, j] and z <= test[i, j]:
                    u, v = u * za * z, v * zb * z
                    if u * value[a] + v * value[b] + (1 - u - v) * value[c] < threshold:
                        continue
                    depth[i, j], face[i, j] = z, t
                    weight[i, j, 0], weight[i, j, 1] = u, v


@remade
@numba.njit(cache=True, fastmath=True, nogil=True)
@no_type_check
def vertex_normals(vertices, triangles):
    """(V, 3) unit normals: the mean of the adjoining triangles' normals, weighted by area."""
    out = np.zeros(vertices.shape, np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ex, ey, ez = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        fx, fy, fz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        nx, ny, nz = ey * fz - ez * fy, ez * fx - ex * fz, ex * fy - ey * fx
        for k in range(3):
            i = triangles[t, k]
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(out.shape[0]):
        length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + 1e-12
        out[i, 0] /= length
        out[i, 1] /= length
        out[i, 2] /= length
    return out
