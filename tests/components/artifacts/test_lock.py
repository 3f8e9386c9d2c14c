"""Whoever leaves a lock has left it, whatever has been started meanwhile."""

import subprocess
import sys
import textwrap

FORKING = textwrap.dedent(
    """
    import os, signal, sys, time
    from pathlib import Path
    from components.artifacts import lock

    path = Path(sys.argv[1])
    with lock.held(path, wait_seconds=0, waiting=lock.refuse_to_wait):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with lock.held(path, wait_seconds=0, waiting=lock.refuse_to_wait):
            print("free")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    """
)


def test_a_child_that_was_forked_meanwhile_does_not_keep_it(tmp_path):
    """A descriptor goes on in the child, and a lock with it unless it is given back."""
    command = [sys.executable, "-c", FORKING, str(tmp_path / "lock")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.stdout == "free\n", done.stderr
