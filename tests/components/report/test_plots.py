"""The figures: what is left out, what is chosen, what the files are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.evaluation.metrics import log_softmax
from components.report import canvas, plots
from components.report.disagreements import disagreements
from components.report.page import write_plots


def test_every_figure_is_a_picture(written, tmp_path: Path) -> None:
    """Opaque, of the size meant for screens."""
    found = write_plots(tmp_path, written[0])
    names = {path.stem for path in found}
    assert {"learning_curve_losses", "confusion_student", "reliability_teacher", "disagreement_1"} <= names
    for path in found:
        with Image.open(path) as picture:
            assert picture.width > 500
            assert np.asarray(picture.convert("RGBA"))[..., 3].min() == 255


def test_equal_places_are_drawn_apart() -> None:
    """Two students of one size do not hide each other."""
    moved = canvas.apart([100.0, 20.0, 20.0])
    assert moved[:2] == [100.0, 20.0]
    assert moved[2] > 20.0


@pytest.mark.parametrize(("value", "text"), [(0.05, "0.05"), (950, "950"), (20_000, "20k"), (1_500_000, "1.5M")])
def test_short_numbers(value: float, text: str) -> None:
    """As on the axes."""
    assert canvas.short_number(value) == text


def test_long_names_keep_both_ends() -> None:
    """Two classes that begin alike stay apart."""
    assert canvas.shortened("automobile", 12) == "automobile"
    assert canvas.shortened("card_payment_wrong_exchange_rate_67", 12) == "card_…ate_67"


def test_losses_without_a_distillation_part(make_report) -> None:
    """An arm without it draws the others; no history draws nothing."""
    figure = plots.losses([{"epoch": 0, "loss_total": 1.0, "loss_distillation": None, "loss_hard": 1.0}])
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["hard labels", "total"]
    assert plots.losses([]) is None


def test_disagreements_are_the_worst_first(make_report) -> None:
    """Different predictions only, by divergence at the objective's temperature, as softened probabilities."""
    report = make_report()
    found = disagreements(report, limit=4)
    student, teacher = report.logits("student"), report.logits("teacher")
    assert len(found) == 4
    for one in found:
        assert one.student_says != one.teacher_says
        assert one.student_says == student[one.row].argmax()
        assert one.teacher == pytest.approx(np.exp(log_softmax(teacher[[one.row]], temperature=4.0))[0])
        assert one.student.sum() == pytest.approx(1.0)
    divergences = [float((one.teacher * np.log(one.teacher / one.student)).sum()) for one in found]
    assert divergences == sorted(divergences, reverse=True)


def test_a_student_that_repeats_its_teacher_has_no_disagreements(make_report) -> None:
    """Nothing is shown in their place."""
    report = make_report(teacher=50.0, student=50.0)
    assert disagreements(report) == ()


def test_inline_pictures_take_the_colour_of_the_page(make_report) -> None:
    """Ink becomes currentColor, and no document wrapper or namespace is left."""
    text = canvas.inline_svg(plots.losses(make_report().history("student")), "losses & more")
    assert text.startswith('<svg role="img" aria-label="losses &amp; more"')
    assert "currentColor" in text
    assert canvas.INK not in text
    assert "xmlns" not in text
