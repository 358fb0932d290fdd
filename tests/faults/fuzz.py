"""Readers of files, sound files for each, and a way to spoil them at random.

A reader may read a file or refuse it with a ValueError that names it. Anything else is a failure:
another error, more than `PATIENCE` seconds of work, or `MEMORY`.
"""

import io
import json
import random
import resource
import signal
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from files import LINE, MOVES
from PIL import Image

from doodlelib import raster
from doodlelib.cli.notebooks import read_parameters, read_yaml
from doodlelib.config import VAEConfig, read_config
from doodlelib.data import dataset, formats, photos, sample
from doodlelib.models import checkpoint
from doodlelib.models.vae import SketchVAE
from doodlelib.paths import CONFIG, NOTEBOOKS
from doodlelib.strokes import Scale, to_stroke4
from doodlelib.viz import export

PATIENCE = 20  # s of the processor for one file, the first of which may compile kernels
MEMORY = 3 << 30  # bytes beside what is taken already
ALSO_NAMED = ("parameters:", "picture of", "prepare the store")  # in place of the file
TOKENS = [
    *(b"", b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80", b"-1", b"0", b"1e999", b"NaN"),
    *(b"null", b"[]", b"{}", b"[[", b"]]", b'"', b"\\u0000", b"\xed\xa0\x80", b"9" * 400),
    *(b"[" * 3000, b"<g>" * 500, b"&a;", b"<!ENTITY a 'b'>", b"M0 0", b"matrix(1e99 0)", b"\n"),
    *(b"cos\nsystem\n", b"cbuiltins\nbytearray\n", b"R", b"(", b"\x8a\x04", b"shape", b"F32"),
]


@dataclass(frozen=True)
class Reader:
    """What is spoilt, and who reads it.

    Attributes:
        seeds: Sound files.
        name: Of the file that is read.
        read: Reads it.
        wrap: Makes the file of what was spoilt.
    """

    seeds: Sequence[bytes]
    name: str
    read: Callable[[Path], object]
    wrap: Callable[[bytes], bytes] = bytes


def spoil(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the seeds with a few changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at, length = rng.randrange(len(data) + 1), min(rng.choice((1, 2, 4, 8, 64)), len(data))
        match rng.randrange(8):
            case 0:
                data[at : at + length] = rng.randbytes(length)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length] * rng.choice((1, 2, 1000))
            case 3:
                data[at:at] = rng.choice(TOKENS)
            case 4:
                data[at : at + length] = rng.choice(TOKENS)
            case 5:
                del data[at:]
            case 6:
                other = rng.choice(seeds)
                data[at:] = other[rng.randrange(len(other)) :]
            case _ if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def make_readers(folder: Path) -> dict[str, Reader]:
    """All of them, by name; `folder` is for what they need on disk."""
    records = sample.make_drawings("cat", 3, seed=1)
    drawings = [record.drawing for record in records]
    svg = export.to_svg(drawings[0], folder / "seed.svg").read_bytes()
    ndjson = b"".join(json.dumps(record.to_json()).encode() + b"\n" for record in records)
    vector = b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'>%s</svg>"
    paths = [
        b"<path d='M1 1C2 2 3 3 4 4A1 2 3 0 1 5 5z'/>",
        b"<polyline points='1,2 3,4 5 6' fill='none' stroke='red'/>",
        b"<style>g > .a {fill: #123; transform: rotate(3deg)}</style>"
        b"<symbol id='s' viewBox='0 0 3 3'><rect width='50%' height='2'/></symbol>"
        b"<g><use class='a' href='#s' x='1' width='5'/></g>",
    ]

    x, y, t = [1, 2.5, 9], [3, 4, 4], [0, 20, 90]
    points = [{"x": x, "y": y, "time": 1.7e12 + t} for x, y, t in zip(x, y, t, strict=True)]
    forms = [
        json.dumps([[x, y, t]]),
        {"x": [x], "y": [y], "t": [t]},
        [points],
        [{"points": points}],
    ]
    lines = [LINE | {"drawing": form} for form in forms]
    others = [json.dumps(lines, indent=1), "\n".join(map(json.dumps, lines)), json.dumps(points)]
    ndjsons = [ndjson, ndjson * 3, json.dumps(LINE).encode(), others[0].encode("utf-16")]
    ndjsons += [text.encode("utf-8-sig") for text in others]

    arrays = [to_stroke4(drawings[0]), np.zeros((2, 784), np.uint8), MOVES]
    arrays += [np.ones((2, 5, 3), kind) for kind in (np.int16, np.float64, object)]
    npys = [_saved(lambda file, a=a: np.save(file, a, allow_pickle=True)) for a in arrays]

    bitmap = Image.fromarray(255 - raster.rasterize(drawings[0], 40))
    kinds = ("png", "jpeg", "gif", "webp", "bmp", "tiff")
    images = [_saved(lambda file, kind=kind: bitmap.save(file, kind)) for kind in kinds]
    images += [_saved(lambda file, m=m: bitmap.convert(m).save(file, "png")) for m in ("P", "LA")]

    small = {"latent_size": 2, "enc_hidden_size": 2, "dec_hidden_size": 2, "num_gmm_modes": 1}
    vae = SketchVAE(
        read_config(VAEConfig, **small),
        words=["cat"],
        scale=Scale(),
        simplification={"method": "rdp", "epsilon": 2.0, "epsilon_time": 8.0},
    )
    model = checkpoint.save(folder / "model.pt", vae).read_bytes()
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in parts if name.endswith("data.pkl"))

    store = dataset.prepare(folder / "store", words="cat", samples_per_class=9, progress=False)

    def read_checkpoint(path: Path) -> None:
        checkpoint.read(path, SketchVAE)

    def read_store(path: Path) -> None:
        for part in ("train", "valid"):
            split = dataset.load_split(store, part)
            split.lengths.sum(), split.points.sum()

    def read_drawings(path: Path) -> None:
        dropped: Counter[str] = Counter()
        found = list(formats.read(path, dropped=dropped))
        assert len(found) + dropped.total() < 10_000 + path.read_bytes().count(b"\n")
        for record in found:
            assert all(np.isfinite(part).all() for stroke in record.drawing for part in stroke)
            raster.rasterize(record.drawing)

    readers = {
        "ndjson": Reader(ndjsons, "cat.ndjson", read_drawings),
        "svg": Reader([svg, *(vector % path for path in paths)], "cat.svg", read_drawings),
        "npz": Reader([_zipped({"train.npy": npy}) for npy in npys], "cat.npz", read_drawings),
        "npz, inside": Reader(
            npys, "cat.npz", read_drawings, wrap=lambda data: _zipped({"train.npy": data})
        ),
        "picture": Reader(images, "cat.png", lambda path: photos.to_frame(photos.read_image(path))),
        "checkpoint": Reader([model], "model.pt", read_checkpoint),
        "checkpoint, inside": Reader(
            [parts[pickled]],
            "model.pt",
            read_checkpoint,
            wrap=lambda data: _zipped(parts | {pickled: data}),
        ),
        "parameters": Reader(
            [path.read_bytes() for path in sorted(CONFIG.glob("smoke/*.yaml"))],
            "spoilt.yaml",
            read_yaml,
        ),
        "notebook": Reader(
            [json.dumps(_parameters_of(path)).encode() for path in sorted(NOTEBOOKS.glob("*"))],
            "spoilt.ipynb",
            read_parameters,
        ),
        "hyper-parameters": Reader(
            [(CONFIG / "model_params.json").read_bytes()],
            "spoilt.json",
            lambda path: read_config(VAEConfig, path),
        ),
    }
    arrays_of_store = [path for path in store.rglob("*") if path.is_file() and "train" in str(path)]
    largest = max(arrays_of_store, key=lambda path: path.stat().st_size)
    for label, path in {"store": store / "store.json", "store, arrays": largest}.items():
        readers[label] = Reader([path.read_bytes()], str(path.relative_to(folder)), read_store)
    return readers


def try_one(reader: Reader, folder: Path, data: bytes) -> tuple[str, str]:
    """What became of one file: "read", "refused" or "failed", and why."""
    path = folder / reader.name
    sound = path.read_bytes() if path.exists() else None
    path.write_bytes(reader.wrap(data))
    signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)  # a busy machine is no fault of the file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(path)
        return "read", ""
    except ValueError as error:
        named = any(word in str(error) for word in (path.name, *ALSO_NAMED))
        return ("refused", "") if named else ("failed", f"unnamed: {error!r}"[:300])
    except Exception:  # which is what is looked for
        return "failed", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        if sound is not None and reader.name.startswith("store/"):
            path.rename(folder / "spoilt")
            path.write_bytes(sound)


def _saved(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _zipped(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def _parameters_of(notebook: Path) -> dict:
    """The notebook with its parameters cell alone."""
    contents = json.loads(notebook.read_text("utf-8"))
    cells = [c for c in contents["cells"] if "parameters" in c["metadata"].get("tags", [])]
    return contents | {"cells": cells}


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Within, this process may take `MEMORY` more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"over {PATIENCE} s of the processor")
