"""Reading real files: the same from a folder and from a server over it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fileserver import serving

from doodlelib import raster
from doodlelib.data import quickdraw
from doodlelib.models import checkpoint

WORDS = ["t-shirt", "The Eiffel Tower", "hot air balloon"]
KINDS: tuple[quickdraw.Kind, ...] = ("raw", "simplified")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_gives_what_the_folder_gives(
    mirror: str, mirror_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: bool
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    names = [f"full/{kind}/{word}.ndjson" for kind in KINDS for word in WORDS]
    files = {name: (mirror_folder / name).read_bytes() for name in names}
    with serving(files, ranges=ranges) as server:
        here: dict[str, Any] = {"base_url": server.url, "cache": tmp_path, "progress": False}
        for word in WORDS:
            for kind in KINDS:
                ours = list(quickdraw.read_drawings(word, kind=kind, **here))
                theirs = list(quickdraw.read_drawings(word, kind=kind, base_url=mirror))
                assert [a.to_json() for a in ours] == [b.to_json() for b in theirs]
                assert len(ours) > 10
                assert {record.word for record in ours} == {word}
                assert {len(ours[0].drawing[0])} == {3 if kind == "raw" else 2}


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_has_drawings(mirror: str, kind: quickdraw.Kind):
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # fewer than asked for
        for word in quickdraw.words():
            records = list(quickdraw.read_drawings(word, kind=kind, limit=3, base_url=mirror))
            assert records
            assert {record.word for record in records} == {word}


def test_the_classifier_reads_published_bitmaps_as_well_as_ours(mirror: str, mirror_folder: Path):
    """Drawings of which the mirror has both strokes and bitmap are found by likeness."""
    cnn, right = checkpoint.load_cnn(), []
    for word in ("cat", "eye"):
        records = quickdraw.read_drawings(word, kind="simplified", base_url=mirror, limit=1500)
        ours = raster.rasterize_many([record.drawing for record in records])
        theirs = np.load(mirror_folder / f"full/numpy_bitmap/{word}.npy").reshape(-1, 28, 28)
        a, b = (images.reshape(-1, 784).astype(np.float32) for images in (ours, theirs))
        squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
        same = squared.min(axis=1) < 784 * 15**2
        for images in (ours[same], theirs[squared.argmin(axis=1)[same]]):
            right.append(cnn.predict(images).argmax(axis=1) == cnn.words.index(word))
    ours, theirs = np.concatenate(right[::2]), np.concatenate(right[1::2])
    assert len(ours) > 300
    assert theirs.mean() > ours.mean() - 0.01 and ours.mean() > 0.85
