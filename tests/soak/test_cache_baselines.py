"""The same damage to a result of Prefect's, to a file of DVC's and to an artifact: who notices before it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from components.artifacts.store import Store
from tests.soak import corrupted_caches
from tests.soak.corrupted_caches import CONTENT, CORRUPTIONS, corruptions

SCRIPT = Path(corrupted_caches.__file__)
COUNT = 100
Outcomes = Iterable[tuple[str, str]]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def of(cache: str, folder: Path) -> Outcomes:
    """The outcomes that another cache had, in a process and a home of its own."""
    command = [sys.executable, str(SCRIPT), cache, str(folder), str(COUNT)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [(kind, outcome) for kind, outcome in json.loads(done.stdout.splitlines()[-1])]


def told(cache: str, outcomes: Outcomes) -> Counter[str]:
    """How often each outcome came, said by kind of damage."""
    by_kind = Counter(outcomes)
    totals = Counter[str]()
    for (_, outcome), number in by_kind.items():
        totals[outcome] += number
    shown = ", ".join(
        f"{each.__name__} {by_kind[each.__name__, 'noticed']} of {COUNT // len(CORRUPTIONS)}" for each in CORRUPTIONS
    )
    print(f"\n{cache}: {dict(totals)}; noticed: {shown}")
    assert totals.total() == COUNT
    return totals


def test_ours_notices_all(store: Store) -> None:
    """Each time the reader is told that there is no result, and what was wrong is set aside."""

    def make(out: Path) -> None:
        (out / "data.bin").write_bytes(CONTENT)

    artifact = store.commit("thing", "0" * 64, {}, make)
    outcomes = []
    for kind in corruptions(artifact.file("data.bin"), COUNT, mode=0o444):
        found = store.find("thing", artifact.key)
        outcomes.append((kind, "noticed" if found is None else "used"))
        aside = store.quarantined("thing", artifact.key)
        if aside:
            aside.rename(artifact.root)

    assert told("potstill", outcomes)["noticed"] == COUNT
    assert store.find("thing", artifact.key)


@pytest.mark.parametrize("cache", ["prefect", "dvc-writable", "dvc-protected"])
def test_others_use_damaged_bytes(tmp_path: Path, cache: str) -> None:
    """What docs/results.md says of them: where this fails, that page is out of date."""
    assert told(cache, of(cache, tmp_path))["used"] > 0


def test_what_comes_from_a_remote_is_checked_by_dvc(tmp_path: Path) -> None:
    assert told("dvc-pull", of("dvc-pull", tmp_path))["noticed"] == COUNT
