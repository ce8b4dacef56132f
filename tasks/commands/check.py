"""Is params.yaml valid? Every section, and every name that is chosen from a registry.

The stage `code`, which every other one follows, checks all of it, and so does `python -m flows`: a mistyped letter
is told before DVC removes an output, and not after a training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter

import typer

from tasks.cleaning import POLICIES
from tasks.core import checked
from tasks.core.registry import Choice, check
from tasks.demo import DEMOS
from tasks.metrics.protocols import protocol_named
from tasks.nn.heads import HEADS
from tasks.nn.losses import LOSSES
from tasks.params import Params, load_params
from tasks.sampling import SAMPLERS
from tasks.sources import SOURCES
from tasks.sources.transfer import DOWNLOADERS
from tasks.thresholds import RULES
from tasks.training import OPTIMIZERS, SCHEDULES
from tasks.training.augment import Policy
from tasks.training.probe import check_head
from tasks.training.semi import SEMI

TRAINING = {"loss": LOSSES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES}

REGISTRIES: dict[str, Mapping[str, Callable]] = {
    "model.head": HEADS,
    **{f"{section}.{key}": registry for section in ("pretrain", "finetune") for key, registry in TRAINING.items()},
    "finetune.semi": SEMI,
    "clean.policy": POLICIES,
    "resample.sampler": SAMPLERS,
    "calibrate.rule": RULES,
}
"""Key in params.yaml -> what it chooses from."""


def check_choices(params: Params) -> None:
    """Raise ParamsError or ProtocolError for the first name or option in params.yaml that stands in no registry."""
    for key, registry in REGISTRIES.items():
        choice: Choice = attrgetter(key)(params)
        check(registry, choice.name, choice.options, where=f"params.yaml: {key}")
    if params.finetune.probe:
        check_head(HEADS[params.model.head.name])
    for name, section in (("pretrain", params.pretrain), ("finetune", params.finetune)):
        where = f"params.yaml: {name}.augment"
        Policy(section.augment, image_px=tuple(params.model.image_px), resize=params.model.resize, where=where)
    protocol_named(params.evaluate.protocol)
    for name, source in params.sources.items():
        check(SOURCES, source.kind, source.options, where=f"params.yaml: sources.{name}")
    for name, download in params.download.items():
        check(DOWNLOADERS, download.kind, download.options, where=f"params.yaml: download.{name}")
    for name, options in params.make_demo.sets.items():
        check(DEMOS, name, options, where="params.yaml: make_demo.sets", given=["seed"])


def check_params() -> None:
    """Load and check all of params.yaml, unless it was found valid before; remembers that it was."""
    state = checked.state()
    params = load_params()
    if not checked.is_valid():
        check_choices(params)
        checked.mark_valid(state)


def command() -> None:
    """Is params.yaml valid? Every section, and every name and option that is chosen from a registry.

    Example: python -m tasks check
    """
    check_params()
    typer.echo("params.yaml is valid.")
