"""Words of a model by their numbers."""

import difflib
from collections.abc import Sequence


def numbers_of(word: str | Sequence[str], n: int, *, among: Sequence[str]) -> list[int]:
    """Of the one word for all of `n` drawings, or of as many words, their places `among` the known.

    Raises:
        ValueError: A word is not known, with some that look alike; or there are not `n`.
    """
    wanted = [word] * n if isinstance(word, str) else list(word)
    if len(wanted) != n:
        raise ValueError(f"{len(wanted)} words for {n} drawings")
    for name in wanted:
        if name not in among:
            near = difflib.get_close_matches(name, among, n=5, cutoff=0.4)
            near = ", ".join(near or among[:10])
            raise ValueError(
                f"the model does not know {name!r}; of its {len(among)} words try {near}"
            )
    return [among.index(name) for name in wanted]
