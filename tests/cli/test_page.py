"""An executed notebook as a page that stands alone."""

import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from doodlelib.cli.page import to_html

GIF = "R0lGODdhAQABAIAAAAAAAP///ywAAAAAAQABAAACAkQBADs="


def test_a_page_has_its_equations_and_moving_pictures_in_it(tmp_path: Path) -> None:
    moving = new_output("display_data", {"image/gif": GIF, "text/plain": "<an Image>"})
    cells = [
        new_markdown_cell("The rate $\\beta=wN/Z$ of\n$$\\sum_m \\pi_m\\,p_m$$ stands here."),
        new_code_cell("show()", outputs=[moving]),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")
    page = to_html(tmp_path / "a.ipynb", tmp_path / "pages" / "a.html").read_text("utf-8")
    assert page.count("<math") == page.count("</math>") == 2
    assert 'display="block"' in page
    assert "<msub><mi>π</mi><mi>m</mi></msub>" in page
    assert f"data:image/gif;base64,{GIF}" in page
    assert "an Image" not in page
    assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="https?:', page)
