"""``python -m doodlelib`` (`main`), and notebooks run without a browser (`notebooks`)."""

from doodlelib.cli.notebooks import NotebookError, check_parameters, read_parameters, run_notebook
