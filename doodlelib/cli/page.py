"""An executed notebook as one page that needs nothing beside it, and nothing of the network."""

import re
from pathlib import Path

from doodlelib.paths import atomic_write

MATH = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$]+?)\$", re.DOTALL)


def to_html(notebook: Path, page: Path) -> Path:
    """Write the page, its equations as MathML, which browsers lay out without a script.

    Args:
        notebook: With its outputs.
        page: Where the page goes; its folder is made.
    """
    import nbformat
    from nbconvert import HTMLExporter

    contents = nbformat.read(notebook, as_version=4)
    for cell in contents.cells:
        if cell.cell_type == "markdown":
            cell.source = MATH.sub(_to_mathml, cell.source)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/gif" in data:  # which the exporter does not know
                picture = data["image/gif"].replace("\n", "")
                data["text/html"] = f'<img alt="moving" src="data:image/gif;base64,{picture}">'
    scripts = dict.fromkeys(("mathjax_url", "require_js_url", "jquery_url"), "")
    text, _ = HTMLExporter(**scripts).from_notebook_node(contents)
    with atomic_write(page) as file:
        file.write(text.encode())
    return page


def _to_mathml(match: re.Match[str]) -> str:
    from latex2mathml.converter import convert

    if block := match["block"]:
        return convert(block, display="block")
    return convert(match["inline"])
