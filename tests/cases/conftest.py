"""The fixture that each case starts from."""

from tests.cases.project import project

__all__ = ["project"]
