"""Changes a store in a process that waits just before, so that a tracer can be put on it.

One JSON object a line on standard input: {"store": folder, "action": name}. Answers with {"pid"} of the waiting process,
and after one more line with what became of it: {"said": outcome or null, "status": of the process}.
Everything is imported and warm by then: between the two markers lie the calls of the action alone.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from components.artifacts import store as store_module
from components.artifacts.artifact import MEASURED, write_json
from components.artifacts.collection import collect
from components.artifacts.inventory import entries
from components.artifacts.key import make_key
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.errors import PotstillError
from components.settings import Settings

KEY = make_key("thing", {"a": 1})
CONTENT: Mapping[str, bytes] = {
    "weights.bin": bytes(range(251)) * 800,
    "empty": b"",
    "deep/table.bin": b"row\n" * 50,
    f"{MEASURED}/seconds.json": b"1.5",
}
BEGIN, END = "the-action-begins", "the-action-ends"


def settings_of(store: str | Path) -> Settings:
    return Settings(store=str(store), num_threads=1, device="cpu")


def write_files(out: Path) -> None:
    for name, content in CONTENT.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(content)


def commit(store: Store) -> str:
    return store.commit(KEY.kind, KEY.digest, KEY.fields, write_files).digest


def commit_with_threads(store: Store) -> str:
    """As it is done from some size on: several files are hashed at a time, and flushed meanwhile."""
    store_module.LARGE_BYTES = 1
    return commit(store)


def obtain(store: Store) -> str:
    def make(out: Path, work: Path) -> dict[str, float]:
        write_json(work / "checkpoint.json", {"step": 7})
        write_files(out)
        return {"seconds": 1.5}

    return store.obtain(KEY, make, producer="faults", progress=NoProgress()).artifact.digest


def remove(store: Store) -> str:
    found = entries(store, [KEY.kind])
    return "removed" if collect(store, found, {}).removed else "spared"


ACTIONS: Mapping[str, Callable[[Store], str]] = {
    "commit": commit,
    "obtain": obtain,
    "remove": remove,
    "commit_with_threads": commit_with_threads,
}


def outcome_of(action: Callable[[Store], str], store: Store) -> dict[str, str]:
    """What a caller gets: the result, or the name and the words of the error and whether it is one of ours."""
    try:
        return {"result": action(store)}
    except PotstillError as error:
        return {"refused": type(error).__name__, "words": str(error)}
    except BaseException as error:
        return {"untyped": type(error).__name__, "words": repr(error)}


def wait_and_act(parent: socket.socket, asked: Mapping[str, str]) -> None:
    """Talks by a socket, whose calls are none of those that faults are put into."""
    store = Store(settings_of(asked["store"]))
    parent.sendall(b"?")
    parent.recv(1)
    os.access(BEGIN, os.F_OK)
    outcome = outcome_of(ACTIONS[asked["action"]], store)
    os.access(END, os.F_OK)
    parent.sendall(json.dumps(outcome).encode())


def serve(asked: Mapping[str, str]) -> None:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            wait_and_act(theirs, asked)
        finally:
            os._exit(0)
    theirs.close()
    ours.recv(1)
    print(json.dumps({"pid": child}), flush=True)
    sys.stdin.readline()
    with ours:
        ours.sendall(b"!")
        said = ours.recv(2**16)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps({"said": json.loads(said) if said else None, "status": status}), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for action in (commit, obtain, remove):
            outcome_of(action, Store(settings_of(folder)))
    for line in sys.stdin:
        serve(json.loads(line))


if __name__ == "__main__":
    main()
