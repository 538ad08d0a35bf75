"""Plots as SVG, drawn without a library: numbers in, one element out. Colours and type come from the style sheet of the page.

    strips   one lane a series   every value a dot, the middle half a box, the median a line, all on one axis
    lines    one line a series   over named groups

Series i has the class `si`. It knows numbers. It does not know metrics, meshes or files.

n  values
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from meshgpt.markup import Markup, element

COLOURS = 10
WIDTH = 400.0
LANE, TOP, AXIS = 50.0, 6.0, 24.0  # heights
MIDDLE = 32.0  # of the dots, below the top of their lane
MARGIN = 8.0  # on both sides of the lanes
DOT = 3.4
LOG_FROM = 30  # times the smallest value: from here on an axis is logarithmic
STEPS = (1, 2, 5)


class Series(NamedTuple):
    """A name, its values, and what stands at its end: its median as a text, and a note, such as how many values are missing.

    Infinite values are missing, yet count in the median and the quartiles.
    """

    name: str
    values: Float[np.ndarray, "n"]
    median: str = ""
    note: str = ""


@dataclass(frozen=True)
class Scale:
    """From numbers to places: `low` is at `start` and `high` at `end`, in pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def of(cls, values: Float[np.ndarray, "n"], start: float, end: float) -> Scale:
        """The range of finite values, with a little air; logarithmic where they are positive and of different orders."""
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        if low > 0 and high >= LOG_FROM * low:
            air = (high / low) ** 0.04
            return cls(low / air, high * air, start, end, True)
        if 0 <= low <= high / 3:
            low = 0.0
        air = 0.04 * (high - low) or abs(high) / 2 or 0.5
        return cls(low - (air if low else air / 2), high + air, start, end, False)

    def at(self, values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Places of numbers."""
        low, high, where = self.low, self.high, np.asarray(values, dtype=np.float64)
        if self.log:
            low, high, where = np.log(low), np.log(high), np.log(where)
        return self.start + (where - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers in the range, never more than `most`."""
        for candidates in self._candidates():
            inside = [float(tick) for tick in candidates if self.low <= tick <= self.high]
            if len(inside) <= most:
                return inside
        return []

    def _candidates(self) -> list[list[float]]:
        """Sets of round numbers, from fine to coarse."""
        if self.log:
            powers = range(int(np.floor(np.log10(self.low))), int(np.ceil(np.log10(self.high))) + 1)
            fine = [[_round(step, power) for power in powers for step in steps] for steps in (STEPS, (1, 3))]
            return fine + [[_round(1, power) for power in powers if power % every == 0] for every in (1, 2, 3, 5, 10, 50)]
        first = int(np.floor(np.log10(self.high - self.low))) - 1
        return [_multiples(_round(step, power), self.low, self.high) for power in range(first, first + 3) for step in STEPS]


def strips(series: Sequence[Series], title: str) -> Markup:
    """A lane for each series: dots, a box from quartile to quartile, the median as a line and as a text. `title` is read aloud."""
    values = np.concatenate([each.values for each in series])
    scale = Scale.of(values[np.isfinite(values)], MARGIN, WIDTH - MARGIN)
    bottom = TOP + LANE * len(series) + 2
    lanes = [_lane(each, scale, TOP + LANE * number, number) for number, each in enumerate(series)]
    return _picture(title, bottom + AXIS, _bottom_axis(scale, bottom), *lanes)


def lines(groups: Sequence[str], series: Sequence[Series], title: str, height: float = 220.0) -> Markup:
    """A line for each series over the groups, broken where a value is NaN; the axis of values stands on the left."""
    values = np.concatenate([each.values for each in series])
    scale = Scale.of(values[np.isfinite(values)], height - AXIS - 4, TOP + 4)
    left, right = 48.0, 24.0
    places = np.linspace(left + right, WIDTH - right, len(groups)) if len(groups) > 1 else np.array([(left + WIDTH) / 2])
    names = [_text(group, place, height - 6, "tick middle") for group, place in zip(groups, places.tolist(), strict=True)]
    drawn = [_line(each, places, scale, number) for number, each in enumerate(series)]
    return _picture(title, height, _left_axis(scale, left), *names, *drawn)


def _picture(title: str, height: float, *content: str) -> Markup:
    return element("svg", *content, viewBox=f"0 0 {WIDTH:.0f} {height:.0f}", role="img", aria_label=title, class_="plot")


# Lanes


def _lane(series: Series, scale: Scale, top: float, number: int) -> Markup:
    end = element("tspan", series.median, class_="value")
    note = [element("tspan", series.note, class_="note"), "  "] if series.note else []
    words = [_text(series.name, 0.0, top + 12, "name"), element("text", *note, end, x=WIDTH, y=top + 12, class_="end")]
    return element("g", *words, *_spread(series.values, scale, top + MIDDLE), class_=_class(number))


def _spread(values: Float[np.ndarray, "n"], scale: Scale, middle: float) -> list[Markup]:
    """Box, dots and median; what is infinite lies at the end of the lane, and has no dot."""
    if not len(values):
        return []
    ordered, last = np.sort(values), len(values) - 1
    left, right = _inside(ordered[[round(0.25 * last), round(0.75 * last)]], scale)
    drawn = [element("rect", class_="quartiles", x=left - 1, y=middle - 11, width=right - left + 2, height=22, rx=4)]
    if np.isfinite(values).any():
        drawn.append(_dots(scale.at(values[np.isfinite(values)]), middle))
    (centre,) = _inside(np.median(values, keepdims=True), scale)
    return [*drawn, element("path", class_="median", d=f"M{centre:.1f} {middle - 12:.1f}v24")]


def _inside(values: Float[np.ndarray, "n"], scale: Scale) -> list[float]:
    return scale.at(values.clip(scale.low, scale.high)).tolist()


def _class(number: int) -> str:
    return f"s{number % COLOURS}"


def _dots(places: Float[np.ndarray, "n"], middle: float) -> Markup:
    """One path of strokes without length, which round ends make dots: a tenth of the size of as many circles."""
    order = np.argsort(places, kind="stable")
    across = places[order]
    down = middle + _swarm(across)
    return element("path", class_="dots", d="".join(f"M{x:.1f} {y:.1f}h0" for x, y in zip(across.tolist(), down.tolist(), strict=True)))


def _swarm(places: Float[np.ndarray, "n"], reach: float = 10.0) -> Float[np.ndarray, "n"]:
    """How far sorted places step aside, to and fro, so that equal ones are seen."""
    column = np.floor(places / DOT)
    first = np.searchsorted(column, column)
    rank = np.arange(len(places)) - first
    step = min(DOT, 2 * reach / max(int(rank.max()), 1))
    return (rank + 1) // 2 * np.where(rank % 2, -1.0, 1.0) * step


# Lines


def _line(series: Series, places: Float[np.ndarray, "n"], scale: Scale, number: int) -> Markup:
    known = np.isfinite(series.values)
    heights = np.where(known, scale.at(np.where(known, series.values, scale.high)), np.nan)
    path, dots, pen = "", "", "M"
    for x, y, there in zip(places.tolist(), heights.tolist(), known.tolist(), strict=True):
        if there:
            path += f"{pen}{x:.1f} {y:.1f}"
            dots += f"M{x:.1f} {y:.1f}h0"
        pen = "L" if there else "M"
    drawn = [element("path", class_="line", d=path), element("path", class_="points", d=dots)] if dots else []
    return element("g", element("title", series.name), *drawn, class_=_class(number))


# Axes and text


def _bottom_axis(scale: Scale, bottom: float) -> Markup:
    ticks = scale.ticks()
    places = scale.at(np.array(ticks)).tolist()
    grid = element("path", class_="grid", d="".join(f"M{x:.1f} {TOP:.1f}V{bottom:.1f}" for x in places))
    return Markup(grid + "".join(_text(_tick(tick), x, bottom + 16, "tick middle") for tick, x in zip(ticks, places, strict=True)))


def _left_axis(scale: Scale, left: float) -> Markup:
    ticks = scale.ticks()
    places = scale.at(np.array(ticks)).tolist()
    grid = element("path", class_="grid", d="".join(f"M{left:.1f} {y:.1f}H{WIDTH:.1f}" for y in places))
    return Markup(grid + "".join(_text(_tick(tick), left - 8, y + 4, "tick end") for tick, y in zip(ticks, places, strict=True)))


def _text(text: str, x: float, y: float, class_: str) -> Markup:
    return element("text", text, x=x, y=y, class_=class_)


def _tick(value: float) -> str:
    """Three digits, no zeros behind them."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        digits, exponent = f"{value:.2e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _round(step: int, power: int) -> float:
    return float(f"{step}e{power}")


def _multiples(step: float, low: float, high: float) -> list[float]:
    return [float(f"{number * step:.12g}") for number in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
