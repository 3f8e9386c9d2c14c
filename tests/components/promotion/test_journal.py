"""Facts about the promotion journal, on SQLite and on PostgreSQL."""

from pathlib import Path

import pytest

from components.errors import BadInputError, JournalError, PromotionConflictError
from components.promotion.journal import Change, Journal
from tests.components.promotion.conftest import MODEL, digest


def change(number: int, **values) -> Change:
    return Change(**{"kind": "promote", "version": str(number), "digest": digest(number), "who": "ann", **values})


@pytest.fixture
def journal(journal_url: str) -> Journal:
    return Journal(journal_url)


def test_lines_come_back_as_they_were_written(journal: Journal) -> None:
    """In order, with who was champion before, the decision as it was, and what became of them."""
    first = journal.begin(MODEL, change(1, decision={"outcome": "promote", "value": 0.5}, holdout_digest="h"), after=0)
    journal.settle(first, "done")
    second = journal.begin(MODEL, change(2, kind="force", reason="it is Friday"), after=1)

    assert [(line.sequence, line.state, line.version) for line in journal.lines(MODEL)] == [
        (1, "done", "1"),
        (2, "pending", "2"),
    ]
    assert (second.previous_version, second.previous_digest) == ("1", digest(1))
    assert (first.previous_version, first.decision["value"], first.holdout_digest) == ("", 0.5, "h")
    assert (second.kind, second.reason, second.who) == ("force", "it is Friday", "ann")
    assert Journal(journal.url).lines(MODEL) == journal.lines(MODEL)


def test_models_do_not_know_each_other(journal: Journal) -> None:
    """Each has a numbering of its own."""
    journal.begin(MODEL, change(1), after=0)

    assert journal.lines("teacher") == []
    assert journal.head("teacher") is None
    assert journal.begin("teacher", change(5), after=0).sequence == 1


def test_the_second_writer_of_a_number_is_told(journal: Journal) -> None:
    """Both saw the same last line; the one who comes late changes nothing and hears who came first."""
    journal.settle(journal.begin(MODEL, change(1), after=0), "done")

    with pytest.raises(PromotionConflictError, match=r"version 1 became champion \(promote by ann"):
        journal.begin(MODEL, change(2), after=0)
    assert [line.version for line in journal.lines(MODEL)] == ["1"]


def test_the_database_lets_one_in_even_if_both_looked_before(journal: Journal, monkeypatch) -> None:
    """The look before writing is politeness; the primary key is what decides."""
    rival = Journal(journal.url)
    seen = rival.lines(MODEL)
    journal.begin(MODEL, change(1), after=0)
    real = rival.lines
    monkeypatch.setattr(rival, "lines", lambda model, answers=[seen]: answers.pop() if answers else real(model))

    with pytest.raises(PromotionConflictError, match="version 1"):
        rival.begin(MODEL, change(2), after=0)
    assert [line.version for line in journal.lines(MODEL)] == ["1"]


def test_an_undone_line_keeps_its_number_and_counts_no_more(journal: Journal) -> None:
    """The head is the last one that stands, and the next one follows all."""
    journal.settle(journal.begin(MODEL, change(1), after=0), "done")
    journal.settle(journal.begin(MODEL, change(2), after=1), "undone")
    third = journal.begin(MODEL, change(3), after=2)

    assert (third.sequence, third.previous_version) == (3, "1")
    journal.settle(third, "undone")
    assert journal.head(MODEL).version == "1"  # type: ignore[union-attr]


def test_a_holdout_counts_the_candidates_it_has_judged(journal: Journal) -> None:
    """Each once, however often it is judged, and each holdout and model for itself."""
    assert [journal.look(MODEL, "holdout", candidate) for candidate in ("a", "b", "a", "c", "b")] == [1, 2, 1, 3, 2]
    assert journal.look(MODEL, "another", "c") == 1
    assert journal.look("teacher", "holdout", "c") == 1


def test_a_database_that_is_not_there_is_said(tmp_path: Path) -> None:
    """With the way out, and without the password."""
    with pytest.raises(JournalError, match=r"at postgresql://ann:\*\*\*@127\.0\.0\.1:9/x.* does not answer"):
        Journal("postgresql://ann:secret@127.0.0.1:9/x?connect_timeout=2").lines(MODEL)
    (tmp_path / "garbage.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(JournalError, match="not a database"):
        Journal(f"sqlite:///{tmp_path}/garbage.db").lines(MODEL)


def test_another_kind_of_database_is_refused() -> None:
    """By its scheme, before anything is opened."""
    with pytest.raises(BadInputError, match="neither sqlite"):
        Journal("mysql://localhost/x")
