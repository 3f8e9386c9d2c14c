"""What runs again after a change: what the change can touch, and nothing else."""

import signal
import time

import pytest

pytestmark = pytest.mark.slow
ALL = ["data", "validate", "teacher", "fold_teachers", "soft_targets", "baseline", "student", "evaluate", "export"]
STUDENT_ONWARD = ["student", "evaluate", "export"]


def test_a_change_reruns_exactly_what_it_can_touch(world):
    """Nothing, words, T, a helper of the loss, one pixel, another data version: each has its own consequence."""
    assert world.computed() == ALL
    first = world.run()
    assert all(cached for cached, _ in first.values())

    world.edit("components/training/loop.py", '"""', '"""Reworded. ')
    world.edit("components/steps/teacher.py", "def _run(", "# a comment\ndef _run(")
    assert world.computed() == []

    assert world.computed("student.objective.temperature=8") == STUDENT_ONWARD
    assert world.computed("gate.floor=0.2", "registry.experiment=other") == []
    assert world.computed("teacher.train.checkpoint_seconds=9") == []

    assert world.computed("data.revision=one-pixel") == ALL
    assert world.computed("data.revision=v2") == ALL
    assert world.run() == first

    world.edit("components/objectives/kd.py", "return ", "assert True\n        return ")
    assert world.computed() == STUDENT_ONWARD[:1]  # the same numbers come out, so what follows is found


@pytest.mark.parametrize("num_kills", [10, pytest.param(50, marks=pytest.mark.soak)])
def test_kills_at_random_moments_change_nothing(world, num_kills, tmp_path_factory):
    """However often it is killed, the digests in the end are those of the undisturbed run."""
    import random
    import shutil

    expected = {name: digest for name, (_, digest) in world.run().items()}
    shutil.rmtree(world.root / "var" / "store")
    moments = random.Random(0)
    for _ in range(num_kills):
        process = world.start()
        time.sleep(moments.uniform(0.5, 6))
        process.send_signal(signal.SIGKILL)
        process.communicate()

    assert {name: digest for name, (_, digest) in world.run().items()} == expected
