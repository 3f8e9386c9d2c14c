"""The promotion journal: who became champion when and why, in SQLite or PostgreSQL; the one door to SQLAlchemy.

A line is written before any alias moves and settled after all have, so that a crash in between is seen. Lines of a model
are numbered without gaps that two writers could both fill: of several who saw the same last line, the database lets one
write the next (a compare-and-set, whatever became of locks).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.artifacts.lock import held
from components.errors import BadInputError, JournalError, PromotionConflictError
from components.tracking import without_password

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row, Table

Kind = Literal["promote", "force", "rollback", "adopt", "restore"]
State = Literal["pending", "done", "undone"]
FORMAT = 1
LOCK_SECONDS = 60.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Line:
    """One change of champion, or an attempt at one."""

    model: str
    sequence: int
    """1, 2, ... of the model."""
    kind: Kind
    state: State
    version: str
    digest: str
    """Of the artifact that the new champion was made from."""
    previous_version: str
    """'' where there was no champion."""
    previous_digest: str
    holdout_digest: str
    """That the decision was made on; '' where none was."""
    decision: Mapping[str, Any]
    """Of the gate, as JSON; empty where none was made."""
    reason: str
    """Of a person who forced, rolled back or adopted."""
    who: str
    at: str
    """When it was written, ISO 8601 in UTC."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is about to become champion."""

    kind: Kind
    version: str
    digest: str
    who: str
    holdout_digest: str = ""
    decision: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


class Journal:
    """Of all models, behind one URL. Every method raises JournalError when the database does not answer."""

    def __init__(self, url: str) -> None:
        """BadInputError for a URL of another database."""
        if not url.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
            raise BadInputError(
                f"POTSTILL_JOURNAL_URL {without_password(url)!r} is neither sqlite:///<file> nor postgresql://<host>/<database>"
            )
        self.url = url

    def lines(self, model: str) -> list[Line]:
        """Oldest first."""
        from sqlalchemy import select

        table = self._tables["promotions"]
        with self._connection() as connection:
            found = connection.execute(select(table).where(table.c.model == model).order_by(table.c.sequence))
            return [_line(row) for row in found]

    def head(self, model: str) -> Line | None:
        """The last line that took effect or is about to; None for a model that the journal does not know."""
        standing = [line for line in self.lines(model) if line.state != "undone"]
        return standing[-1] if standing else None

    def demand_last(self, model: str, after: int) -> None:
        """PromotionConflictError where the model's last settled line is not number *after*."""
        earlier = self.lines(model)
        if earlier and earlier[-1].state != "pending" and earlier[-1].sequence != after:
            raise _conflict(model, earlier[-1])

    def begin(self, model: str, change: Change, *, after: int) -> Line:
        """Write the line that follows number *after* (0: there is none), pending.

        PromotionConflictError where somebody else wrote it first: then nothing was changed.
        """
        from sqlalchemy import insert
        from sqlalchemy.exc import IntegrityError

        earlier = self.lines(model)
        last = earlier[-1].sequence if earlier else 0
        if last != after:
            raise _conflict(model, earlier[-1] if earlier else None)
        standing = [line for line in earlier if line.state == "done"]
        line = _new_line(model, after + 1, change, standing[-1] if standing else None)
        try:
            with self._connection() as connection, connection.begin():
                connection.execute(insert(self._tables["promotions"]).values(**_row(line)))
        except IntegrityError as error:
            raise _conflict(model, self.lines(model)[-1]) from error
        return line

    def settle(self, line: Line, state: State) -> None:
        """Say what became of a pending line."""
        from sqlalchemy import update

        table = self._tables["promotions"]
        chosen = update(table).where(table.c.model == line.model, table.c.sequence == line.sequence)
        with self._connection() as connection, connection.begin():
            connection.execute(chosen.values(state=state))

    def look(self, model: str, holdout_digest: str, candidate_digest: str) -> int:
        """Remember that the holdout judges this candidate, and say as the how-manieth different one."""
        from sqlalchemy import insert
        from sqlalchemy.exc import IntegrityError

        seen = {"model": model, "holdout_digest": holdout_digest, "candidate_digest": candidate_digest}
        try:
            with self._connection() as connection, connection.begin():
                connection.execute(insert(self._tables["looks"]).values(**seen, at=_now()))
        except IntegrityError:
            pass  # it was judged before, which spends nothing anew
        return self._looks(model, holdout_digest).index(candidate_digest) + 1

    def _looks(self, model: str, holdout_digest: str) -> list[str]:
        from sqlalchemy import select

        table = self._tables["looks"]
        chosen = select(table.c.candidate_digest).where(
            table.c.model == model, table.c.holdout_digest == holdout_digest
        )
        with self._connection() as connection:
            return list(connection.scalars(chosen.order_by(table.c.id)))

    @contextmanager
    def alone(self, model: str) -> Iterator[None]:
        """Hold the lock of *model*, which dies with its holder; JournalError after a minute of waiting.

        It spares the others useless work; that one wins is the database's doing.
        """
        name = sha256(f"potstill promotion {model}".encode())
        if self._file:
            path = self._file.with_name(f"{self._file.name}.{name.hexdigest()[:16]}.lock")
            with held(path, wait_seconds=LOCK_SECONDS, waiting=lambda _: None):
                yield
            return
        number = int.from_bytes(name.digest()[:8], "big", signed=True)
        with self._connection() as connection:
            self._advisory_lock(connection, number, model)
            yield  # the lock goes with the session, which ends here

    def _advisory_lock(self, connection: Connection, number: int, model: str) -> None:
        from sqlalchemy import text

        deadline = time.monotonic() + LOCK_SECONDS
        while not connection.scalar(text("select pg_try_advisory_lock(:number)"), {"number": number}):
            if time.monotonic() > deadline:
                raise JournalError(f"another promotion of {model!r} has not ended for {LOCK_SECONDS:g} s; wait for it")
            time.sleep(POLL_SECONDS)

    @property
    def _file(self) -> Path | None:
        return Path(self.url.removeprefix("sqlite:///")) if self.url.startswith("sqlite:///") else None

    @cached_property
    def _engine(self) -> Engine:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            return create_engine(self.url, poolclass=NullPool, connect_args={"timeout": LOCK_SECONDS})
        return create_engine(self.url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        from sqlalchemy.exc import DBAPIError, IntegrityError

        try:
            with self._engine.connect() as connection:
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            reason = str(error.orig).strip().splitlines()[0]
            raise JournalError(
                f"the promotion journal at {without_password(self.url)} does not answer: {reason}; start its database, or "
                "correct POTSTILL_JOURNAL_URL"
            ) from error

    @cached_property
    def _tables(self) -> Mapping[str, Table]:
        """Made where they are missing; JournalError for those of another format."""
        from sqlalchemy.exc import DBAPIError

        tables = _tables()
        with self._connection() as connection:
            try:
                tables["promotions"].metadata.create_all(connection)
                connection.commit()
            except DBAPIError:
                # Another process made them at the same moment; if not, the next statement says what is wrong.
                connection.rollback()
        return tables


def _tables() -> Mapping[str, Table]:
    from sqlalchemy import Column, Integer, MetaData, String, Table, Text, UniqueConstraint

    metadata = MetaData()
    promotions = Table(
        f"potstill_promotions_{FORMAT}",
        metadata,
        Column("model", String(255), primary_key=True),
        Column("sequence", Integer, primary_key=True, autoincrement=False),
        *(Column(name, Text, nullable=False) for name in Line.__slots__ if name not in ("model", "sequence")),
    )
    looks = Table(
        f"potstill_looks_{FORMAT}",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("model", String(255), nullable=False),
        Column("holdout_digest", String(64), nullable=False),
        Column("candidate_digest", String(64), nullable=False),
        Column("at", Text, nullable=False),
        UniqueConstraint("model", "holdout_digest", "candidate_digest"),
    )
    return {"promotions": promotions, "looks": looks}


def _new_line(model: str, sequence: int, change: Change, champion: Line | None) -> Line:
    return Line(
        model=model,
        sequence=sequence,
        kind=change.kind,
        state="pending",
        version=change.version,
        digest=change.digest,
        previous_version=champion.version if champion else "",
        previous_digest=champion.digest if champion else "",
        holdout_digest=change.holdout_digest,
        decision=change.decision,
        reason=change.reason,
        who=change.who,
        at=_now(),
    )


def _row(line: Line) -> dict[str, Any]:
    values = {name: getattr(line, name) for name in Line.__slots__}
    return {**values, "decision": json.dumps(dict(line.decision), sort_keys=True)}


def _line(row: Row[Any]) -> Line:
    values = dict(row._mapping)
    return Line(**{**values, "decision": json.loads(values["decision"])})


def _conflict(model: str, found: Line | None) -> PromotionConflictError:
    what = (
        f"version {found.version} became champion ({found.kind} by {found.who} at {found.at})" if found else "nothing"
    )
    return PromotionConflictError(
        f"{model!r} has changed since this candidate was judged: {what}. Nothing was moved; run the same command again, "
        "and the candidate is judged against the new champion"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
