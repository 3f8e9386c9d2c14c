"""The chain from data to a registered model, drawn: one self-contained page with one picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from components.report.canvas import shortened
from components.report.page import environment

CARD, GAP_X, GAP_Y, MARGIN = 360, 56, 34, 6
"""Widths and gaps, in the picture's own units, which are pixels on a wide screen."""
HEAD, LINE, FOOT = 38, 19, 10
LETTERS = 52
"""That fit in a line of a card."""
JUDGES = ("validate", "evaluate", "decision")
"""In the right column, beside what they judge."""
ARROWS = (
    ("data", "validate"),
    ("student", "evaluate"),
    ("validate", "evaluate"),
    ("evaluate", "decision"),
    ("decision", "version"),
)
"""Beside those from each card of the left column to the next."""


@dataclass(frozen=True, slots=True)
class Card:
    """One result, or what was made of it."""

    name: str
    """Of the step; 'decision' and 'version' beside."""
    title: str
    facts: tuple[str, ...]
    """What people want to know of it, one a line."""
    names: Mapping[str, str]
    """What names it for good, each in full."""
    cost: str = ""
    found: bool = False
    """In the store, by the run that registered the model."""


def page(
    title: str,
    subtitle: str,
    cards: Sequence[Card],
    *,
    reasons: Sequence[Mapping[str, object]],
    made_with: Mapping[str, str],
    parameters: str,
) -> str:
    """The whole HTML page; *reasons* are those of the decision, as JSON, and *parameters* YAML."""
    return (
        environment()
        .get_template("chain.html")
        .render(
            title=title,
            subtitle=subtitle,
            drawing=drawing(cards),
            cards=cards,
            reasons=reasons,
            made_with=made_with,
            parameters=parameters,
        )
    )


def drawing(cards: Sequence[Card]) -> str:
    """An <svg> element: what the model stands on in one column, and what judged it beside."""
    boxes = _places(cards)
    right, bottom = 2 * (MARGIN + CARD) + GAP_X, max(box.bottom for box in boxes.values()) + MARGIN
    arrows = [f'<path class="arrow" d="{path}" marker-end="url(#tip)"/>' for path in _arrows(boxes)]
    head = (
        f'<svg class="chain" role="img" aria-label="What the model stands on" viewBox="0 0 {right} {bottom}">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
    )
    return "\n".join([head, *arrows, *(_drawn(box) for box in boxes.values()), "</svg>"])


@dataclass(frozen=True, slots=True)
class _Box:
    card: Card
    x: int
    y: int

    @property
    def bottom(self) -> int:
        return self.y + _height(self.card)

    @property
    def centre(self) -> int:
        return self.x + CARD // 2


def _height(card: Card) -> int:
    return HEAD + LINE * (len(card.facts) + bool(card.cost)) + FOOT


def _places(cards: Sequence[Card]) -> dict[str, _Box]:
    """The left column from top to bottom; a judge stands level with what it judges, and below the judge before it."""
    boxes: dict[str, _Box] = {}
    beside = {"validate": "data", "evaluate": "student", "decision": "version"}
    y = lowest = MARGIN
    for card in (card for card in cards if card.name not in JUDGES):
        boxes[card.name] = _Box(card, MARGIN, y)
        y = boxes[card.name].bottom + GAP_Y
    for card in (card for card in cards if card.name in JUDGES):
        level = boxes[beside[card.name]].y if beside[card.name] in boxes else lowest
        boxes[card.name] = _Box(card, MARGIN + CARD + GAP_X, max(level, lowest))
        lowest = boxes[card.name].bottom + GAP_Y
    return boxes


def _arrows(boxes: Mapping[str, _Box]) -> Iterator[str]:
    stem = [name for name in boxes if name not in JUDGES]
    for source, target in (*pairwise(stem), *ARROWS):
        if source in boxes and target in boxes:
            yield _path(boxes[source], boxes[target])


def _path(source: _Box, target: _Box) -> str:
    """Down within a column; across at the height of the lower one's title."""
    if source.x == target.x:
        return f"M{source.centre} {source.bottom} V{target.y - 1}"
    y = max(source.y, target.y) + HEAD // 2
    ends = (source.x + CARD, target.x - 1) if source.x < target.x else (source.x, target.x + CARD + 1)
    return f"M{ends[0]} {y} H{ends[1]}"


def _drawn(box: _Box) -> str:
    card = box.card
    kinds = " ".join(("card", card.name, *(("found",) if card.found else ())))
    lines = [(fact, "fact") for fact in card.facts] + ([(card.cost, "cost")] if card.cost else [])
    texts = [
        f'<text class="{kind}" x="{box.x + 16}" y="{box.y + HEAD + LINE * number + 8}">{escape(shortened(text, LETTERS))}</text>'
        for number, (text, kind) in enumerate(lines)
    ]
    frame = f'<rect x="{box.x}" y="{box.y}" width="{CARD}" height="{_height(card)}" rx="8"/>'
    title = f'<text class="title" x="{box.x + 16}" y="{box.y + 24}">{escape(card.title)}</text>'
    return f'<g class="{kinds}">{frame}{title}{"".join(texts)}</g>'
