"""Every error a user can cause, in one tree.

    TagwrightError                  exit 1, one line: where, what, what to do
    ├── ParamsError                 params.yaml or a recipe: unknown key, wrong type, value out of range
    ├── SourceError                 a raw file: missing, truncated, wrong header, contradicts itself
    ├── TableError                  a table between stages: missing, wrong schema, duplicate keys
    ├── TaxonomyError               taxonomy.yaml: cycle, unknown label, a `from:` name the source lacks
    ├── LedgerError                 rows or images disappeared without a stated reason
    ├── VerdictError                data/review/verdicts.jsonl: a line that cannot be applied
    ├── ReviewError                 the screen of `review`: FiftyOne, its database, its dataset or its port
    ├── SplitError                  a group or an image stands on both sides of a split
    ├── ModelError                  weights, backbone, head and loss that do not fit together
    │   └── NonFiniteLossError      training stopped: step, learning rate and image ids in the message
    ├── ServiceError                the address that `serve` was given cannot be used
    ├── ProtocolError               two results that must not be compared
    ├── GateError                   the regression gate refused a model
    └── PipelineError               one or more stages of a flow run failed

A programmer's mistake is an `AssertionError` or whatever Python raises, with its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TagwrightError(Exception):
    """Root of all errors with a message meant for the person at the terminal."""


class ParamsError(TagwrightError):
    """params.yaml or a recipe cannot be used as written."""


class SourceError(TagwrightError):
    """A raw annotation or image file cannot be used as it is."""


class TableError(TagwrightError):
    """A table between stages is missing or breaks its schema."""


class TaxonomyError(TagwrightError):
    """data/taxonomy/taxonomy.yaml contradicts itself or its sources."""


class LedgerError(TagwrightError):
    """A stage lost rows, or made some, without saying why."""


class VerdictError(TagwrightError):
    """A review verdict cannot be read or applied."""


class ReviewError(TagwrightError):
    """FiftyOne, its database, its dataset or its port cannot be used."""


class SplitError(TagwrightError):
    """An image or a duplicate group would stand on both sides of a split."""


class ModelError(TagwrightError):
    """Backbone, head, loss, weights and resolution do not fit together."""


class NonFiniteLossError(ModelError):
    """The loss became infinite or NaN; the message holds step, learning rate and image ids."""


class ServiceError(TagwrightError):
    """The address that `serve` was given cannot be used."""


class ProtocolError(TagwrightError):
    """Two results were measured differently and must not be compared."""


class GateError(TagwrightError):
    """The new model is worse than the accepted one by more than the stated tolerance."""


class PipelineError(TagwrightError):
    """At least one stage of a flow run failed; the message names each."""


def did_you_mean(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """A sentence with the nearest known names, or with all of a short list; '' when nothing is known.

    name: what was found.  known: what would have been accepted.
    """
    known = sorted({str(k) for k in known})
    near = difflib.get_close_matches(name, known, n=most, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(repr(n) for n in near)}?"
    if not known:
        return ""
    shown = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
    return f"Known: {shown}."
