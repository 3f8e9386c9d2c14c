"""Data Docs as people keep them: readable without a network, calling nobody, with a first page that says the verdict."""

from __future__ import annotations

import html
import os
import re
import shutil
from pathlib import Path

from components.validation.report import CheckFailure, ValidationReport

INDEX = "index.html"
IMAGES = Path("static", "images")
KEPT_IMAGES = ("favicon.ico", "logo-long.png")
REMOTE_LOGO = re.compile(r"https://great-expectations-web-assets\.[^\"']*")
"""Carries the time and an id of the context to its host, so it is replaced by the local copy."""
STYLE = """<style>
body { font-family: system-ui, sans-serif; line-height: 1.4; margin: 0 auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; }
td, th { border-top: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top; }
.fa-check-circle::before { content: "\\2714"; color: #187a3c; }
.fa-times::before { content: "\\2718"; color: #b3261e; }
.critical { color: #b3261e; } .warning { color: #8a5a00; } .breadcrumb { list-style: none; padding: 0; }
</style>
"""
"""Stands first, so that Great Expectations' own sheets win where its hosts can be reached."""


def publish(site: Path, docs_dir: Path, report: ValidationReport) -> None:
    """Copy the pages that Great Expectations made in *site* to *docs_dir*, under an index of our own."""
    for page in sorted(site.rglob("*.html")):
        if page.name != INDEX:
            _copy_page(page, docs_dir / page.relative_to(site), docs_dir)
    (docs_dir / IMAGES).mkdir(parents=True, exist_ok=True)
    for name in KEPT_IMAGES:
        shutil.copyfile(site / IMAGES / name, docs_dir / IMAGES / name)
    (docs_dir / INDEX).write_text(_index(docs_dir, report), encoding="utf-8")


def _copy_page(page: Path, target: Path, docs_dir: Path) -> None:
    logo = Path(os.path.relpath(docs_dir / IMAGES / "logo-long.png", target.parent)).as_posix()
    text = REMOTE_LOGO.sub(logo, page.read_text(encoding="utf-8")).replace("<head>", "<head>\n" + STYLE, 1)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def _index(docs_dir: Path, report: ValidationReport) -> str:
    pages = "".join(
        f'<li><a href="{page.relative_to(docs_dir).as_posix()}">{_title(page.relative_to(docs_dir))}</a></li>\n'
        for page in sorted(docs_dir.rglob("*.html"), reverse=True)
        if page.name != INDEX
    )
    failures = "".join(map(_row, report.failures))
    head = "<tr><th>severity</th><th>what</th><th>expectation</th><th>expected</th><th>found</th><th>examples</th></tr>"
    table = f"<table>\n{head}\n{failures}</table>\n" if failures else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Data Docs</title>\n'
        f"{STYLE}</head>\n<body>\n<h1>{'The data may be used' if report.success else 'The data may not be used'}</h1>\n"
        f"<p>{html.escape(report.headline)}.</p>\n{table}<h2>Every check</h2>\n<ul>\n{pages}</ul>\n</body>\n</html>\n"
    )


def _title(page: Path) -> str:
    """Results lie in validations/<table>/..., suites in expectations/<table>.html."""
    return f"{page.parts[1]}: results" if page.parts[0] == "validations" else f"{page.stem}: what is expected"


def _row(failure: CheckFailure) -> str:
    cells = (
        failure.severity,
        failure.subject,
        failure.expectation,
        failure.expected,
        failure.observed,
        ", ".join(failure.examples),
    )
    inner = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    return f'<tr class="{failure.severity}">{inner}</tr>\n'
