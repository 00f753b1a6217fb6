"""What a window shows for a view: texts and bars with their places, whatever it is drawn with.

Places are fractions of the window, x from the left, y from the top; sizes are fractions of its height.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from audiomnist.recording.prompter import LOUD, QUIET, View

BACKGROUND, PLAIN, FAINT = "#26262b", "#e8e8e8", "#8a8a99"
ACTIVE, BAR, TROUBLE, TEST = "#35d04f", "#66667f", "#ff9040", "#d8d040"
LINE = 76  # characters of a paragraph's line
LEVEL_RANGE = 60.0  # dB that the level meter shows


@dataclass(frozen=True)
class Text:
    x: float  # of its middle
    y: float
    text: str
    size: float = 0.035
    colour: str = PLAIN
    bold: bool = False


@dataclass(frozen=True)
class Bar:
    """A frame from x 0.08 to 0.92 around y, filled from the left."""

    y: float
    filled: float  # 0 to 1
    colour: str = BAR
    height: float = 0.035


LEFT, RIGHT = 0.08, 0.92  # of every bar


def _paragraph(text: str) -> str:
    return "\n".join(textwrap.fill(line, LINE) for line in text.split("\n"))


def picture(view: View) -> list[Text | Bar]:
    """The texts and bars of a view."""
    parts: list[Text | Bar] = []
    test = view.stage == "test"
    if view.heading:
        colour = TROUBLE if view.stage == "trouble" else TEST if test else PLAIN
        parts.append(Text(0.5, 0.11 if not view.digits else 0.38, view.heading, 0.05, colour, bold=True))
    if view.progress is not None:
        parts.append(Bar(0.24 if view.digits else 0.86, view.progress))
    if view.progress_text:
        parts.append(Text(0.5, 0.17, view.progress_text, 0.03, FAINT))
    if view.text:
        parts.append(Text(0.5, 0.38 if not view.digits else 0.66, _paragraph(view.text), 0.034))
    if view.digits:
        places = len(view.digits) + 2  # arrows before the first digit: eyes are there when it turns green
        step = (RIGHT - LEFT) / places
        lead = ACTIVE if view.stage == "pause" or (view.stage in ("series", "test") and view.active is None) else FAINT
        for place, sign in enumerate([">", ">", *map(str, view.digits)]):
            active = view.active is not None and place == view.active + 2
            colour = ACTIVE if active else lead if place < 2 else FAINT
            size = 0.16 if active else 0.08
            parts.append(Text(LEFT + step * (place + 0.5), 0.5, sign, size, colour, bold=active))
    if view.pause is not None:
        parts.append(Bar(0.64, min(view.pause, 1.0), ACTIVE))
    if view.level is not None:
        fraction = min(max(1 + view.level / LEVEL_RANGE, 0.0), 1.0)
        colour = TROUBLE if view.level > LOUD else ACTIVE if view.level > QUIET else BAR
        parts.append(Bar(0.6, fraction, colour, 0.06))
        parts.append(Text(0.5, 0.68, f"{max(view.level, -LEVEL_RANGE):.0f} dB", 0.03, FAINT))
    if view.entry is not None:
        parts.append(Text(0.5, 0.52, view.entry + "|", 0.05, ACTIVE))
    if view.notice:
        parts.append(Text(0.5, 0.76, _paragraph(view.notice), 0.034, TROUBLE))
    if view.keys:
        parts.append(Text(0.5, 0.94, view.keys, 0.026, FAINT))
    return parts
