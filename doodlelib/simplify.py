"""Fewer points for the same drawing: plain Ramer-Douglas-Peucker, and a hybrid that keeps time.

Plain RDP keeps the shape and forgets when the pen sped up or waited on a straight line. The hybrid
also measures how far the drawing is from where its simplified self is *at the same instant*.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from doodlelib.data.ragged import Chunk, from_records
from doodlelib.strokes import BOX, Drawing, Record, as_drawing

METHODS = ("timed", "rdp")
ENGINES = ("fast", "package")


def simplify(
    drawing: Sequence,
    *,
    method: str = "timed",
    epsilon: float = 2.0,
    epsilon_time: float = 8.0,
    engine: str = "fast",
) -> Drawing:
    """The drawing in the 255 box with fewer points; those that are kept keep their t.

    Each stroke starts as the chord from its first point to its last. While some point is over
    `epsilon` from its chord, or (``timed``) over `epsilon_time` from where the chord, passed at
    constant speed, is at that point's time, the chord is split: at the point that exceeds its
    limit by the largest factor. An untimed drawing, or a chord of no duration, has the first
    distance only.

    Args:
        drawing: Strokes ``[x, y, t]`` or ``[x, y]``, in any unit of length.
        method: ``timed``, or ``rdp``, which looks at the shape alone.
        epsilon: Px in the box, 0 or more.
        epsilon_time: Px in the box, above 0.
        engine: ``package`` runs the `rdp` package, which knows the method ``rdp`` only: the same
            points, some thousand times slower.

    Raises:
        ValueError: The drawing is malformed, or a setting is out of range.

    Source: Ramer 1972, Douglas & Peucker 1973; for the distance in time Meratnia & de By 2004
    (TD-TR, which has that one alone).
    """
    chunk = from_records([Record("", "", None, as_drawing(drawing))])
    simplified = simplify_chunk(
        chunk, method=method, epsilon=epsilon, epsilon_time=epsilon_time, engine=engine
    )
    return next(simplified.records()).drawing


def simplify_chunk(
    chunk: Chunk,
    *,
    method: str = "timed",
    epsilon: float = 2.0,
    epsilon_time: float = 8.0,
    engine: str = "fast",
) -> Chunk:
    """`simplify` for each drawing of `chunk`."""
    from doodlelib.data import kernels

    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {METHODS}")
    if engine not in ENGINES or (engine == "package" and method != "rdp"):
        raise ValueError(f"engine {engine!r} for {method!r}: 'fast', or 'package' for 'rdp'")
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon}; 0 px or more")
    if not 0 < epsilon_time < math.inf:
        raise ValueError(f"epsilon_time is {epsilon_time}; above 0 px")
    points = kernels.to_box(chunk.points, chunk.offsets, BOX)
    boxed = Chunk(points, chunk.strokes, chunk.drawings, chunk.heads)
    if engine == "package":
        return boxed.select(_package_keep(boxed, epsilon=epsilon))
    limit = float(epsilon_time) if method == "timed" else math.inf
    return boxed.select(kernels.keep(points, chunk.strokes, float(epsilon), limit))


def shape_error(before: Sequence, after: Sequence) -> float:
    """How far, at most, a point of a stroke is from the simplified stroke, in the unit of both.

    Args:
        before: The stroke, ``[x, y]`` or ``[x, y, t]``; time does not count. Px in the box, where
            the drawing went through `strokes.to_box`.
        after: The stroke that stands for it, likewise.

    Raises:
        ValueError: A stroke has no points.
    """
    points, corners = (np.stack(stroke[:2], axis=1, dtype=float) for stroke in (before, after))
    if not len(points) or not len(corners):
        raise ValueError(f"strokes of {len(points)} and {len(corners)} points; 1 or more needed")
    chords = np.diff(corners, axis=0, append=corners[-1:])  # the last one is a point
    starts = points[:, None] - corners
    lengths2 = np.maximum((chords**2).sum(axis=1), np.finfo(float).tiny)
    share = np.clip((starts * chords).sum(axis=2) / lengths2, 0, 1)
    gaps = starts - share[..., None] * chords
    return float(np.hypot(gaps[..., 0], gaps[..., 1]).min(axis=1).max())


def _package_keep(chunk: Chunk, *, epsilon: float) -> Bool[np.ndarray, " n"]:
    """Which points the `rdp` package keeps, stroke by stroke."""
    import rdp

    flat = chunk.points.T.copy()  # two columns keep the same points, with a warning for each
    flat[:, 2] = 0
    strokes = np.split(flat, chunk.strokes[1:-1])
    return np.concatenate(
        [rdp.rdp(stroke, epsilon=epsilon, return_mask=True) for stroke in strokes]
    )
