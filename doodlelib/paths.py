"""Folders that are read and written, and file writes that succeed as a whole or not at all.

In a clone of the repository they are the clone's, whatever the working directory. An installed
package has `CONFIG` and `TRAINED` in itself, and takes all else from where Python was started.
"""

import difflib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "shipped"  # made by the build, see pyproject.toml
ROOT = Path.cwd() if _SHIPPED.is_dir() else _PACKAGE.parent
CONFIG = (_SHIPPED if _SHIPPED.is_dir() else ROOT) / "config"
TRAINED = CONFIG.parent / "trained_models"
NOTEBOOKS = ROOT / "notebooks"
RAW = ROOT / "data" / "raw"
PROCESSED = ROOT / "data" / "processed"
RUNS = ROOT / "reports" / "runs"

RUN_FILES = {  # of each model's training notebook; a retimer goes with the VAE of its folder
    "DoodleGenRNN": ("DoodleGenRNN_*", "DoodleRetime_*", "0[36]_*", "distributions.csv", "time_*"),
    "DoodleCNN": ("DoodleCNN_*", "04_*", "report.csv", "confusion.csv", "calibration.csv"),
    "DoodleRetime": ("DoodleRetime_*", "06_*", "time_baselines.csv"),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*")


def resolve(path: str | Path) -> Path:
    """`path` below `ROOT`; an absolute path passes through unchanged."""
    return ROOT / path


def checked_name(name: str) -> str:
    """`name` itself, if it can be one folder's name and nothing else.

    Raises:
        ValueError: It is empty, starts with a dot or holds anything but letters, digits, ``._ -``.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a folder: letters, digits, '.', '_', '-', ' '")
    return name


def run_folder(
    name: str | Path, model: str = "", *, resume: str = "", start: str = "", overwrite: bool = False
) -> Path:
    """The folder of a run, made if need be, without files of an earlier run.

    Args:
        name: A folder's name in `RUNS`, or its path.
        model: That the run trains, a key of `RUN_FILES`; empty: none. Runs of several models may
            share a folder.
        resume: A checkpoint; if it lies in the folder, the run in there goes on, and all stays.
        start: A checkpoint that is still to be read.
        overwrite: Delete the files of an earlier run, but for executed notebooks.

    Raises:
        ValueError: See `checked_name`; or `start` would be deleted.
        FileExistsError: There is an earlier run, which is neither resumed nor to be overwritten.
    """
    folder = RUNS / checked_name(name) if isinstance(name, str) else name
    if not resume or resolve(resume).resolve().parent != folder.resolve():
        found = [path for pattern in RUN_FILES.get(model, ()) for path in folder.glob(pattern)]
        found = [path for path in sorted(found) if path.is_file() and path.suffix != ".ipynb"]
        run = [path.name for path in found if path.name.startswith("Doodle")]
        if run and not overwrite:
            raise FileExistsError(
                f"{folder} holds a run already ({run[0]}): take another name, resume that run, or "
                "say overwrite to delete it"
            )
        if start and resolve(start).resolve() in [path.resolve() for path in found]:
            raise ValueError(f"{start} is of the run to be overwritten: take another name")
        for path in found if overwrite else ():
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def similar_names(name: str, among: Iterable[str], *, n: int = 5) -> list[str]:
    """Those `among` that look most like `name`, for error messages; where none does, the first."""
    folded = {str(other).casefold(): other for other in among}
    near = difflib.get_close_matches(str(name)[:60].casefold(), folded, n, cutoff=0.5)
    return [folded[other] for other in near] or list(folded.values())[:n]


def write_whole(path: str | Path, data: bytes | memoryview) -> Path:
    """Write a file that replaces `path` when, and only when, all went well; its path.

    Whatever interrupts the writing (an error, a kill, a power cut), `path` is either the old file
    or the whole new one, and after it the new one.

    Raises:
        OSError: It cannot be written, with `path` as the file's name.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes it private
        Path(temporary).replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, temporary):
            error.filename = str(path)  # a full disk names no file
        raise
    return path


def sync_folder(folder: Path) -> None:
    """See to it that a power cut does not undo what was renamed in `folder`."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
