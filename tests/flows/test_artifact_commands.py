"""`potstill artifacts` and `potstill targets`: what they show, what they find, how they end; and that they are light."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from components.artifacts.artifact import Artifact
from components.artifacts.key import make_key
from components.artifacts.ledger import Saving, record
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.errors import BadInputError, ServerError
from components.settings import Settings
from flows.artifact_tables import size
from flows.cli import app

HEAVY = ("torch", "prefect", "great_expectations", "mlflow", "dvc", "boto3", "pandas")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The one that the commands look at."""
    monkeypatch.setenv("POTSTILL_VAR_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return Store(Settings())


def add(store: Store, kind: str, text: str = "text", **inputs: str) -> Artifact:
    def make(out: Path, work: Path) -> dict[str, float]:
        (out / "a.txt").write_text(text)
        return {"seconds": 41.0}

    key = make_key(kind, {"text": text, "inputs": inputs})
    return store.obtain(key, make, producer="distill-[v1]-3f2a", progress=NoProgress()).artifact


def damage(artifact: Artifact) -> None:
    artifact.file("a.txt").chmod(0o644)
    artifact.file("a.txt").write_text("tExt")


def potstill(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_an_empty_store_is_no_error(store: Store) -> None:
    for command in ("artifacts", "targets"):
        result = potstill(command, "ls")
        assert result.exit_code == 0
        assert "yet" in result.stdout


def test_every_artifact_is_a_row_that_fits(store: Store) -> None:
    """Size, cost and the producer's name as it is, brackets included."""
    teacher = add(store, "teacher")
    add(store, "evaluate", teacher=teacher.digest)

    lines = potstill("artifacts", "ls").stdout.splitlines()

    (row,) = [line for line in lines if line.startswith("teacher")]
    assert row.split()[1:4] == [teacher.key[:8], teacher.digest[:8], "4"]
    assert "distill-[v1]-3f2a" in row
    assert "41 s" in row
    assert lines[-1 if lines[-1] else -2].startswith("2 artifacts, 8 B in ")
    assert max(len(line) for line in lines if not line.startswith("2 art")) <= 80


def test_programs_get_everything_whole(store: Store) -> None:
    teacher = add(store, "teacher")

    (row,) = json.loads(potstill("artifacts", "ls", "--json").stdout)

    assert (row["key"], row["digest"], row["bytes"], row["cost_seconds"]) == (teacher.key, teacher.digest, 4, 41.0)
    assert json.loads(potstill("artifacts", "show", teacher.key, "--json").stdout)["manifest"]["key"] == teacher.key
    assert json.loads(potstill("artifacts", "verify", "--json").stdout)["artifacts"][0]["problems"] == []


def test_what_the_store_saved_is_told_by_kind(store: Store) -> None:
    for kind, rows in (("soft_targets", 31_200), ("teacher", 0)):
        artifact = add(store, kind)
        record(store.storage.root, Saving("2026-01-01T00:00:00+00:00", "a", kind, artifact.key, True, 41.0, rows, 4))

    assert (
        "The cache saved 1:22 of computing and 31,200 teacher rows: 2 hits, 8 B" in potstill("artifacts", "ls").stdout
    )
    assert "The cache saved 41 s of computing and 31,200 teacher rows: 1 hit, 4 B" in potstill("targets", "ls").stdout
    assert "teacher rows" not in potstill("artifacts", "ls", "--kind", "teacher").stdout


def test_a_kind_that_is_not_there_is_bad_input(store: Store) -> None:
    add(store, "teacher")

    with pytest.raises(BadInputError, match="holds no 'teechers', only: teacher"):
        potstill("artifacts", "ls", "--kind", "teechers")


def test_show_says_where_an_artifact_comes_from(store: Store) -> None:
    """An input that is there by its key, one that is not as gone."""
    teacher = add(store, "teacher")
    student = add(store, "student", teacher=teacher.digest, data="d" * 64)

    result = potstill("artifacts", "show", student.key[:10])

    assert result.exit_code == 0
    assert f"key {teacher.key[:12]}" in result.stdout
    assert "gone from the store" in result.stdout
    assert "distill-[v1]-3f2a" in result.stdout


def test_verify_ends_with_what_it_found(store: Store) -> None:
    """0 for whole ones, 1 as soon as one is damaged, which stays where it is."""
    damaged = add(store, "teacher")
    whole = add(store, "student", teacher=damaged.digest)
    assert potstill("artifacts", "verify").exit_code == 0
    damage(damaged)

    result = potstill("artifacts", "verify")

    assert result.exit_code == 1
    assert f"damaged teacher {damaged.key[:12]}" in result.stdout
    assert "a.txt has other content" in result.stdout
    assert potstill("artifacts", "verify", whole.key).exit_code == 0
    assert potstill("artifacts", "show", damaged.key).exit_code == 1
    assert damaged.root.exists()


def test_targets_are_soft_targets_alone(store: Store) -> None:
    teacher = add(store, "teacher")

    with pytest.raises(BadInputError, match="begins with"):
        potstill("targets", "show", teacher.key)


@pytest.mark.parametrize("command", ["artifacts", "targets"])
def test_the_list_is_light(store: Store, command: str) -> None:
    """No library that takes seconds to import."""
    add(store, "soft_targets")
    code = (
        f"import sys; sys.argv = ['potstill', {command!r}, 'ls']\n"
        "from flows.cli import main\n"
        "try:\n    main()\nfinally:\n"
        f"    print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())

    assert done.stdout.splitlines()[-1] == "[]"
    assert "soft_targets" in done.stdout


@pytest.mark.slow
def test_soft_targets_of_a_run_are_found_shown_and_asked_again(world) -> None:
    """Without a key, those of params.yaml; a flipped byte is placed in its chunk; bad input is one message."""
    assert "nobody has made" in world.command("targets", "show").refused_with(2)
    assert world.command("stage", "soft_targets").code == 0

    shown = world.command("targets", "show")
    assert shown.code == 0, shown.err
    assert "Mean KL to the teacher in nats" in shown.out
    asked = world.command("targets", "verify", "--live", "50", "--seed", "3")
    assert asked.code == 0, asked.out + asked.err
    assert "50 random rows (seed 3)" in asked.out

    (logits,) = (world.var / "store" / "soft_targets").glob("*/logits.bin")
    logits.chmod(0o644)
    content = bytearray(logits.read_bytes())
    content[-1] ^= 1
    logits.write_bytes(content)
    damaged = world.command("targets", "verify", "--live", "50")
    assert damaged.code == 1
    num_chunks = len(json.loads(logits.with_name("soft_targets.json").read_text())["chunk_sha256"])
    assert num_chunks > 3
    assert f"1 of {num_chunks} chunks damaged: {num_chunks - 1}" in damaged.out
    assert "random rows" not in damaged.out
    assert "is no key" in world.command("targets", "verify", "nonsense").refused_with(2)


def test_gc_shows_first_and_removes_after_a_yes(store: Store) -> None:
    """What is young stays without being asked for; a pin keeps the rest."""
    data = add(store, "data")
    student = add(store, "student", data=data.digest)
    assert "nothing to free" in potstill("artifacts", "gc", "--without-registry").stdout
    old = ("artifacts", "gc", "--without-registry", "--keep-days", "0")

    shown = potstill(*old)
    assert "2 artifacts of 2 and 0 leftovers: 8 B to free" in shown.stdout
    assert "nothing is removed without --yes" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80

    potstill("artifacts", "pin", student.key, "--note", "for a paper")
    assert "nothing to free" in potstill(*old, "--yes").stdout
    potstill("artifacts", "unpin", student.key)
    assert "freed 8 B" in potstill(*old, "--yes").stdout
    assert store.find("data", data.key) is None
    assert store.find("student", student.key) is None


def test_pins_are_listed_with_their_notes(store: Store) -> None:
    """Also one whose artifact is gone; a long note is wrapped, nothing else."""
    assert "is pinned" in potstill("artifacts", "pins").stdout
    kept, gone = add(store, "teacher"), add(store, "student")
    note = "figure 3 of the paper on [small] students, which is still under review and may be for long"
    potstill("artifacts", "pin", kept.key, "--note", note)
    potstill("artifacts", "pin", gone.key)
    gone.root.rename(store.storage.root / "elsewhere")

    text = potstill("artifacts", "pins").stdout

    rows = {line.split()[0]: line.split() for line in text.splitlines()[1:] if line[0] != " "}
    assert rows["teacher"][1:4] == [kept.key[:8], "4", "B"]
    assert rows["student"][1:3] == [gone.key[:8], "gone"]
    assert "[small]" in text
    assert max(map(len, text.splitlines())) <= 80
    listed = json.loads(potstill("artifacts", "pins", "--json").stdout)
    assert {(pin["kind"], pin["key"], pin["note"]) for pin in listed} == {
        ("teacher", kept.key, note),
        ("student", gone.key, ""),
    }


@pytest.mark.parametrize(
    ("answer", "stays"), [("y\n", False), ("yes\n", False), ("n\n", True), ("\n", True), ("\x04", True)]
)
def test_gc_asks_the_person_at_the_terminal(store: Store, answer: str, stays: bool) -> None:
    """Only a yes removes; the end of the input is none."""
    teacher = add(store, "teacher")
    person, terminal = pty.openpty()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("potstill"), "artifacts", "gc", "--without-registry", "--keep-days", "0"],
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(terminal)
    shown = read_until(person, "[y/N]")
    os.write(person, answer.encode())
    shown += read_until(person, "removed" if stays else "freed")
    os.close(person)

    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 0
    assert "1 artifact of 1 and 0 leftovers: 4 B to free" in shown
    assert (store.find("teacher", teacher.key) is not None) == stays


def read_until(terminal: int, text: str) -> str:
    shown = ""
    while text not in shown:
        shown += os.read(terminal, 4096).decode()
    return shown


def test_gc_goes_on_beside_an_older_version(store: Store) -> None:
    """What an older version made is named as such, and judged like everything else."""
    older, newer = add(store, "teacher"), add(store, "teacher", "new")
    age_manifest(older)

    (row,) = [line for line in potstill("artifacts", "ls").stdout.splitlines() if older.key[:8] in line]
    assert "older version" in row
    assert "unreadable" not in row
    assert potstill("artifacts", "verify").exit_code == 0
    assert "older version (schema 1)" in potstill("artifacts", "show", older.key).stdout
    potstill("artifacts", "pin", newer.key)
    shown = potstill("artifacts", "gc", "--without-registry", "--keep-days", "0", "--yes")

    assert shown.exit_code == 0
    assert "freed 4 B" in shown.stdout
    assert not older.root.exists()
    assert newer.root.exists()


def age_manifest(artifact: Artifact) -> None:
    """As it was before manifests had a seal."""
    path = artifact.root / "manifest.json"
    raw = json.loads(path.read_text())
    del raw["seal"]
    raw["schema"] = raw["fields"]["schema"] = 1
    path.write_text(json.dumps(raw))


def test_gc_of_a_bucket_keeps_two_days(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Since uses are marked once a day there; refused before anything is asked."""
    monkeypatch.setenv("POTSTILL_VAR_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("POTSTILL_STORE", "s3://nobody/prefix")
    variables = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    for days in ("0", "1"):
        with pytest.raises(BadInputError, match="once in 24 hours.*--keep-days must be 2 or more"):
            potstill("artifacts", "gc", "--without-registry", "--keep-days", days)


def test_leftovers_are_named_by_what_they_are_of(store: Store) -> None:
    """Kind, key and what they are; no row is wider than the terminal."""
    damaged = add(store, "soft_targets")
    store.storage.quarantine("soft_targets", damaged.key)
    (store.storage.scratch("soft_targets", "e" * 64) / "chunk").write_bytes(bytes(2**20 - 1))

    shown = potstill("artifacts", "gc", "--without-registry", "--keep-days", "0").stdout

    copy, work = [line.split() for line in shown.splitlines()[1:3]]
    assert sorted([copy[:2], work[:2]]) == sorted([["soft_targets", damaged.key[:8]], ["soft_targets", "e" * 8]])
    assert "unfinished work" in shown
    assert "damaged copy" in shown
    assert "1.0 MiB" in shown
    assert max(map(len, shown.splitlines())) <= 80


@given(st.integers(0, 2**60))
def test_a_size_has_at_most_four_digits_before_the_point(num_bytes: int) -> None:
    """And is within half of its last digit."""
    number, unit = size(num_bytes).split()
    factor = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}[unit]

    assert float(number) < 1024 or unit == "TiB"
    assert abs(float(number) * factor - num_bytes) <= 0.0501 * factor


def test_gc_of_targets_leaves_the_rest(store: Store) -> None:
    targets, teacher = add(store, "soft_targets"), add(store, "teacher")

    potstill("targets", "gc", "--without-registry", "--keep-days", "0", "--yes")

    assert store.find("soft_targets", targets.key) is None
    assert store.find("teacher", teacher.key) is not None


def test_gc_removes_nothing_while_the_registry_does_not_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = add(store, "teacher")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    with pytest.raises(ServerError, match="nothing is removed.*--without-registry") as raised:
        potstill("artifacts", "gc", "--keep-days", "0", "--yes")

    assert raised.value.exit_code == 1
    assert store.find("teacher", teacher.key) is not None
