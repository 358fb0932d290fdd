"""Pictures, names and parameters from whoever means harm: refused, with a reason."""

import io
import json
import struct
import zlib
from collections import Counter
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

from doodlelib.cli import main as cli
from doodlelib.data import photos
from doodlelib.paths import NOTEBOOKS, PROCESSED, RUNS, checked_name


def png(width: int, height: int) -> bytes:
    """A picture of a few bytes that says it is larger."""

    def part(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    head = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = part(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + head + rows + part(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("P", (1, 1)).save(file, "gif")
    content = bytearray(file.getvalue())
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


PICTURES = {
    "a bomb": png(60_000, 60_000),
    "a picture of two billion a side": png(2**31 - 1, 2**31 - 1),
    "a gif of 65,535 a side": gif(65_535, 65_535),
    "a picture without size": png(0, 5),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><path d='M1 1L2 2'/></svg>",
}


@pytest.mark.parametrize("content", PICTURES.values(), ids=PICTURES)
def test_a_picture_that_means_harm(content: bytes, tmp_path: Path, tally: Counter[str]) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cat\.png cannot be read as a picture"):
        photos.read_image(path)
    tally["hostile pictures refused"] += 1


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000), (20_000, 20)])
def test_a_picture_of_an_odd_size(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("CMYK", size).save(tmp_path / "odd.jpg")
    height, width, channels = photos.read_image(tmp_path / "odd.jpg").shape
    assert max(height, width) <= photos.LARGEST
    assert channels == 3


NAMES = ["../../x", "/tmp/x", "a/b", "a\\b", "", ".", "..", ".hidden", "a\0b", "a\nb", "C:x", "~"]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_no_name_of_a_run(name: str, tally: Counter[str]) -> None:
    with pytest.raises(ValueError, match="no name for a folder"):
        checked_name(name)
    tally["paths refused where a name belongs"] += 1


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_checks_its_name_first(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    parameters, first, *_ = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    variables: dict = {}
    exec(parameters, variables)
    before = sorted(RUNS.glob("*")), sorted(PROCESSED.glob("*"))
    with (
        mpl.rc_context(),
        pytest.raises(ValueError, match="no name for a folder"),
    ):
        exec(first, variables | {"name": "../../x"})
    assert (sorted(RUNS.glob("*")), sorted(PROCESSED.glob("*"))) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "name", "../../x"], "no name for a folder"),
        (["-p", "name", "/tmp/x"], "no name for a folder"),
        (["-p", "nmae", "x"], "has no parameter 'nmae'"),
        (["-p", "epochs", "many"], "epochs must be int"),
        (["-pdp", "/tmp/x"], "no prepared data at /tmp/x"),
    ],
)
def test_the_command_line_refuses_before_it_runs(
    arguments: list[str], message: str, monkeypatch, capsys, tally: Counter[str]
) -> None:
    monkeypatch.setattr(cli, "run_notebook", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(SystemExit):
        cli.main(["-m", "train", "--source", "sample", *arguments])
    assert message in capsys.readouterr().err
    tally["parameters refused on the command line"] += 1
