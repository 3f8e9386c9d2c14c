"""The drawing of what a model stands on: a card each, within the picture, with nothing that a browser would fetch or run."""

import re

from components.report.chain import LETTERS, Card, drawing, page

CARDS = [
    Card("data", "data", ("digits at v1", "commit c0ffee"), {"digest": "d" * 64}, "0.7 s, made by run-1"),
    Card("validate", "validation", ("40 checks passed",), {"digest": "e" * 64}, "3 s, made by run-1", found=True),
    Card("teacher", "teacher", ("convnet",), {}, "8 s, made by run-1", found=True),
    Card("fold_teachers", "teachers of folds", ("3 folds",), {}, "9 s, made by run-2"),
    Card("student", "student", ("mlp, <script>alert(1)</script>",), {}, "1 s, made by run-2"),
    Card("evaluate", "evaluation", ("accuracy", "student 0.94", "teacher 0.98", "hard labels 0.93"), {}, "1 s"),
    Card("decision", "decision", ("x" * 200,), {}),
    Card("version", "students version 3", ("stands as champion",), {"digest": "f" * 64}),
]


def rectangles(svg: str) -> list[tuple[int, int, int, int]]:
    found = re.findall(r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', svg)
    return [(int(x), int(y), int(x) + int(width), int(y) + int(height)) for x, y, width, height in found]


def test_cards_lie_within_the_picture_and_not_upon_each_other() -> None:
    """Whichever steps there are."""
    for cards in (CARDS, [card for card in CARDS if card.name != "fold_teachers"]):
        svg = drawing(cards)
        boxes = rectangles(svg)
        width, height = map(int, re.findall(r'class="chain".*? viewBox="0 0 (\d+) (\d+)"', svg)[0])

        assert len(boxes) == len(cards)
        assert all(left >= 0 and right <= width and top >= 0 and bottom <= height for left, top, right, bottom in boxes)
        for place, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[place + 1 :]:
                assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_arrows_lead_to_what_was_made_of_it() -> None:
    """One from each of the left column to the next, and those of the judges."""
    assert drawing(CARDS).count('class="arrow"') == 4 + 5


def test_what_was_found_is_dashed_and_texts_are_only_text() -> None:
    """Long ones are cut in the drawing, and nothing in them is markup."""
    html = page("students version 3", "run-2", CARDS, reasons=[], made_with={"code": "abc"}, parameters="a: <b>\n")

    assert html.count(' found">') == 2
    assert "<script" not in html
    assert "a: &lt;b&gt;" in html
    assert "x" * LETTERS not in html
    assert "x" * (LETTERS // 2 - 1) in html
    assert not re.search(r"(src|href)=|https?:", html)
