"""numba's compiled code, kept for the user and not for the checkout: a fresh clone compiles nothing again.

It is found by what a module says, not by where it lies: by its bytes and the numbers that it imports, which numba
freezes into the code. Versions of numba, processors and argument types numba tells apart itself.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numba
from numba.misc.appdirs import AppDirs


def njit(**options: object) -> Callable[[Callable], Callable]:
    """`numba.njit` with that cache.

    Kept in NUMBA_CACHE_DIR, else in the user's cache folder, else beside the module: the first that can be written.
    """

    def compiled(function: Callable) -> Callable:
        before = getattr(numba.config, "CACHE_LOCATOR_CLASSES", "")  # for this function alone, not for other packages'
        numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.{ByContent.__name__}"
        try:
            return numba.njit(cache=True, **options)(function)
        finally:
            numba.config.CACHE_LOCATOR_CLASSES = before

    return compiled


class ByContent:
    """Where the compiled code of one function is kept, in the words of numba's own locators."""

    def __init__(self, function: Callable, folder: Path, digest: str) -> None:
        self.function, self.folder, self.digest = function, folder, digest

    @classmethod
    def from_function(cls, function: Callable, path: str) -> ByContent | None:
        """None where no folder can be written."""
        numbers = sorted((n, v) for n, v in function.__globals__.items() if isinstance(v, int | float))
        content = Path(path).read_bytes() + repr([numbers, numba.__version__]).encode()
        digest = hashlib.sha256(content).hexdigest()
        kept = numba.config.CACHE_DIR or AppDirs("tagwright", appauthor=False).user_cache_dir
        for folder in (Path(kept) / f"{Path(path).stem}-{digest[:16]}", Path(path).parent / "__pycache__"):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=folder).close()
            except OSError:
                continue
            return cls(function, folder, digest)
        return None

    def ensure_cache_path(self) -> None:
        """It was made when it was chosen; someone may have emptied the folder since."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        """The folder."""
        return str(self.folder)

    def get_source_stamp(self) -> str:
        """What a kept file must bear to be used."""
        return self.digest

    def get_disambiguator(self) -> str:
        """Tells apart functions of one name in a module."""
        return str(self.function.__code__.co_firstlineno)
