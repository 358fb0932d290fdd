"""Notebooks executed by papermill, after a check of each parameter's name and type."""

import argparse
import ast
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ForwardRef

from doodlelib.interrupt import on_stop
from doodlelib.paths import NOTEBOOKS, ROOT, RUNS, similar_names

INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
MALFORMED = (  # what `ast` and papermill raise
    *(AttributeError, LookupError, MemoryError, RecursionError),
    *(SyntaxError, TypeError, ValueError),
)
NO_CLONE = (
    "there is no {}: notebooks are not a part of the installed package; "
    "run this in a clone of the repository"
)


class NotebookError(RuntimeError):
    """A cell of a notebook failed, or its kernel died."""


def read_parameters(notebook: str | Path) -> dict[str, str]:
    """Type of each parameter of a notebook, by name, as Python writes it; `object` for any."""
    notebook, types = Path(notebook), {}
    if not notebook.is_file():
        reason = f"no notebook at {notebook}" if NOTEBOOKS.is_dir() else NO_CLONE.format(notebook)
        raise FileNotFoundError(reason)
    import nbformat
    from papermill.translators import PythonTranslator

    try:
        for cell in nbformat.read(notebook, as_version=4).cells:
            if "parameters" in cell.metadata.get("tags", []):
                for name, declared, default, _ in PythonTranslator.inspect(cell):
                    optional = " | None" if default == "None" else ""
                    types[name] = "object" if declared == "None" else declared + optional
    except (*MALFORMED, nbformat.ValidationError) as error:
        raise ValueError(f"{notebook.name} is no notebook: {str(error)[:300]}") from None
    return types


def check_parameters(notebook: str | Path, parameters: Mapping[str, Any]) -> None:
    """Raise ValueError at parameters that the notebook does not have, or of another type."""
    notebook = Path(notebook)
    declared = read_parameters(notebook)
    for name, value in parameters.items():
        if name not in declared:
            near = similar_names(name, sorted(declared), n=len(declared))
            raise ValueError(f"{notebook.name} has no parameter {name!r}; it has {', '.join(near)}")
        if not _fits(value, declared[name]):
            raise ValueError(f"{notebook.name}: {name} must be {declared[name]}, not {value!r}")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The parameters in a flat YAML file, ``name: value``; ValueError if it is none."""
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"{path} must hold lines 'name: value'")
    return values


def parse_values(notebook: str | Path, pairs: Iterable[Sequence[str]]) -> dict[str, Any]:
    """Parameters given as text, ``(name, value)``, as Python literals where the type allows.

    A value that is no literal, or whose parameter is a text (``-p name 2026``), stays text.
    """
    declared = read_parameters(notebook)
    values = {}
    for name, text in pairs:
        value, type_ = literal(text), declared.get(name, "object")
        values[name] = value if _fits(value, type_) or not _fits(text, type_) else text
    return values


def literal(text: str) -> Any:
    """The value of a Python literal, or of true and false; text that is none stays as it is."""
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except MALFORMED:
        return text


def run_notebook(
    notebook: str | Path, output: str | Path, parameters: Mapping[str, Any], *, live: bool = False
) -> Path:
    """Execute a notebook, write the executed copy, the record of the run, and return its path.

    Ctrl-C and SIGTERM interrupt the running cell, which may still do what it does on an interrupt
    (training writes a checkpoint); no later cell runs.

    Args:
        notebook: Its kernel is python3 whatever its metadata say.
        output: Where the executed copy goes, once all cells have run. If one fails, the copy so
            far is ``<name>.failed.ipynb`` beside it, and an older `output` stays as it was.
        parameters: Values by name; see `check_parameters`.
        live: Print what the cells print, as it appears.

    Raises:
        NotebookError: A cell failed. The message ends with the cell's own error.
        KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM.
    """
    notebook, output = Path(notebook), Path(output)
    if output.resolve() == notebook.resolve():
        raise ValueError(f"{output} is the notebook itself, which no executed copy may replace")
    check_parameters(notebook, parameters)
    import asyncio

    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError

    # Inherited by the kernel: threads that spin while they wait slow a busy machine to a half.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    running, failed = (output.with_suffix(f".{state}.ipynb") for state in ("running", "failed"))
    output.parent.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    kernels, stopped = [], threading.Event()

    class Kernel(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            kernels.append(self)

    def stop() -> None:
        stopped.set()
        for kernel in kernels:  # in a thread, since this one's event loop is at work
            if kernel.has_kernel:
                threading.Thread(target=asyncio.run, args=(kernel.interrupt_kernel(),)).start()

    def begin_cell(**_: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt(f"{notebook.name} was stopped between two cells")

    try:
        with on_stop(stop):
            papermill.execute_notebook(
                notebook,
                running,
                dict(parameters),
                kernel_name="python3",
                language="python",
                progress_bar=False,
                stdout_file=sys.stdout if live else None,
                stderr_file=sys.stderr if live else None,
                start_timeout=300,  # a busy machine may need more than the usual minute
                extra_arguments=["--log-level=ERROR"],  # it warns of unencrypted loopback each time
                kernel_manager_class=Kernel,
                on_cell_start=begin_cell,
            )
        running.replace(output)
    except papermill.PapermillExecutionError as error:
        cause = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        if stopped.is_set():
            raise KeyboardInterrupt(f"{notebook.name} (see {failed}): {cause}") from None
        cause = f"cell [{error.exec_count}]: {cause}"
        raise NotebookError(f"{notebook.name} failed (see {failed}), {cause}") from None
    except DeadKernelError:
        raise NotebookError(f"{notebook.name} failed (see {failed}): its kernel died") from None
    finally:
        if running.exists():
            running.replace(failed)
    return output


def run_series(series: str, *, source: str | None = None) -> list[Path]:
    """Run the notebooks of ``config/<series>`` in order, list the files they wrote; the copies.

    There ``NN.yaml`` holds the parameters of the notebook with that number; what follows the number
    tells two runs of one notebook apart. `source` replaces the parameter of that name.
    """
    files = sorted((ROOT / "config" / series).glob("*.yaml"))
    if not files:
        raise FileNotFoundError(NO_CLONE.format(ROOT / "config" / series))
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # such small models are faster on one thread
    began, outputs = time.time(), []
    for path in files:
        parameters = read_yaml(path)
        notebook = next(NOTEBOOKS.glob(f"{path.stem[:2]}_*.ipynb"))
        if source and "source" in read_parameters(notebook):
            parameters["source"] = source
        step = notebook.stem + path.stem[2:]
        print(f"== {step}", flush=True)
        start = time.perf_counter()
        output = RUNS / parameters["name"] / f"{step}.ipynb"
        outputs.append(run_notebook(notebook, output, parameters, live=True))
        print(f"== {step}: {time.perf_counter() - start:.0f} s\n", flush=True)
    print(f"All done in {time.time() - began:.0f} s. Below {ROOT}:")
    folders = {output.parent for output in outputs}
    written = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    new = [path for path in written if path.stat().st_mtime >= began]
    for path in sorted(new, key=lambda path: (path.suffix, path)):
        print(f"  {path.relative_to(ROOT)}")
    return outputs


def exit_status(parser: argparse.ArgumentParser, command: Callable[[], object]) -> int:
    """Run a command; its exit status, with one line on stderr if it fails.

    0: done. 2 (by `SystemExit`, as for any wrong argument): a file, value or package is missing or
    wrong. 1: it failed under way. 130: stopped by Ctrl-C or SIGTERM.
    """
    try:
        command()
    except (ImportError, OSError, ValueError) as error:
        parser.error(" ".join(str(error).split()))
    except (ArithmeticError, RuntimeError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"{parser.prog}: {error or 'stopped'}", file=sys.stderr)
        return INTERRUPTED
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m doodlelib.run``; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m doodlelib.run", description=__doc__)
    add = parser.add_argument
    add("notebook", nargs="?", type=Path, help="the notebook to execute")
    add("output", nargs="?", type=Path, help="where the executed copy goes")
    add_parameters(add)
    add("--demo", action="store_true", help="instead, run all notebooks on the embedded sample")
    add("--source", help="with --demo: raw for published drawings in place of the sample")
    options = parser.parse_args(arguments)
    if options.demo == (options.output is not None):
        parser.error("either a notebook and an output are needed, or --demo alone")
    if options.source and not options.demo:
        parser.error("--source goes with --demo; for a notebook, say -p source")

    def command() -> None:
        if options.demo:
            run_series("smoke", source=options.source)
        else:
            values = all_parameters(options.notebook, options.file, options.parameter)
            print(run_notebook(options.notebook, options.output, values, live=True))

    return exit_status(parser, command)


def add_parameters(add: Callable[..., Any]) -> None:
    """The options ``-p NAME VALUE`` and ``-f YAML``, for `all_parameters`."""
    listed: dict[str, Any] = {"action": "append", "default": []}
    text = "set a parameter; may be repeated, and wins over -f"
    add("-p", "--parameter", nargs=2, metavar=("NAME", "VALUE"), help=text, **listed)
    add("-f", "--file", metavar="YAML", help="parameters in a file", **listed)


def all_parameters(
    notebook: str | Path, files: Iterable[str], pairs: Iterable[Sequence[str]]
) -> dict[str, Any]:
    """Parameters from YAML files and from ``(name, text)``; the last one given wins."""
    values = {name: value for path in files for name, value in read_yaml(path).items()}
    return values | parse_values(notebook, pairs)


def _fits(value: Any, type_: str) -> bool:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    declared: Any = ForwardRef(type_)
    try:
        TypeAdapter(declared, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError:
        return False
    return True
