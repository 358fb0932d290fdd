"""The parameters of a notebook: what can be set, and whether given values fit."""

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ForwardRef, NamedTuple

from doodlelib.paths import similar_names

_MALFORMED = (  # what `json` and `ast` raise
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)


class Parameter(NamedTuple):
    """A line of a notebook's parameters cell: its type as Python writes it, and its default."""

    type: str
    default: Any


def read_parameters(notebook: str | Path) -> dict[str, Parameter]:
    """What can be set in a notebook, by name.

    Read with `ast`, since papermill's own reader passes over a type like ``int | None``.

    Raises:
        FileNotFoundError: There is no such notebook.
        ValueError: Not exactly one cell is tagged ``parameters``, or it holds anything but
            assignments of literals to names.
    """
    notebook = Path(notebook)
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8")).get("cells", [])
        tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        lines = [ast.parse("".join(cell["source"])).body for cell in tagged]
    except _MALFORMED as error:
        raise ValueError(f"{notebook.name} is no notebook: {error}") from None
    if len(lines) != 1:
        raise ValueError(f"{notebook.name} has {len(lines)} cells tagged 'parameters', not one")
    return dict(_parameter(node, notebook) for node in lines[0])


def check_parameters(notebook: str | Path, parameters: Mapping[str, Any]) -> None:
    """Refuse what the notebook does not know; papermill would only warn, and go on.

    Raises:
        ValueError: A name is not one of the notebook's parameters (the nearest are named), or a
            value is not of the type declared.
        FileNotFoundError: There is no such notebook.
    """
    notebook = Path(notebook)
    declared = read_parameters(notebook)
    for name, value in parameters.items():
        if name not in declared:
            near = similar_names(name, declared, n=3)
            raise ValueError(f"{notebook.name} has no parameter {name!r}; it has {', '.join(near)}")
        if not _fits(value, declared[name].type):
            raise ValueError(
                f"{notebook.name}: {name} must be {declared[name].type}, not {value!r}"
            )


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The parameters in a flat YAML file, ``name: value``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not YAML, or no mapping of names.
    """
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"{path} must hold lines 'name: value'")
    return values


def parse_values(notebook: str | Path, pairs: Iterable[Sequence[str]]) -> dict[str, Any]:
    """Parameters written as text, ``(name, value)``, as Python literals where the type allows.

    A value that is no literal, or whose parameter is a text (``-p name 2026``), stays text.

    Raises:
        FileNotFoundError, ValueError: See `read_parameters`.
    """
    declared = read_parameters(notebook)
    values = {}
    for name, text in pairs:
        value, kind = literal(text), declared[name].type if name in declared else "object"
        values[name] = value if _fits(value, kind) or not _fits(text, kind) else text
    return values


def literal(text: str) -> Any:
    """What `text` says as a Python literal; text that is none stays as it is."""
    try:
        return ast.literal_eval(text)
    except _MALFORMED:
        return text


def _parameter(node: ast.stmt, notebook: Path) -> tuple[str, Parameter]:
    """Name, type and default of one line of a parameters cell."""
    match node:
        case ast.AnnAssign(
            target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value
        ):
            kind = ast.unparse(annotation)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            kind = ""
        case _:
            raise ValueError(f"{notebook.name}: {ast.unparse(node)!r} among the parameters")
    try:
        default = ast.literal_eval(value)
    except _MALFORMED:
        raise ValueError(f"{notebook.name}: {name} is not set to a literal") from None
    if not kind:
        kind = "object" if default is None else type(default).__name__
    elif default is None and "None" not in kind:
        kind += " | None"
    return name, Parameter(kind, default)


def _fits(value: Any, kind: str) -> bool:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    declared: Any = ForwardRef(kind)
    try:
        TypeAdapter(declared, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError:
        return False
    return True
