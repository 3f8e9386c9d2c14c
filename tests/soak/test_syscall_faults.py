"""A kill, EIO or ENOSPC at every system call of a change of the store: the old state or the new one, never a third."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.artifact import MANIFEST, Artifact
from components.artifacts.collection import QUARANTINE
from components.artifacts.store import Store
from tests.soak import faulty_store
from tests.soak.faulty_store import BEGIN, CONTENT, END, KEY, settings_of

SCRIPT = Path(faulty_store.__file__)
STRACE = shutil.which("strace")
TRACED = "trace=%file,%desc"
MAPPING = {"mmap"}
"""Said of memory as well as of files."""
CHANGES = {"mkdir", "rename", "fsync", "write", "unlinkat", "rmdir", "chmod"}
FEW = 12
FAULTS: Mapping[str, str] = {
    "SIGKILL": "signal=SIGKILL:when={number}",
    "EIO": "error=EIO:when={number}",
    "ENOSPC": "error=ENOSPC:when={number}",
    "EIO from then on": "error=EIO:when={number}+",
    "ENOSPC from then on": "error=ENOSPC:when={number}+",
}
LINE = re.compile(r"^(\d+) +(\w+)\((.*?)(?:\) += (-?\d+|\?).*| <unfinished \.\.\.>)$")


@dataclass(frozen=True)
class Call:
    """One line of a trace: the so-and-so-many-th call of that name in its thread, from where the tracer came."""

    name: str
    number: int
    arguments: str
    returned: int

    @property
    def paths(self) -> list[Path]:
        """Whatever file it names, as a text or behind a descriptor."""
        return [Path(path) for path in re.findall(r'["<](/[^">]*)[">]', self.arguments)]


@dataclass(frozen=True)
class Seen:
    """What came of an action: what its caller got (None if it was killed), its exit status, its calls, the raw trace."""

    said: Mapping[str, str] | None
    status: int
    calls: Sequence[Call]
    trace: str


def calls_in(trace: str) -> list[Call]:
    """Those between the two markers."""
    counts, calls, within = Counter[tuple[str, str]](), [], False
    for line in trace.splitlines():
        parsed = LINE.match(line)
        if parsed is None or parsed[2] in MAPPING:
            continue
        thread, name, arguments, returned = parsed.groups()
        counts[thread, name] += 1
        if name == "access" and (BEGIN in arguments or END in arguments):
            within = BEGIN in arguments
        elif within and returned != "?":
            calls.append(Call(name, counts[thread, name], arguments, int(returned or 0)))
    return calls


class Lab:
    """A process whose children change stores under the eyes, and the faults, of strace."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "trace"
        self.server = subprocess.Popen(
            [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _ask(self, asked: Mapping[str, str]) -> Any:
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def run(self, store: Path, action: str, fault: Sequence[str] = ()) -> Seen:
        child = self._ask({"store": str(store), "action": action})["pid"]
        command = [str(STRACE), "-f", "-y", "-o", str(self.log), "-e", TRACED, *fault, "-p", str(child)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr
            attached = tracer.stderr.readline()
            answer = self._ask({})
        if "attached" not in attached:
            pytest.skip(f"strace may not trace here: {attached.strip()}")
        trace = self.log.read_text()
        return Seen(answer["said"], answer["status"], calls_in(trace), trace)

    def close(self) -> None:
        self.server.communicate()
        assert self.server.returncode == 0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if STRACE is None:
        pytest.skip("the program strace is not installed, so no fault can be put into a system call")
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


def nothing(folder: Path) -> None:
    """No store yet; of its parent neither."""


def half_of_another(folder: Path) -> None:
    """A process that is gone was killed while it staged the same, and has left a checkpoint."""
    storage = Store(settings_of(folder)).storage
    staged, work = storage.staging(KEY.kind, KEY.digest), storage.scratch(KEY.kind, KEY.digest)
    for made in (staged, work):
        (made / "half").write_text("half")
    ours, gone = f"-{os.getpid()}-", f"-{gone_process()}-"
    assert ours in staged.name
    staged.rename(staged.with_name(staged.name.replace(ours, gone)))


@cache
def gone_process() -> int:
    """The number of a process that was there."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def whole(folder: Path) -> None:
    faulty_store.commit(Store(settings_of(folder)))


def damaged(folder: Path) -> None:
    whole(folder)
    victim = folder / KEY.kind / KEY.digest / "weights.bin"
    victim.chmod(0o644)
    victim.write_bytes(CONTENT["weights.bin"][::-1])


@dataclass(frozen=True)
class Case:
    """An action on a store in some state, and what may be found afterwards."""

    action: str
    before: Callable[[Path], None]
    may_be_absent: bool
    set_aside: bool = False
    """Whether the old state is one that is moved to quarantine."""
    threads: bool = False
    """Whether it is by chance which of several threads makes a call, so that some faults never come."""


CASES = {
    "the first commit of a store": Case("commit", nothing, may_be_absent=True),
    "a commit under a key that is taken": Case("commit", whole, may_be_absent=False),
    "a step after one that was killed": Case("obtain", half_of_another, may_be_absent=True),
    "a step whose result is damaged": Case("obtain", damaged, may_be_absent=True, set_aside=True),
    "a commit with threads": Case("commit_with_threads", nothing, may_be_absent=True, threads=True),
    "a removal": Case("remove", whole, may_be_absent=True),
}


def contents(artifact: Artifact) -> dict[str, bytes]:
    files = (path for path in artifact.root.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(artifact.root).as_posix(): path.read_bytes() for path in files}


def is_expected(store: Store) -> bool:
    """Whether a reader finds the artifact; it is the right one, byte for byte, if any."""
    found = store.find(KEY.kind, KEY.digest)
    assert found is None or contents(found) == CONTENT
    return found is not None


def left_over(root: Path) -> list[str]:
    """Files and staging folders that belong to no artifact and to no lock."""
    artifact = root / KEY.kind / KEY.digest
    lock = root / ".locks" / f"{KEY.kind}-{KEY.digest}"
    found = [path for path in root.rglob("*") if not path.is_dir() or path.parent == root / KEY.kind]
    expected = (artifact, lock, root / QUARANTINE)
    return [str(path) for path in found if not any(path.is_relative_to(each) for each in expected)]


def assert_old_or_new(case: Case, root: Path, seen: Seen) -> str:
    """That a reader, and the same action again, find all in order; returns what the caller was told."""
    store = Store(settings_of(root))
    present = is_expected(store)
    assert present or case.may_be_absent
    assert (root / QUARANTINE).exists() <= case.set_aside, "a third state was seen, and set aside"
    told = "killed"
    if seen.said is not None:
        assert "untyped" not in seen.said
        told = "refused" if "refused" in seen.said else "done"
        if told == "done":
            assert present == (case.action != "remove" or seen.said["result"] == "spared")
    again = faulty_store.commit if case.action.startswith("commit") else faulty_store.obtain
    again(store)
    assert is_expected(store)
    store.storage.sweep(KEY.kind)
    assert left_over(root) == []
    return told


def fault_at(call: Call, fault: str) -> list[str]:
    return ["-e", f"inject={call.name}:{FAULTS[fault].format(number=call.number)}"]


def put_faults(
    lab: Lab, case: Case, root: Path, faults: Callable[[Sequence[Call]], Sequence[tuple[Call, str]]]
) -> tuple[Counter[str], list[str]]:
    """Each fault on a store of its own: what callers were told, and what was found wrong."""
    told, wrong = Counter[str](), list[str]()
    for call, fault in faults(undisturbed(lab, case, root)):
        seen = start_anew(lab, case, root, fault_at(call, fault))
        if ("killed by SIGKILL" if fault == "SIGKILL" else "(INJECTED)") not in seen.trace:
            assert case.threads
            told["never came"] += 1
            continue
        try:
            told[f"{fault}: {assert_old_or_new(case, root, seen)}"] += 1
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line), type(error).__name__)
            wrong.append(f"{fault} at {call.name}({call.arguments}): {reason}; the caller got {seen.said}")
    return told, wrong


def start_anew(lab: Lab, case: Case, root: Path, fault: Sequence[str] = ()) -> Seen:
    shutil.rmtree(root.parent, ignore_errors=True)
    case.before(root)
    return lab.run(root, case.action, fault)


def undisturbed(lab: Lab, case: Case, root: Path) -> Sequence[Call]:
    """The calls of the action where nothing goes wrong."""
    seen = start_anew(lab, case, root)
    assert seen.said and "result" in seen.said
    return seen.calls


def a_few(calls: Sequence[Call]) -> list[tuple[Call, str]]:
    """A dozen, spread over the calls that change the disk, each fault in turn."""
    changes = [call for call in calls if call.name in CHANGES]
    picked = changes[:: max(1, len(changes) // FEW)]
    return [(call, list(FAULTS)[place % len(FAULTS)]) for place, call in enumerate(picked)]


def all_of_them(calls: Sequence[Call]) -> list[tuple[Call, str]]:
    return [(call, fault) for call in calls for fault in FAULTS]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(a_few, id="few", marks=pytest.mark.slow),
        pytest.param(all_of_them, id="all", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_no_fault_of_a_system_call_shows_half_a_result(lab: Lab, tmp_path: Path, faults, case: Case) -> None:
    """Afterwards a reader finds all or nothing, a caller got a typed error at worst, and the next run goes on and tidies up."""
    told, wrong = put_faults(lab, case, tmp_path / "new" / "store", faults)
    print(f"\n{told.total()} faults: {dict(sorted(told.items()))}")
    assert not wrong, "\n".join([f"{len(wrong)} faults went wrong", *wrong])
    assert told.total() > len(FAULTS)
    assert told["never came"] < told.total() / 4


class Volatile:
    """Files and folders that a power cut would lose, going by a trace: changed, and not fsynced since."""

    def __init__(self) -> None:
        self.changed: set[Path] = set()

    def follow(self, call: Call) -> None:
        if call.returned < 0:
            return
        if call.name == "fsync":
            self.changed -= set(call.paths)
        elif call.name in ("write", "pwrite64", "ftruncate"):
            self.changed |= set(call.paths)
        elif call.name in ("mkdir", "rename"):
            self.changed |= {path.parent for path in call.paths}
        elif call.name == "openat" and "O_CREAT" in call.arguments:
            self.changed |= {call.paths[-1], call.paths[-1].parent}
        if call.name == "rename":
            old, new = call.paths
            self.changed = {new / path.relative_to(old) if path.is_relative_to(old) else path for path in self.changed}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["the first commit of a store", "a step after one that was killed"])
def test_all_is_on_the_disk_before_it_has_its_name_and_the_name_before_it_is_said(lab: Lab, tmp_path: Path, name: str):
    """Every file and folder is fsynced before the rename, and after it all that the name hangs on, new parents included."""
    root = tmp_path / "new" / "store"
    final = root / KEY.kind / KEY.digest
    volatile, published = Volatile(), 0
    for call in undisturbed(lab, CASES[name], root):
        if call.name == "rename" and call.paths[1] == final:
            staged, published = call.paths[0], published + 1
            assert not [path for path in volatile.changed if path.is_relative_to(staged)]
        volatile.follow(call)
    assert published == 1
    assert not volatile.changed & {*(path for path in volatile.changed if path.is_relative_to(final)), *final.parents}
