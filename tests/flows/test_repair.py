"""`potstill artifacts repair` and `potstill targets repair`: real damage of real results, and what they leave alone."""

import json
import signal
from pathlib import Path

import pytest

from components.artifacts.artifact import Artifact, Manifest
from components.artifacts.inventory import Entry
from components.artifacts.key import make_key
from components.artifacts.store import Store
from components.params import load_params
from components.settings import Settings
from components.validation.accepted import line_of, record_accepted
from flows.repair import why_not

OTHER_TEACHER = "--set=teacher.train.epochs=7"


def only(world, kind: str) -> Path:
    """The folder of the one artifact of that kind."""
    (folder,) = (world.var / "store" / kind).glob("[!.]*")
    return folder


def flip(path: Path, place: int = -1) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:100])


def names_of(key: str, kind: str, fields: dict[str, object]) -> Entry:
    return Entry(kind, key, Manifest(kind, key, fields, (), (), "d" * 64, "distill-v1-3f2a", {}, "2026-01-01"))


def test_why_an_artifact_is_not_asked_for() -> None:
    """By what differs from the one that is, with both values; or since nobody can know."""
    asked = {"teacher": make_key("teacher", {"params": {"epochs": 6}, "inputs": {"data": "a"}})}
    ours = make_key("teacher", {"params": {"epochs": 7}, "inputs": {"data": "a"}})

    said = why_not(names_of(ours.digest, "teacher", dict(ours.fields)), asked)
    assert "made by distill-v1-3f2a" in said
    assert "differs in params.epochs: 7 -> 6" in said
    assert "cannot be read" in why_not(Entry("teacher", ours.digest, None), asked)
    assert "not in the store" in why_not(names_of(ours.digest, "student", {}), asked)
    assert "no step makes" in why_not(names_of(ours.digest, "pins", {}), asked)


@pytest.mark.slow
def test_what_is_damaged_is_made_again_bit_by_bit_the_same(world) -> None:
    """A chunk of soft targets, a model's weights and a manifest: all at once, and nothing else is computed.

    There are more rows than the writer asks about for proof whatever it does.
    """
    world.edit("params.yaml", "views: {count: 2", "views: {count: 80")
    assert world.command("stage", "student").code == 0
    assert "nothing to repair" in world.command("artifacts", "repair").out
    before = world.digests()
    targets, teacher, student = (only(world, kind) for kind in ("soft_targets", "teacher", "student"))
    flip(targets / "logits.bin")
    flip(teacher / "weights.safetensors")
    cut(student / "manifest.json")

    result = world.command("artifacts", "repair")

    assert result.code == 0, result.out + result.err
    for folder in (targets, teacher):
        assert f"made again {folder.parent.name} {folder.name[:12]}" in result.out
        assert folder.exists()
    assert f"made again student {student.name[:12]}\n" in result.out
    assert result.out.count("the same bytes") == 2
    assert result.out.count("made again") == 4
    assert "3 made again, 0 set aside, 0 damaged" in result.out
    assert world.digests() == before
    assert world.command("artifacts", "verify").code == 0
    ledger = json.loads((targets / "measured" / "ledger.json").read_text())
    header = json.loads((targets / "soft_targets.json").read_text())
    num_rows = header["num_views"] * header["num_rows"]
    in_last_chunk = num_rows % header["rows_per_chunk"] or header["rows_per_chunk"]
    assert ledger["rows_salvaged"] > 0
    assert ledger["rows_computed"] == in_last_chunk
    assert f"{ledger['rows_salvaged']:,} rows kept" in result.out
    assert world.computed() == ["validate", "baseline", "evaluate", "export"]


@pytest.mark.slow
def test_what_nobody_asks_for_stays_until_it_is_set_aside(world) -> None:
    """With the parameter that differs, and the way out; other damage is repaired all the same."""
    assert world.command("stage", "teacher", OTHER_TEACHER).code == 0
    other = only(world, "teacher")
    assert world.command("stage", "soft_targets").code == 0
    (asked,) = {*other.parent.glob("[!.]*")} - {other}
    targets = only(world, "soft_targets")
    flip(other / "weights.safetensors")
    flip(targets / "logits.bin", 0)

    assert "not of the form" in world.command("targets", "repair", "--set", "nonsense").refused_with(2)
    result = world.command("artifacts", "repair")
    assert result.code == 1
    assert f"made again soft_targets {targets.name[:12]}" in result.out
    assert f"damaged teacher {other.name[:12]}" in result.out
    assert "params.train.epochs: 7 -> 6" in result.out
    assert "artifacts show" in result.out
    assert other.exists()
    shown = world.command("artifacts", "show", other.name)
    assert shown.code == 1
    assert ["train.epochs", "7"] in [line.split() for line in shown.out.splitlines()]
    assert world.command("targets", "repair").code == 0

    aside = json.loads(world.command("artifacts", "repair", other.name, "--set-aside", "--json").out)
    assert [(each["key"], each["set_aside"]) for each in aside["left"]] == [(other.name, True)]
    assert not other.exists()
    assert asked.exists()
    assert world.command("artifacts", "repair").code == 0
    assert world.command("artifacts", "repair", "--set", OTHER_TEACHER.removeprefix("--set=")).code == 0
    assert other.exists()


@pytest.mark.slow
def test_ctrl_c_is_clean_and_the_same_command_goes_on(world) -> None:
    """Exit code 130 and one message; what had been set aside is made again by the next."""
    world.edit("params.yaml", "epochs: 6, batch_size: 32, optimizer: {learning_rate: 0.05}, checkpoint_seconds: 0",
               "epochs: 600, batch_size: 32, optimizer: {learning_rate: 0.05}, checkpoint_seconds: 3600")  # fmt: skip
    assert world.command("stage", "teacher").code == 0
    before, teacher = world.digests(), only(world, "teacher")
    flip(teacher / "weights.safetensors")
    process = world.start_command("artifacts", "repair")
    for line in process.stderr:
        if line.startswith("teacher"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert not teacher.exists()
    again = world.command("artifacts", "repair")
    assert again.code == 0
    assert f"made again teacher {teacher.name[:12]}" in again.out
    assert world.digests() == before


@pytest.mark.slow
def test_looking_at_targets_changes_nothing(world) -> None:
    """An empty store stays empty, a full one is the same to the last name, size and time, damage included."""
    store = world.var / "store"
    assert "nobody has made" in world.command("targets", "show").refused_with(2)
    assert world.command("targets", "ls").code == 0
    assert listing(store) == []
    assert world.command("stage", "soft_targets").code == 0
    line = line_of(load_params(world.root / "params.yaml"))
    note = Artifact("validate", "0" * 64, "1" * 64, only(world, "data"))
    record_accepted(Store(Settings(var_dir=world.var)), line, "2" * 64, note)
    flip(only(world, "accepted") / "entry.json")
    before = listing(store)

    for command in (("ls",), ("show",), ("show", only(world, "soft_targets").name), ("verify",)):
        assert world.command("targets", *command).code == 0

    assert listing(store) == before
    assert world.command("targets", "show", OTHER_TEACHER).code == 2
    assert listing(store) == before


def listing(store: Path) -> list[tuple[str, int, int]]:
    found = [(path, path.lstat()) for path in sorted(store.rglob("*"))]
    return [(str(path.relative_to(store)), status.st_size, status.st_mtime_ns) for path, status in found]
