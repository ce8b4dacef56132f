"""FiftyOne and its database, started inside the project. Importing fiftyone takes seconds: only `connect` does it.

Everything FiftyOne writes (database, settings, remote images) lies in one folder of the project, so that nothing
outside it is touched. `FIFTYONE_DATABASE_URI` puts the database elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from tasks.core.errors import ReviewError

START_S = 300
"""FiftyOne itself gives its database and its server 60 s each to start, too little on a busy machine."""
PLUGINS = Path(__file__).parent / "plugins"
"""Keys that answer (plugins/answer_keys). A folder of your own plugins is kept; link ours into it (docs/review.md)."""
OURS = "queue"
"""Key that `push` leaves in the info of each dataset that it fills."""


def connect(folder: Path) -> ModuleType:
    """The fiftyone package, connected to its database. Raises ReviewError in one line when that cannot be.

    folder: for everything that FiftyOne writes; made when it is not there.
    """
    folder = folder.resolve()
    (folder / "database").mkdir(parents=True, exist_ok=True)
    own_database = "FIFTYONE_DATABASE_URI" not in os.environ
    settings = {
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_DATABASE_DIR": str(folder / "database"),
        "FIFTYONE_DEFAULT_DATASET_DIR": str(folder / "datasets"),
        "FIFTYONE_PLUGINS_DIR": str(PLUGINS),
        "FIFTYONE_LOGGING_LEVEL": "ERROR",
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        # The packaged MongoDB is the oldest that FiftyOne takes, and it says so at every start.
        **({"FIFTYONE_DATABASE_VALIDATION": "false"} if own_database else {}),
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        with at_home(folder):
            import fiftyone
            import fiftyone.brain
            from fiftyone.core.odm import get_db_client
            from fiftyone.core.service import Service
        Service._wait_for_child_port.__defaults__ = (None, START_S)  # port, timeout
        database = get_db_client().admin  # connects, which the import alone does not do
        if own_database:
            started = database.command("getCmdLineOpts")["parsed"]["storage"]["dbPath"]
    except ImportError as error:
        raise ReviewError(f"review: FiftyOne is not installed ({error}). `pip install fiftyone` brings it.") from error
    except Exception as error:  # whatever it raises while it starts a database, the person needs the same line
        raise ReviewError(
            f"review: FiftyOne's MongoDB cannot be used ({first_sentence(error)}). Install `fiftyone-db`, or set "
            "FIFTYONE_DATABASE_URI to a running server. Verdicts can also be given with `python -m tasks verdict`."
        ) from error
    if own_database and Path(started).resolve() != Path(os.environ["FIFTYONE_DATABASE_DIR"]).resolve():
        # FiftyOne attaches to any FiftyOne of this machine, so our verdicts would end up in a stranger's database.
        raise ReviewError(f"review: another FiftyOne runs here, with the database {started}. Close it first.")
    return fiftyone


@contextmanager
def at_home(folder: Path) -> Iterator[None]:
    """FiftyOne keeps some files under the home directory and lets nobody say otherwise."""
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = before


def first_sentence(error: Exception) -> str:
    return " ".join(str(error).split()).split(". ")[0][:160] or type(error).__name__


def load_dataset(name: str, folder: Path) -> Any:
    """The dataset that was pushed under this name. Raises ReviewError when there is none, or it is somebody else's."""
    fo = connect(folder)
    if not fo.dataset_exists(name):
        raise ReviewError(f"review: the dataset '{name}' does not exist yet. Run `python -m tasks review push`.")
    dataset = fo.load_dataset(name)
    if len(dataset) and OURS not in dataset.info:
        raise ReviewError(f"review: the dataset '{name}' was not made by `push`. Set another review.dataset.")
    return dataset


def dataset_exists(name: str, folder: Path) -> bool:
    """Whether something was pushed; FiftyOne is not even started where it never was."""
    started = (folder / "database").exists() or "FIFTYONE_DATABASE_URI" in os.environ
    return started and connect(folder).dataset_exists(name)
