"""The journal says what was saved, whoever writes at once and whatever was cut off."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.artifact import MEASURED, Artifact, write_json
from components.artifacts.key import make_key
from components.artifacts.ledger import JOURNAL, REUSE, Saved, Saving, record, saving_of, savings, total
from components.artifacts.store import Store
from components.contracts import NoProgress

NOTHING_REUSED = {"rows_computed": 100, "rows_resumed": 0, "rows_salvaged": 0, "rows_reused": 0}


def made(store: Store, reuse: dict[str, Any] | None = None) -> Artifact:
    def make(out: Path, work: Path) -> dict[str, float]:
        (out / "a.txt").write_text("four")
        if reuse is not None:
            write_json(out / MEASURED / REUSE, reuse)
        return {"seconds": 41.0}

    return store.obtain(make_key("teacher", {}), make, producer="a", progress=NoProgress()).artifact


def saving(run: str = "a", seconds: float = 1.5) -> Saving:
    return Saving("2026-01-01T00:00:00+00:00", run, "teacher", "0" * 64, True, seconds, 10, 4)


def test_a_hit_saves_what_the_result_had_cost(store: Store) -> None:
    found = saving_of(made(store), hit=True, run="b")

    assert found is not None
    assert (found.run, found.seconds, found.teacher_rows, found.num_bytes) == ("b", 41.0, 0, 4)


def test_a_result_computed_from_nothing_saves_nothing(store: Store) -> None:
    assert saving_of(made(store, NOTHING_REUSED), hit=False, run="b") is None


def test_found_soft_targets_save_every_row(store: Store) -> None:
    """Those too that had been reused when they were made: this run would have asked about all."""
    found = saving_of(made(store, NOTHING_REUSED | {"rows_reused": 30}), hit=True, run="b")

    assert found is not None
    assert found.teacher_rows == 130


def test_partly_reused_soft_targets_save_the_rows_they_had(store: Store) -> None:
    reuse = NOTHING_REUSED | {"rows_reused": 30, "rows_salvaged": 5, "seconds_saved_estimate": 0.7}
    found = saving_of(made(store, reuse), hit=False, run="b")

    assert found is not None
    assert (found.hit, found.teacher_rows, found.seconds, found.num_bytes) == (False, 35, 0.7, 0)


def test_many_write_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: record(tmp_path, saving(run=str(number))), range(200)))

    assert {each.run for each in savings(tmp_path)} == {str(number) for number in range(200)}
    assert total(savings(tmp_path)) == Saved(hits=200, seconds=300.0, teacher_rows=2000, num_bytes=800)


@pytest.mark.parametrize("kept", [1, 20, 150])
def test_a_line_that_was_cut_off_spoils_no_other(kept: int, tmp_path: Path) -> None:
    record(tmp_path, saving("first"))
    record(tmp_path, saving("cut off"))
    journal = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(journal[: len(journal) // 2 + kept])
    record(tmp_path, saving("last"))

    assert [each.run for each in savings(tmp_path)] == ["first", "last"]


def test_no_journal_is_no_savings(tmp_path: Path) -> None:
    assert not total(savings(tmp_path))


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    record(tmp_path / "absent", saving())

    assert list(savings(tmp_path / "absent")) == []


def test_a_line_is_json_for_other_programs(tmp_path: Path) -> None:
    record(tmp_path, saving())

    assert json.loads((tmp_path / JOURNAL).read_text())["teacher_rows"] == 10
