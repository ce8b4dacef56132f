"""Work on a part of a large matrix at a time, on every core, so that working arrays stay in the cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def map_batches(function: Callable[[slice], Result], length: int, batch_size: int) -> list[Result]:
    """`function` of each slice of `batch_size` rows or columns, in order. NumPy releases the lock, so threads do.

    Batches do not depend on each other and are the same on every machine; the number of cores changes the time only.
    """
    batches = [slice(start, min(start + batch_size, length)) for start in range(0, max(length, 1), batch_size)]
    if len(batches) == 1:  # starting threads would cost more than it saves
        return [function(batches[0])]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, batches))
