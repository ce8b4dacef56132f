"""Figures as text: the same in the report, the model card, messages and the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def number(value: float | None, digits: int = 3, *, undefined: str = "–") -> str:
    """With that many decimals; `undefined` for None."""
    return undefined if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """A difference with its sign and three decimals, 0.000 where they show none."""
    if value is None:
        return "–"
    return f"{value:+.3f}".replace("-", "−") if abs(value) >= 0.0005 else "0.000"


def percent(share: float, digits: int = 0) -> str:
    """A share in [0, 1] as "12 %"."""
    return f"{100 * share:.{digits}f} %"


def interval(bounds: Sequence[float | None] | None, *, to: str = "–", of: float | None = None) -> str:
    """Both ends with three decimals; "" where there is none.

    of: the mean average precision that it belongs to. Few positives raise that by chance, which the interval corrects:
    where it lies outside, the text says so.
    """
    if not bounds or bounds[0] is None or bounds[1] is None:
        return ""
    text = f"{bounds[0]:.3f} {to} {bounds[1]:.3f}"
    return text if of is None or bounds[0] <= of <= bounds[1] else f"{text} without the bias of few positives"


def duration(seconds: float | None) -> str:
    """'3.0 s', '4 min 05 s', '2 h 10 min'; '' for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{seconds:.1f} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
