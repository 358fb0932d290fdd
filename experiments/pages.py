"""All notebooks on published drawings, run and written as pages into reports/html: `make reports`.

    .venv/bin/python experiments/pages.py

A page loads nothing: pictures are in it, equations are MathML.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter

from doodlelib.cli.notebooks import exit_status, run_series
from doodlelib.paths import ROOT, write_whole

MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$]+?)\$", re.DOTALL)  # block or inline


def main() -> None:
    """Run the series, then write its pages."""
    for notebook in run_series("reports"):
        page = to_html(notebook, ROOT / "reports" / "html" / f"{notebook.stem}.html")
        print(f"  {page.relative_to(ROOT)}")


def to_html(notebook: Path, page: Path) -> Path:
    """Write an executed notebook as one page that loads nothing, its equations as MathML."""

    def to_mathml(found: re.Match[str]) -> str:
        block, inline = found.groups()
        return convert(block, display="block") if block else convert(inline)

    contents = nbformat.read(notebook, as_version=4)
    for cell in contents.cells:
        if cell.cell_type == "markdown":
            cell.source = MATH.sub(to_mathml, cell.source)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/gif" in data:  # which the exporter does not know
                picture = data["image/gif"].replace("\n", "")
                data["text/html"] = f'<img alt="moving" src="data:image/gif;base64,{picture}">'
    scripts = dict.fromkeys(("mathjax_url", "require_js_url", "jquery_url"), "")
    text, _ = HTMLExporter(**scripts).from_notebook_node(contents)
    return write_whole(page, text.encode())


if __name__ == "__main__":
    sys.exit(exit_status(argparse.ArgumentParser(description=__doc__), main))
