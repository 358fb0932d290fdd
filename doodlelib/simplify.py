"""Fewer points for the same drawing: Ramer-Douglas-Peucker, and a variant that keeps the timing.

Plain RDP keeps the geometry and forgets when the pen sped up or waited on a straight line. The
variant also bounds how far the drawing is from its simplified self *at the same instant*.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from doodlelib.jit import kernel
from doodlelib.strokes import Drawing, to_box

METHODS = ("timed", "rdp")


def simplify(
    drawing: Sequence, *, method: str = "timed", epsilon: float = 2.0, epsilon_time: float = 8.0
) -> Drawing:
    """The drawing in the 255 px box with fewer points; those that are kept keep their t.

    Each stroke starts as the chord from its first point to its last. While some point is over
    `epsilon` from its chord, or (``timed``) over `epsilon_time` from where the chord, passed at
    constant speed, is at that point's time, the chord is split: at the point that exceeds its
    limit by the largest factor. An untimed drawing, or a chord of no duration, has the first
    distance only.

    Args:
        drawing: Strokes ``[x, y, t]`` or ``[x, y]``, in any unit of length.
        method: ``timed``, or ``rdp``, which looks at the geometry alone.
        epsilon: Px in the box, 0 or more.
        epsilon_time: Px in the box, above 0.

    Raises:
        ValueError: The drawing is malformed, or a setting is out of range.

    Source: Ramer 1972, Douglas & Peucker 1973 (the points of ``rdp`` are those of the package of
    that name); for the distance in time Meratnia & de By 2004 (TD-TR, which has that one alone).
    """
    boxed = to_box(drawing)
    masks = kept_points(boxed, method=method, epsilon=epsilon, epsilon_time=epsilon_time)
    return [[row[mask] for row in stroke] for stroke, mask in zip(boxed, masks, strict=True)]


def kept_points(
    boxed: Drawing, *, method: str, epsilon: float, epsilon_time: float
) -> list[Bool[np.ndarray, " n"]]:
    """Which points of each stroke of a drawing in the box `simplify` keeps, and its errors."""
    limits = checked_limits(method, epsilon, epsilon_time)
    bounds = np.cumsum([0, *(stroke[0].size for stroke in boxed)])
    points = np.full((3, bounds[-1]), np.nan)
    for row, parts in enumerate(zip(*boxed, strict=True)):
        np.concatenate(parts, out=points[row])
    return np.split(keep_mask(points, bounds, *limits), bounds[1:-1])


def checked_limits(method: str, epsilon: float, epsilon_time: float) -> tuple[float, float]:
    """Largest distances to the chord and to its point of the same instant; errors as `simplify`."""
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {METHODS}")
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon}; 0 px or more")
    if not 0 < epsilon_time < math.inf:
        raise ValueError(f"epsilon_time is {epsilon_time}; above 0 px")
    return float(epsilon), float(epsilon_time) if method == "timed" else math.inf


@kernel
def keep_mask(points, strokes, epsilon, epsilon_time):
    """Which points of many strokes `simplify` keeps: a stack of chords, each split or left.

    Lengths are `numpy.linalg.norm`'s to the last bit, by the same dot product, so that the points
    are those of the `rdp` package.

    Args:
        points: (3, n) x, y, t; a t of NaN leaves the distance in time out.
        strokes: (strokes + 1) stroke j has points ``strokes[j]`` up to ``strokes[j + 1]``.
        epsilon: Largest distance to the chord, px.
        epsilon_time: Largest distance to where the chord is at the same instant; inf: any.

    Returns:
        (n) bool.
    """
    xs, ys, ts = points
    kept = np.zeros(points.shape[1], np.bool_)
    longest = 1
    for stroke in range(len(strokes) - 1):
        longest = max(longest, strokes[stroke + 1] - strokes[stroke])
    stack = np.empty((longest + 1, 2), np.int64)
    chord, step = np.empty(2), np.empty(2)
    for stroke in range(len(strokes) - 1):
        stack[0, 0], stack[0, 1] = strokes[stroke], strokes[stroke + 1] - 1
        kept[stack[0, 0]] = kept[stack[0, 1]] = True
        depth = 1
        while depth:
            depth -= 1
            first, last = stack[depth]
            x, y, t = xs[first], ys[first], ts[first]
            chord_x, chord_y, chord_t = xs[last] - x, ys[last] - y, ts[last] - t
            chord[0], chord[1] = chord_x, chord_y
            length = np.sqrt(np.dot(chord, chord))
            speed_x, speed_y = chord_x / chord_t, chord_y / chord_t
            far = area = late = 0.0
            farthest = latest = first
            for point in range(first + 1, last):
                dx, dy = xs[point] - x, ys[point] - y
                if length > 0:
                    cross = abs(chord_x * dy - chord_y * dx)
                    if cross > area:  # divides seldom, and rounds as the package does
                        area = cross
                        if cross / length > far:
                            far, farthest = cross / length, point
                else:
                    step[0], step[1] = dx, dy
                    distance = np.sqrt(np.dot(step, step))
                    if distance > far:
                        far, farthest = distance, point
                if chord_t > 0:
                    dt = ts[point] - t
                    dx, dy = dx - dt * speed_x, dy - dt * speed_y
                    if dx * dx + dy * dy > late:
                        late, latest = dx * dx + dy * dy, point
            late = np.sqrt(late)
            if far > epsilon or late > epsilon_time:
                geometry_first = far > 0 and far * epsilon_time >= late * epsilon
                split = farthest if geometry_first else latest
                kept[split] = True
                stack[depth, 0], stack[depth, 1] = first, split
                stack[depth + 1, 0], stack[depth + 1, 1] = split, last
                depth += 2
    return kept
