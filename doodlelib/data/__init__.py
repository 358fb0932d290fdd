"""Drawings in: any file of drawings, the published Quick, Draw! data, a sample made by a program.

`read` and `read_drawings` give records one by one; `prepare` turns any source into a store on disk
(simplified, split into train, valid and test), of which `load_split` maps one split into memory.
"""

from doodlelib.data.dataset import default_words, prepare, read, sample_store
from doodlelib.data.formats import read as read_files
from doodlelib.data.quickdraw import read_drawings
from doodlelib.data.sample import SAMPLE_NOTE, make_drawings
from doodlelib.data.store import Split, load_split, read_store
from doodlelib.strokes import Record
