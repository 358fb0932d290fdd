"""The command line, and notebooks run without a browser.

`main` is ``python -m doodlelib``: train, generate, infer. `notebooks` is ``python -m
doodlelib.run``: it checks the parameters given to a notebook, executes it with papermill and can
write it as one HTML page.
"""

from doodlelib.cli.notebooks import NotebookError, check_parameters, read_parameters, run_notebook

__all__ = ["NotebookError", "check_parameters", "read_parameters", "run_notebook"]
