"""All benchmarks of speed and memory at a small size, in one table; `make bench`.

    OMP_WAIT_POLICY=passive python benchmarks/all.py

The drawings are those of ``DOODLELIB_QUICKDRAW_URL`` where that names a mirror on this machine, and
the embedded sample otherwise. Figures at this size say that nothing has become much slower; those
of the log come from the scripts alone, on more drawings and more often.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from doodlelib.data import sample
from doodlelib.data.dataset import prepare
from doodlelib.data.quickdraw import BASE_URL_VARIABLE, words
from doodlelib.viz.export import to_ndjson

HERE = Path(__file__).parent
SAMPLES = 150  # drawings of each word
STORE = "STORE"
RUNS = (  # a script, and what makes it small
    ("start", "--repeats", "3"),
    ("preprocess",),
    ("raster", "300"),
    ("train_step", STORE, "--repeats", "1", "--batches", "1"),
    ("sampling", "--repeats", "1", "--batches", "256"),
    ("lab", "--rounds", "5"),
    ("memory", STORE, "--drawings", "10000", "100000"),
    ("growth", STORE, "--most", "10000"),
)


def main() -> None:
    """Print what each script prints, behind its name."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        store = lay_out(Path(folder))
        for name, *arguments in RUNS:
            known = [str(store) if argument == STORE else argument for argument in arguments]
            command = [sys.executable, str(HERE / f"{name}.py"), *known]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            for line in process.stdout or ():
                print(f"{name:10} | {line.rstrip()}", flush=True)
            if process.wait():
                sys.exit(f"{' '.join(command)} failed")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"all        | {(time.perf_counter() - began) / 60:.1f} minutes, "
        f"{(used.ru_utime + used.ru_stime) / 60:.1f} of the processor"
    )


def lay_out(folder: Path) -> Path:
    """A store to train on; and a mirror of the sample, where no other is named."""
    chosen, source = words()[:10], "raw"
    if not os.environ.get(BASE_URL_VARIABLE, "").startswith("file:"):
        chosen, source = list(sample.WORDS), "sample"
        raw = folder / "full" / "raw"
        raw.mkdir(parents=True)
        for word in chosen:
            to_ndjson(sample.make_drawings(word, SAMPLES), raw / f"{word}.ndjson")
        os.environ[BASE_URL_VARIABLE] = folder.as_uri()
    out = folder / "store"
    return prepare(out, words=chosen, source=source, samples_per_class=SAMPLES, progress=False)


if __name__ == "__main__":
    main()
