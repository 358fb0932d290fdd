"""Points, shape error and speed correlation after simplification, over raw drawings of a mirror.

    DOODLELIB_QUICKDRAW_URL=file:///path/to/mirror python experiments/simplify.py [--every N]

Shape error of a stroke: the largest distance, in the 255 box, of a raw point from the simplified
stroke. Speed correlation of a drawing: Pearson's, between raw and simplified speed in steps of
`GRID` ms while the pen is down. The last line says of how many strokes, of all drawings recognised
or not, the `rdp` package keeps the same points as `simplify` (on one core some five minutes).
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, islice

import numpy as np
import rdp
from joblib import cpu_count
from tqdm import tqdm

from doodlelib import strokes
from doodlelib.analysis.metrics import shape_error
from doodlelib.data import quickdraw
from doodlelib.simplify import simplify

GRID = 10.0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take one drawing in N")
    every = parser.parse_args().every
    every_record = chain.from_iterable(
        quickdraw.read_drawings(word, recognized=False, progress=False)
        for word in quickdraw.words()
    )
    records = list(islice(every_record, 0, None, every))
    raw = [strokes.to_box(record.drawing) for record in records if record.recognized is not False]
    print(f"{len(raw)} recognised drawings; columns: median / mean / 95 %")
    report("raw", raw, raw)
    report("rdp", raw, [simplify(drawing, method="rdp") for drawing in raw])
    report("timed", raw, [simplify(drawing, method="timed") for drawing in raw])
    drawings = [record.drawing for record in records]
    with ProcessPoolExecutor(cpu_count()) as pool:
        same = list(tqdm(pool.map(same_points, drawings, chunksize=16), total=len(drawings)))
    print(
        f"the rdp package keeps the same points on {sum(map(sum, same))} of "
        f"{sum(map(len, same))} strokes, of {len(drawings)} drawings"
    )


def same_points(drawing: list) -> list[bool]:
    """Of each stroke, whether the `rdp` package keeps the points that `simplify` keeps."""
    fast = simplify(drawing, method="rdp")
    same = []
    for (x, y, *_), kept in zip(strokes.to_box(drawing), fast, strict=True):
        points = np.stack([x, y, np.zeros_like(x)], axis=1)  # of two columns the package warns
        same.append(np.array_equal(rdp.rdp(points, epsilon=2.0)[:, :2].T, kept[:2]))
    return same


def report(name: str, raw: list, simplified: list) -> None:
    """Print one row."""
    points = [sum(len(stroke[0]) for stroke in drawing) for drawing in simplified]
    worst, shape, speed = [], [], []
    for before, after in zip(raw, simplified, strict=True):
        errors = [shape_error(a, b) for a, b in zip(before, after, strict=True)]
        shape.extend(errors)
        worst.append(max(errors))
        profiles = [speed_profiles(a, b) for a, b in zip(before, after, strict=True)]
        a, b = np.concatenate(profiles, axis=1)
        if len(a) > 2 and a.std() > 0 and b.std() > 0:
            speed.append(np.corrcoef(a, b)[0, 1])
    columns = {
        "points": points,
        "shape error of a stroke, px": shape,
        "of a drawing's worst stroke": worst,
        "speed correlation": speed,
    }
    text = ", ".join(
        f"{title} {np.median(v):.2f} / {np.mean(v):.2f} / {np.percentile(v, 95):.2f}"
        for title, v in columns.items()
    )
    print(f"{name:6} {text}")


def speed_profiles(before: list, after: list) -> np.ndarray:
    """(2, steps) speed of the raw and of the simplified stroke, px/ms."""
    clock = np.arange(before[2][0], before[2][-1] + GRID, GRID)
    return np.stack(
        [
            np.hypot(np.diff(np.interp(clock, t, x)), np.diff(np.interp(clock, t, y))) / GRID
            for x, y, t in (before, after)
        ]
    )


if __name__ == "__main__":
    main()
