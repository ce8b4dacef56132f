"""One entry of a registry, chosen in params.yaml by its name, with a block of options for any of them:

    loss: {name: asl, asl: {gamma_neg: 4.0}, aam: {scale: 7.0}}

so that `dvc exp run -S finetune.loss.name=aam` works whatever was chosen before. The options are the keyword-only
arguments of the entry.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from tasks.core.errors import ParamsError, did_you_mean


class Choice(BaseModel):
    """One entry of a registry, with option blocks: `{name: asl, asl: {gamma_neg: 4}}`."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @model_validator(mode="after")
    def _only_blocks(self) -> Choice:
        for key, value in (self.model_extra or {}).items():
            if not isinstance(value, dict):
                known = did_you_mean(key, type(self).model_fields)
                raise ValueError(f"unknown key '{key}'. {known} Options stand in a block of their own")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The options of the chosen entry, {} when it has no block."""
        return dict((self.model_extra or {}).get(self.name) or {})

    def build(self, registry: Mapping[str, Callable], *, where: str, **context: Any) -> Any:
        """Call the chosen entry of `registry` with its options and those `context` values that its signature takes.

        where: the key in params.yaml, for messages.
        Raises ParamsError for an unknown name or option, with the nearest known one, and for a value that it refuses.
        """
        try:
            return call(registry, self.name, self.options, where=where, **context)
        except (TypeError, ValueError) as error:
            raise ParamsError(f"{where}: {self.name}: {error}") from error


def call(
    registry: Mapping[str, Callable], name: str, options: Mapping[str, Any], /, *, where: str, **context: Any
) -> Any:
    """Call `registry[name]` with `options` from params.yaml and those `context` values that its signature takes.

    Raises ParamsError for an unknown name or option, with the nearest known one.
    """
    check(registry, name, options, where=where, given=context)
    accepted = inspect.signature(registry[name]).parameters
    return registry[name](**{k: v for k, v in context.items() if k in accepted}, **options)


def check(
    registry: Mapping[str, Callable], name: str, options: Iterable[str], /, *, where: str, given: Iterable[str] = ()
) -> None:
    """Raise ParamsError for a name that `registry` lacks, or an option that its entry does not take.

    given: keyword arguments that do not come from params.yaml.
    """
    if name not in registry:
        raise ParamsError(f"{where}: {name!r} is unknown. {did_you_mean(name, registry)}")
    accepted = inspect.signature(registry[name]).parameters
    known = [n for n, p in accepted.items() if p.kind is p.KEYWORD_ONLY and n not in given]
    for key in options:
        if key not in known:
            raise ParamsError(f"{where}: {name}: unknown option {key!r}. {did_you_mean(key, known)}")
