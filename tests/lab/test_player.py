"""What the page is told to play, and the picture that stands in for it."""

import re

import numpy as np
import pytest
from defusedxml.ElementTree import fromstring

from doodlelib.data.sample import make_drawings
from doodlelib.lab.controls import Message
from doodlelib.lab.player import STATIC, Player, Stage, module
from doodlelib.strokes import duration, to_box, without_time
from doodlelib.viz.animation import TYPICAL_MS

DRAWING = [[[10, 210, 210], [5, 5, 105], [900, 1000, 1500]], [[50, 70], [25, 25], [2500, 2900]]]


def test_strokes_are_in_the_box_and_their_times_start_at_zero() -> None:
    ((first, second),) = Player([DRAWING]).strokes
    assert first == [[0, 255, 255], [0, 0, 127.5], [0, 100, 600]]
    assert second == [[51, 76.5], [25.5, 25.5], [1600, 2000]]


def test_real_paces_survive_to_a_tenth_of_a_millisecond() -> None:
    drawings = [record.drawing for record in make_drawings("cat", 5)]
    for drawing, sent in zip(drawings, Player(drawings).strokes, strict=True):
        assert sent[-1][2][-1] == pytest.approx(duration(drawing), abs=0.06)
        for boxed, stroke in zip(to_box(drawing), sent, strict=True):
            np.testing.assert_allclose(boxed[:2], stroke[:2], atol=0.051)


def test_a_drawing_without_time_moves_at_one_speed() -> None:
    ((stroke,),) = Player([without_time([[[0, 30, 100], [0, 40, 40]]])]).strokes
    assert stroke[2] == pytest.approx(np.array([0, 50, 120]) / 120 * TYPICAL_MS, abs=0.1)


def test_other_drawings_take_their_place_whole_or_not_at_all() -> None:
    player = Player([DRAWING], titles=["one"])
    player.show([DRAWING[:1], DRAWING], titles=["a", "b"])
    before = player.strokes
    assert [len(drawing) for drawing in before] == [1, 2] and player.titles == ["a", "b"]
    for drawings, titles in (([], []), ([DRAWING], ["a", "b"]), ([[[[0], [np.nan], [0]]]], [])):
        with pytest.raises(ValueError):
            player.show(drawings, titles=titles)
        assert player.strokes is before and player.titles == ["a", "b"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"speed": 8.0}, "'speed'.*greater than 4.0.*8.0"),
        ({"pace": "fast"}, "'human'.*not the str 'fast'"),
        ({"columns": 0}, "'columns'.*less than 1.*0"),
        ({"titles": ["a", "b"]}, "1 drawings and 2 titles"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Player([DRAWING], **wrong)


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="no setting colums"):
        Player([DRAWING], colums=3)


def test_where_no_widget_runs_every_finished_drawing_is_shown() -> None:
    player = Player([DRAWING, DRAWING[:1]], titles=["a <cat>", ""])
    bundle, _ = player._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == player.model_id
    page = fromstring(bundle["text/html"])
    paths = [path.get("d") for path in page.iter("{http://www.w3.org/2000/svg}path")]
    assert len(paths) == 3 and paths[0] == paths[2]
    assert "<animate " in bundle["text/html"] and "script" not in bundle["text/html"]
    assert "svg {max-width: 100%; height: auto}" in bundle["text/html"]  # small, not cut off
    assert page.find(".//figcaption").text == "a <cat>"
    assert Stage([player])._repr_mimebundle_()[0]["text/html"] == bundle["text/html"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # nbconvert's own
def test_the_html_export_of_a_notebook_shows_the_picture() -> None:
    import nbformat
    from nbconvert import HTMLExporter

    bundle, metadata = Player([DRAWING], titles=["a cat"])._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data=bundle, metadata=metadata)
    cell = nbformat.v4.new_code_cell("player", outputs=[output])
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert "<figcaption>a cat</figcaption>" in page and '<path d="M0 0L255 0' in page
    assert 'dur="2000ms"' in page and 'repeatcount="indefinite"' in page.lower()  # it plays there


def test_what_is_shown_can_be_had_in_code_as_it_was_made() -> None:
    player = Player([DRAWING])
    assert player.doodles == [DRAWING]
    player.show([DRAWING[:1], DRAWING], columns=2, word="cat")
    assert player.doodles == Stage([player]).doodles == [DRAWING[:1], DRAWING]
    assert (player.columns, player.word) == (2, "cat")
    with pytest.raises(ValueError, match="'columns'"):
        player.show([DRAWING], columns=0)
    assert player.doodles == [DRAWING[:1], DRAWING] and len(player.strokes) == 2


def test_a_stage_tells_the_page_what_its_parts_are() -> None:
    player, message = Player([DRAWING]), Message()
    stage = Stage([message])
    stage.children = [*stage.children, player]
    references = [["Message", message.model_id], ["Player", player.model_id]]
    expected = [(kind, f"IPY_MODEL_{model}") for kind, model in references]
    assert stage.get_state("children")["children"] == expected


@pytest.mark.parametrize("name", sorted(path.name for path in STATIC.glob("*.js")))
def test_a_module_is_one_text_that_imports_nothing(name: str) -> None:
    text = module(name)
    assert not re.search(r"^\s*import |^export (?!default \$)", text, re.MULTILINE)
    used = set(re.findall(r"const \{.*?\} = (\$\w+);", text, re.DOTALL))
    order = [text.index(f"const {scope} = ") for scope in used]
    assert len(order) == len(used) and text.count("export default $") == 1
    assert text.count("const $dom = ") <= 1  # however many files need it
