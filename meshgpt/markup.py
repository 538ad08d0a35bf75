"""HTML and SVG as text. What enters an element is escaped unless it is markup already, so that escaping cannot be forgotten."""

from __future__ import annotations

from html import escape

VOID = {"img", "meta"}  # elements that have no end


class Markup(str):
    """Text that is HTML or SVG already."""

    __slots__ = ()


def element(name: str, /, *content: str, **attributes: str | float | int) -> Markup:
    """`<name attributes>content</name>`, everything escaped but Markup.

    Attributes go by their names with `_` for `-`, and with one at the end where Python has taken the name: `class_`, `data_value`.
    True gives one without a value; False leaves it out.
    """
    start = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items() if value is not False)}>"
    return Markup(start if name in VOID else f"{start}{joined(*content)}</{name}>")


def joined(*content: str) -> Markup:
    """One after another, everything escaped but Markup."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in content))


def _attribute(name: str, value: str | float | int) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(_number(value) if isinstance(value, float) else str(value))}"'


def _number(value: float) -> str:
    """Places in a picture, to a hundredth of a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
