"""A process that asks the teacher about the chunks that it is given, one at a time; see components.soft_targets.fleet.

The first line of its standard input is the job, each further one a chunk to compute; each is answered by a line.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.artifact import Artifact
from components.contracts import NoProgress
from components.errors import PotstillError, StoreError
from components.params import Params
from components.settings import Settings
from components.worker_processes import answers, say, told_as_error

if TYPE_CHECKING:
    from components.soft_targets.teacher_pass import TeacherPass

MODULE = "components.steps.soft_targets_worker"
GIVEN_SETTINGS = {"device", "num_threads"}


def job_of(
    params: Params, settings: Settings, inputs: Mapping[str, Artifact], fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    """What a process must know, as plain data."""
    return {
        "params": params.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json", include=GIVEN_SETTINGS),
        "inputs": {name: _described(inputs[name]) for name in ("data", "teacher", "fold_teachers")},
        "fingerprint": dict(fingerprint),
    }


def _described(artifact: Artifact) -> dict[str, str]:
    return {"kind": artifact.kind, "key": artifact.key, "digest": artifact.digest, "root": str(artifact.root)}


def serve() -> None:
    """Answer until the requests end, or whoever sends them does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    stream = answers()
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    try:
        asked = _teacher_pass(json.loads(requests.get()))
        while True:
            seconds = _compute(asked, json.loads(requests.get()))
            say(stream, {"seconds": seconds})
    except PotstillError as error:
        say(stream, told_as_error(error))


def _listen(requests: queue.Queue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # nobody will ask again, and nobody waits for the chunk that is being computed


def _teacher_pass(job: Mapping[str, Any]) -> TeacherPass:
    import torch

    from components.artifacts.fingerprint import num_threads
    from components.steps.soft_targets import teacher_pass, teachers
    from components.steps.training_rows import students_set

    params, settings = Params.model_validate(job["params"]), Settings(**job["settings"])
    inputs = {name: Artifact(**{**fields, "root": Path(fields["root"])}) for name, fields in job["inputs"].items()}
    torch.set_num_threads(num_threads(settings))
    fast, _ = teachers(inputs, params.soft_targets, settings)
    taught = students_set(inputs["data"], params)
    return teacher_pass(inputs, params, taught, teacher=fast, progress=NoProgress(), fingerprint=job["fingerprint"])


def _compute(asked: TeacherPass, request: Mapping[str, Any]) -> float:
    import numpy as np

    from components.soft_targets.chunks import ChunkFiles
    from components.soft_targets.codec import codec_named
    from components.soft_targets.writer import chunk_key, make_chunk

    codec, files = codec_named(request["codec"]), ChunkFiles(Path(request["folder"]), request["key"])
    if files.key != chunk_key(asked, codec.name):
        raise StoreError("code or data changed while soft targets were made; run again")
    return make_chunk(asked, np.array(request["places"], dtype=np.int64), codec, files)


if __name__ == "__main__":
    serve()
