"""Two runs at the same time: what both want is computed once, and neither breaks the other."""

import re

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.service]
STEPS = ("check out", "validate", "train the teacher", "soft targets", "hard labels", "student", "measure", "export")


def both(world, names: str, servers: dict, first: tuple = (), second: tuple = ()) -> list[str]:
    """What two commands said that ran together and both ended well."""
    processes = [world.start_command(*world.run_as(names), *more, **servers) for more in (first, second)]
    said = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, ""), err
        said.append(out)
    return said


def test_the_same_run_twice_computes_everything_once(world, servers):
    """One waits for the other's results; one version of each model, each run logged once, the alias on the student."""
    names = world.root.name
    said = both(world, names, servers)
    computed = [line for out in said for line in out.splitlines() if line.startswith("✓") and " computed " in line]
    found = world.shown(servers["MLFLOW_TRACKING_URI"], names)

    assert len(computed) == len(STEPS), "\n".join(said)
    assert re.search(r"process \d+ is computing the same \w+; waiting for its result", "\n".join(said))
    assert {len(digests) for digests in found.digests.values()} == {1}
    assert {len(versions) for versions in found.versions.values()} == {1}
    assert found.runs.pop("promote") == 1
    assert found.runs.pop("already_champion", 1) == 1
    assert set(found.runs.values()) == {1}
    assert len(found.runs) == 1 + len(STEPS)
    assert found.complete
    assert found.num_logged_models == 2
    assert found.champion == found.digests["student"][0]


def test_two_data_versions_side_by_side(world, servers):
    """Each trains its own models; the champion is one of the two students, and who comes second may have to come again."""
    names = world.root.name
    runs = [(*world.run_as(names), f"--data-rev={revision}") for revision in ("v1", "v2")]
    processes = [world.start_command(*run, **servers) for run in runs]
    for run, process in zip(runs, processes, strict=True):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0 or "has changed since this candidate was judged" in err, err
        if process.returncode:
            assert world.command(*run, **servers).code == 0
    found = world.shown(servers["MLFLOW_TRACKING_URI"], names)

    assert {len(found.digests[kind]) for kind in ("data", "teacher", "student", "evaluate")} == {2}
    for role in ("student", "teacher"):
        assert sorted(found.versions[f"{names}-{role}"]) == sorted(found.digests[role])
    assert found.champion in found.digests["student"]
    assert found.complete
