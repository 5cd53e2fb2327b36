"""The nearest vertex on a plane, for many points at once: Eq. 6 without a matrix of distances.

The vertices are sorted into square cells, about two in each. Neighbouring ray samples have neighbouring vertices, so the vertex
of the sample before tells how far to look: only the cells within that distance are searched.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from nfs_lib.cpu import remade


@remade
@njit(cache=True, nogil=True)
@no_type_check
def sort_into_cells(vertices):
    """vertices (V, 2) → the lowest corner (2,), the cells' size, columns, rows, the vertices' numbers cell by cell (V,) in
    ascending order within each, and where each cell begins among them (cells + 1,)."""
    low = np.array([vertices[:, 0].min(), vertices[:, 1].min()])
    width, height = vertices[:, 0].max() - low[0], vertices[:, 1].max() - low[1]
    size = max(np.sqrt(width * height * 2 / len(vertices)), max(width, height) / 1024, 1e-12)
    columns, rows = int(width / size) + 1, int(height / size) + 1
    cell, begin = np.empty(len(vertices), np.int64), np.zeros(columns * rows + 1, np.int64)
    for v in range(len(vertices)):
        cell[v] = int((vertices[v, 1] - low[1]) / size) * columns + int((vertices[v, 0] - low[0]) / size)
        begin[cell[v] + 1] += 1
    begin = np.cumsum(begin)
    order, free = np.empty(len(vertices), np.int64), begin[:-1].copy()
    for v in range(len(vertices)):
        order[free[cell[v]]] = v
        free[cell[v]] += 1
    return low, size, columns, rows, order, begin


@remade
@njit(cache=True, nogil=True)
@no_type_check
def nearest(points, vertices):
    """points (P, 2), vertices (V, 2), both float64 and finite → the number of each point's nearest vertex (P,), the lowest of
    those that are equally near, and its distance (P,)."""
    low, size, columns, rows, order, begin = sort_into_cells(vertices)
    ends = np.empty((rows, 4))                           # how far the vertices of each row reach: x, x, y, y
    for row in range(rows):
        ends[row] = np.inf, -np.inf, np.inf, -np.inf
        for k in range(begin[row * columns], begin[(row + 1) * columns]):
            x, y = vertices[order[k], 0], vertices[order[k], 1]
            ends[row] = min(ends[row, 0], x), max(ends[row, 1], x), min(ends[row, 2], y), max(ends[row, 3], y)
    index, distance, found = np.empty(len(points), np.int64), np.empty(len(points)), 0
    for i in range(len(points)):
        x, y = points[i, 0], points[i, 1]
        best = (x - vertices[found, 0]) ** 2 + (y - vertices[found, 1]) ** 2
        own = min(max(int((y - low[1]) / size), 0), rows - 1) * columns + min(max(int((x - low[0]) / size), 0), columns - 1)
        if begin[own] < begin[own + 1]:
            v = order[begin[own]]
            d = (x - vertices[v, 0]) ** 2 + (y - vertices[v, 1]) ** 2
            if d < best:
                best, found = d, v
        reach = np.sqrt(best)
        first = min(max(int((y - reach - low[1]) / size), 0), rows - 1)
        last = min(max(int((y + reach - low[1]) / size), 0), rows - 1)
        for row in range(first, last + 1):
            aside = max(ends[row, 0] - x, x - ends[row, 1], 0.0)
            above = max(ends[row, 2] - y, y - ends[row, 3], 0.0)
            if not aside**2 + above**2 <= best:
                continue
            reach = np.sqrt(best - above**2) * (1 + 1e-9)
            left = min(max(int((x - reach - low[0]) / size), 0), columns - 1)
            right = min(max(int((x + reach - low[0]) / size), 0), columns - 1)
            for k in range(begin[row * columns + left], begin[row * columns + right + 1]):
                v = order[k]
                d = (x - vertices[v, 0]) ** 2 + (y - vertices[v, 1]) ** 2
                if d < best or (d == best and v < found):
                    best, found = d, v
        index[i], distance[i] = found, np.sqrt(best)
    return index, distance
