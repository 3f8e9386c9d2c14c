"""The page: self-contained, well-formed, deterministic, complete, and safe with what users write."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from components.report.page import to_markdown, write_report

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Tags(HTMLParser):
    """Checks that every tag is closed in order; collects text and the addresses that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes) -> None:
        self.addresses += [value for name, value in attributes if name in {"src", "href", "xlink:href"} and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes) -> None:
        self.addresses += [value for name, value in attributes if name in {"src", "href", "xlink:href"} and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(page: Path) -> Tags:
    tags = Tags()
    tags.feed(page.read_text(encoding="utf-8"))
    assert not tags.open
    return tags


def test_nothing_is_loaded_from_elsewhere(written) -> None:
    """No address with a scheme but data: pictures and styles are inline, and there are no scripts."""
    text = written[1].read_text(encoding="utf-8")
    assert not re.search(r"https?:", text)
    assert "<script" not in text
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in parsed(written[1]).addresses)


def test_every_section_is_there(written) -> None:
    """From the decision to the costs."""
    assert re.findall(r"<h2>(.*?)</h2>", written[1].read_text(encoding="utf-8")) == [
        "What was decided",
        "The table",
        "What distillation gave",
        "Size, speed and accuracy",
        "Learning curves",
        "Calibration",
        "Confusion",
        "Where student and teacher disagree",
        "By class",
        "Soft targets",
        "Where it comes from",
        "What it cost",
    ]


def test_the_same_input_is_the_same_bytes(written, tmp_path: Path) -> None:
    """Written again somewhere else, page and Markdown do not differ in a byte."""
    report, page = written
    again = write_report(tmp_path / "again", report)
    assert again.read_bytes() == page.read_bytes()
    assert again.with_suffix(".md").read_bytes() == page.with_suffix(".md").read_bytes()


def test_the_decision_and_its_reasons_are_shown(written) -> None:
    """The headline, and every bound with its reason."""
    report, page = written
    text = " ".join(parsed(page).text)
    assert "Promoted: this student is the champion" in text
    assert all(reason.text in text for reason in report.decision.reasons)


def test_cached_steps_say_what_they_saved(written) -> None:
    """3.2 - 0.1 + 96 - 0.1 seconds."""
    text = " ".join(parsed(written[1]).text)
    assert "2 of 3 steps came from the store, which saved 1 min 39 s." in text


def test_an_evaluation_alone_is_enough(make_report, tmp_path: Path) -> None:
    """Without models, data, decision, lineage or steps the sections about them are left out."""
    report = make_report()
    alone = dataclasses.replace(
        report, artifacts={"evaluate": report.evaluation}, decision=None, lineage={}, steps=(), links={}
    )
    page = write_report(tmp_path / "report", alone)
    text = " ".join(parsed(page).text)
    assert "The gate has not been asked" in text
    for absent in ("Learning curves", "Soft targets", "What it cost"):
        assert absent not in text


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("promote", "Promoted"), ("refuse", "Refused: 1 of 3 bounds broken"), ("already_champion", "champion already")],
)
def test_markdown_says_what_was_decided(make_report, outcome: str, words: str) -> None:
    """The headline, and every bound, kept or broken."""
    report = make_report(outcome=outcome)
    text = to_markdown(report)
    assert words in text
    assert all(reason.text in text for reason in report.decision.reasons)


def test_markdown_says_what_it_is_about_and_where_to_look(make_report) -> None:
    """Data version, models and objective on top; links that can be followed below; no entities, which Prefect shows."""
    report = dataclasses.replace(make_report(), links={"MLflow run": "http://localhost:5000/#/1", "bad": "file:///etc"})
    lines = to_markdown(report).splitlines()
    params = report.params
    assert lines[0] == f"# Distillation report: {params.registry.student}"
    assert lines[2].startswith(f"{params.data.path} at {params.data.revision} · teacher {params.teacher.model.name}")
    assert lines[-1] == "[MLflow run](http://localhost:5000/#/1)"
    assert "&nbsp;" not in "".join(lines)


def test_what_users_write_is_no_markup(make_report, tmp_path: Path) -> None:
    """Class names, lineage and links are escaped and no formulas; only http addresses become links."""
    nasty = "<script>alert(1)</script>"
    report = make_report(class_names=(nasty, "$\\frac{$", "数字", "d"))
    report = dataclasses.replace(
        report, lineage={"note": nasty}, links={"run": "http://localhost:5000/#/run/1", "bad": "javascript:alert(1)"}
    )
    page = write_report(tmp_path / "report", report)
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert nasty in " ".join(parsed(page).text)
    assert re.findall(r'href="([^#][^"]*)"', re.sub(r"xlink:href", "x", text)) == ["http://localhost:5000/#/run/1"]


def test_many_classes_and_colour_pictures(make_report, tmp_path: Path) -> None:
    """77 long names, three channels, one epoch: drawn without a warning."""
    names = tuple(f"card_payment_wrong_exchange_rate_{number}" for number in range(77))
    samples = np.random.default_rng(0).integers(0, 256, (300, 3, 8, 8), dtype=np.uint8)
    labels = np.random.default_rng(1).integers(0, 77, 300)
    report = make_report(class_names=names, samples=samples, labels=labels)
    assert parsed(write_report(tmp_path / "report", report)).text


def test_texts_can_be_read(make_report, tmp_path: Path) -> None:
    """Samples that are texts stand above what both models say of them; pictures have nothing to be quoted."""
    from dataclasses import replace

    from components.params import Params
    from components.report.page import example_figures

    samples = np.zeros((400, 32), dtype=np.uint8)
    samples[:, :13] = np.frombuffer(b"$where$ is it", dtype=np.uint8)
    report = make_report(samples=samples)
    workload = {"name": "text_classification"}
    read = replace(report, params=Params.model_validate({**report.params.model_dump(), "workload": workload}))

    titles = [" ".join(figure.get_suptitle().split()) for figure in example_figures(read).values()]
    assert titles
    assert all(title.startswith("“$where$ is it” label ") for title in titles)
    assert all(figure.get_suptitle().startswith("label ") for figure in example_figures(make_report()).values())


def test_a_black_box_has_no_size(make_report, tmp_path):
    """Nobody knows it: no ratio, no plot against parameters, and the page is written all the same."""
    from components.artifacts.artifact import write_json
    from components.report.plots import figures
    from components.report.table import NOTHING, final_table

    report = make_report()
    unknown = {"num_parameters": 0, "weight_bytes": 0}
    changed = {**report.metrics, "teacher": {**report.metrics["teacher"], **unknown}}
    write_json(report.evaluation.file("metrics.json"), changed)
    sizes = {line.label: line for line in final_table(report).lines if line.label in ("parameters", "weights on disk")}

    assert [(line.values[0], line.change) for line in sizes.values()] == [(NOTHING, "")] * 2
    assert "accuracy_by_parameters" not in figures(report)
    assert write_report(tmp_path / "report", report).exists()
