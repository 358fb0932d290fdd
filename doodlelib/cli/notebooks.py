"""Notebooks without a browser: papermill, after a check of every parameter's name and type."""

import argparse
import asyncio
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doodlelib.cli.page import to_html
from doodlelib.cli.parameters import check_parameters, parse_values, read_yaml
from doodlelib.interrupt import on_stop
from doodlelib.paths import CONFIG, NOTEBOOKS, ROOT, RUNS

STEPS = (
    "01_explore_data",
    "02_preprocess",
    "03_train_vae",
    "04_train_cnn",
    "05_latent_space",
    "06_train_retimer",
)
DAY = 24 * 60 * 60  # s
INTERRUPTED = 130  # exit status, as shells have it
EXAMPLE = """\
example:
  python -m doodlelib.run notebooks/03_train_vae.ipynb out.ipynb -p epochs 50 -f params.yaml
"""


class NotebookError(RuntimeError):
    """A cell of a notebook failed, ran too long, or its kernel died."""


def run_notebook(
    notebook: str | Path,
    output: str | Path,
    parameters: Mapping[str, Any],
    *,
    timeout: int = DAY,
    live: bool = False,
) -> Path:
    """Execute a notebook and keep the executed copy, which is the record of the run.

    Ctrl-C and SIGTERM interrupt the cell that runs, which may end as it sees fit (training writes
    a checkpoint), and no cell after it is run.

    Args:
        notebook: Its kernel is python3 whatever its metadata say.
        output: Where the executed copy goes, once all cells have run. If one fails, what ran is
            kept beside it as ``<name>.failed.ipynb`` and an older `output` stays as it was.
        parameters: Values by name, for the cell tagged ``parameters``.
        timeout: Seconds that one cell may take.
        live: Print what the cells print, as it appears.

    Returns:
        `output`.

    Raises:
        FileNotFoundError, ValueError: Before anything is run; see `check_parameters`.
        OSError: `output` cannot be written.
        NotebookError: A cell failed. The message ends with the cell's own error.
        KeyboardInterrupt: By Ctrl-C or SIGTERM, likewise.
    """
    notebook, output = Path(notebook), Path(output)
    if output.resolve() == notebook.resolve():
        raise ValueError(
            f"{output} is the notebook itself, which an executed copy must not replace"
        )
    check_parameters(notebook, parameters)
    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    # Inherited by the kernel. Threads that spin while they wait slow a busy machine to a half or
    # a quarter.
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
                execution_timeout=timeout,
                extra_arguments=["--log-level=ERROR"],  # it warns of unencrypted loopback each time
                kernel_manager_class=Kernel,
                on_cell_start=begin_cell,
            )
        running.replace(output)
    except papermill.PapermillExecutionError as error:
        cause = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        if stopped.is_set():
            raise KeyboardInterrupt(f"{notebook.name} (see {failed}): {cause}") from None
        raise NotebookError(
            f"{notebook.name} failed (see {failed}), cell [{error.exec_count}]: {cause}"
        ) from None
    except CellTimeoutError:
        raise NotebookError(
            f"{notebook.name} failed (see {failed}): a cell ran longer than {timeout} s"
        ) from None
    except DeadKernelError:
        raise NotebookError(f"{notebook.name} failed (see {failed}): its kernel died") from None
    finally:
        if running.exists():
            running.replace(failed)
    return output


def run_series(series: str, *, html: bool = False) -> None:
    """Run notebooks as the files of ``config/<series>`` say, in their order, and list the results.

    Args:
        series: ``NN.yaml`` has the parameters of the notebook with that number; what follows the
            number in a file's name tells two runs of one notebook apart.
        html: Also write each executed notebook as one self-contained page into ``reports/html``.

    Raises:
        OSError, ValueError, NotebookError: See `run_notebook`.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # such small models are faster on one thread
    began, folders, pages = time.time(), set(), []
    for path in sorted((CONFIG / series).glob("*.yaml")):
        parameters = read_yaml(path)
        notebook = next(NOTEBOOKS.glob(f"{path.stem[:2]}_*.ipynb"))
        step, folder = notebook.stem + path.stem[2:], RUNS / parameters["name"]
        print(f"== {step}", flush=True)
        start = time.perf_counter()
        output = run_notebook(notebook, folder / f"{step}.ipynb", parameters, live=True)
        print(f"== {step}: {time.perf_counter() - start:.0f} s\n", flush=True)
        folders.add(folder)
        if html:
            pages.append(to_html(output, RUNS.parent / "html" / f"{step}.html"))
    print(f"All done in {time.time() - began:.0f} s. Below {ROOT}:")
    for title, ending in {
        "executed notebooks": ".ipynb",
        "checkpoints": ".pt",
        "metrics": ".csv",
        "doodles": ".gif",
        "plots": ".png",
    }.items():
        print(f"  {title}")
        found = (path for folder in folders for path in folder.rglob(f"*{ending}"))
        for path in sorted(path for path in found if path.stat().st_mtime >= began):
            print(f"    {path.relative_to(ROOT)}")
    for page in pages:
        print(f"  {page.relative_to(ROOT)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m doodlelib.run",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("notebook", nargs="?", type=Path, help="the notebook to execute")
    parser.add_argument("output", nargs="?", type=Path, help="where the executed copy goes")
    parser.add_argument(
        *("-p", "--parameter"),
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a parameter; may be repeated, and wins over -f",
    )
    parser.add_argument(
        *("-f", "--file"), action="append", default=[], metavar="YAML", help="parameters in a file"
    )
    parser.add_argument(
        "--timeout",
        type=int,
        default=DAY,
        metavar="S",
        help="seconds a cell may take (%(default)s)",
    )
    series = parser.add_mutually_exclusive_group()
    series.add_argument(
        "--demo", action="store_true", help="run all six on the embedded sample instead"
    )
    series.add_argument(
        "--reports",
        action="store_true",
        help="run all six on published drawings instead, and write them as pages too",
    )
    options = parser.parse_args(arguments)
    if (options.demo or options.reports) == (options.output is not None):
        parser.error("either a notebook and an output are needed, or --demo or --reports alone")
    try:
        if options.demo or options.reports:
            run_series("smoke" if options.demo else "reports", html=options.reports)
            return 0
        parameters = {
            name: value for path in options.file for name, value in read_yaml(path).items()
        } | parse_values(options.notebook, options.parameter)
        print(
            run_notebook(
                options.notebook,
                options.output,
                parameters,
                timeout=options.timeout,
                live=True,
            )
        )
    except (OSError, ValueError) as error:
        parser.error(" ".join(str(error).split()))
    except NotebookError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return INTERRUPTED
    return 0
