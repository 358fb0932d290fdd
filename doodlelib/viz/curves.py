"""Smooth curves through the points of a drawing, with its corners: what people see of it.

Few points are left of a curve that was simplified, or that a model drew. Between them runs a
centripetal Catmull-Rom spline, as cubic Bezier curves; but the point of a sharp turn is a corner,
and no curve goes far from its chord, or simplification would have left a point there.
`lab/static/curve.js` does the same in the page.

Source: Yuksel, Schaefer & Keyser 2011, Parameterization and applications of Catmull-Rom curves.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from doodlelib.strokes import BOX, Drawing, as_drawing, extent

CORNER = 70.0  # degrees; a turn that is sharper stays so: those of a pentagon, not of a hexagon
BULGE = 3.0 / BOX  # of a drawing's side: how far a curve may be from its chord
FLAT = 0.05 / BOX  # of a drawing's side: how far from its curve a line may be


def handles(drawing: Drawing) -> list[Float64[np.ndarray, "n 2 2"]]:
    """Both control points of the Bezier curve from each point to the next, of each stroke."""
    reach = 4 / 3 * BULGE * extent(drawing)  # of a control point, where the curve has its bulge
    return [_handles(np.stack(stroke[:2], axis=1), reach) for stroke in drawing]


def _handles(points: Float64[np.ndarray, "m 2"], reach: float) -> Float64[np.ndarray, "n 2 2"]:
    chords = np.diff(points, axis=0)
    knots = np.sqrt(np.hypot(*chords.T))[:, None]
    speed = chords / np.where(knots > 0, knots, 1)
    before, after, first, second = speed[:-1], speed[1:], knots[:-1], knots[1:]
    cosine = (before * after).sum(axis=1, keepdims=True)
    is_corner = cosine <= math.cos(math.radians(CORNER)) * first * second  # so is a pen's rest
    inner = (second * before + first * after) / np.where(is_corner, 1, first + second)
    inner, unknown = np.where(is_corner, np.nan, inner), np.full((1, 2), np.nan)
    start, end = np.vstack([unknown, inner]), np.vstack([inner, unknown])
    ends = np.stack([start, end], axis=1)[: len(chords)]
    other = np.where(np.isnan(ends), speed[:, None], ends)[:, ::-1]
    ends = np.where(np.isnan(ends), 2 * speed[:, None] - other, ends)  # as of a parabola
    ends *= knots[:, None] / 3
    ends *= (reach / np.maximum(_off(ends, chords), reach or 1.0))[..., None]
    return points[:-1, None] * [[1], [0]] + points[1:, None] * [[0], [1]] + ends * [[1], [-1]]


def _off(ends: np.ndarray, chords: np.ndarray) -> np.ndarray:
    """Distances of vectors from the line along their chord."""
    cross = ends[..., 0] * chords[:, None, 1] - ends[..., 1] * chords[:, None, 0]
    return np.abs(cross) / np.maximum(np.hypot(*chords.T), 1e-300)[:, None]


def curved(drawing: Sequence) -> Drawing:
    """The drawing with points of its curves between its own, at times that go with the distance.

    ValueError: The drawing is malformed (see `strokes.as_drawing`).
    """
    drawing = as_drawing(drawing)
    flat, strokes = FLAT * extent(drawing) or 1.0, []
    for stroke, controls in zip(drawing, handles(drawing), strict=True):
        rows = np.stack(stroke, axis=1)
        parts = [rows[:1]]
        for (start, end), inner in zip(pairwise(rows), controls, strict=True):
            off = _off((inner - start[:2])[None], (end - start)[None, :2]).max()
            u = np.arange(1, max(1, math.ceil(math.sqrt(0.75 * off / flat))))[:, None]
            u = u / (len(u) + 1)
            weights = np.hstack([(1 - u) ** 3, 3 * u * (1 - u) ** 2, 3 * u * u * (1 - u), u**3])
            xy = weights @ np.vstack([start[:2], inner, end[:2]])
            way = np.hypot(*np.diff(np.vstack([start[:2], xy, end[:2]]), axis=0).T).cumsum()
            share = way[:-1, None] / (way[-1] or 1)
            parts.append(np.hstack([xy, start[2:] + share * (end[2:] - start[2:])]))
            parts.append(end[None])
        strokes.append(list(np.concatenate(parts).T))
    return strokes
