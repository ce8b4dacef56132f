"""A small home in which the cheap stages have run once."""

from __future__ import annotations

import pytest

from tests.faults import kills
from tests.homes import SMALL, merged, new_home

TINY = {
    "make_demo": {
        "sets": {"digits": {"num_coco": 40, "num_test": 10, "num_openimages": 12, "num_pool": 20, "image_px": 32}}
    }
}


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """(jobs, the folder that they leave); the working directory is that folder."""
    with kills.inside(new_home(tmp_path_factory.mktemp("faults"), merged(SMALL, TINY))):
        jobs = kills.jobs_of(("make_demo", *kills.CHEAP))
        yield jobs, kills.run_undisturbed(jobs)
