"""What a plan says of a run before it happens."""

import pytest


@pytest.mark.slow
def test_a_teacher_that_must_run_live_is_said_beforehand(world):
    """At the student's step and at no other; an objective on logits says nothing of the kind."""
    plain = world.command("plan", COLUMNS="200")
    live = world.command("plan", "--set", "student.objective={name: rkd}", COLUMNS="200")
    (line,) = [line for line in live.out.splitlines() if "live beside" in line]

    assert (plain.code, live.code) == (0, 0)
    assert "live beside" not in plain.out
    assert "objective rkd needs the teacher's features: it runs live beside the student, in fp32" in line
    assert "student" in live.out.splitlines()[live.out.splitlines().index(line) - 1]
