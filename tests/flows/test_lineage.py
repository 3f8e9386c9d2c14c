"""What made a model, what differs between two, and whether one can be had again, from an empty clone too."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.flows.conftest import ROOT, Ended, World, git, make_world
from tests.flows.test_promotion import Story

pytestmark = [pytest.mark.slow, pytest.mark.service]
STEPS = ["data", "validate", "teacher", "soft_targets", "student", "evaluate"]
COMPARED = [step for step in STEPS if step != "validate"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SAYS_AGAIN = """
import numpy as np
with np.load(mlflow.artifacts.download_artifacts(f"{uri}/predictions.npz")) as stored, torch.no_grad():
    answers = model(torch.from_numpy(stored["inputs"])).numpy()
    by_pyfunc = mlflow.pyfunc.load_model(uri).predict(stored["inputs"])
    print(np.abs(answers - stored["outputs"]).max(), np.abs(by_pyfunc - stored["outputs"]).max(), len(answers))
"""


def committed_story(root: Path, data: Path, servers: dict) -> Story:
    """A world whose code is committed, and whose first student is champion."""
    world = make_world(root, data)
    shutil.copy(ROOT / "constraints.txt", root)
    (root / ".gitignore").write_text("var/\n__pycache__/\n", encoding="utf-8")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "all of it")
    story = Story(world, servers)
    done = story.run()
    assert done.code == 0, done.err
    return story


@pytest.fixture(scope="module")
def story(tmp_path_factory, small_data: Path, servers: dict) -> Story:
    """Its champion stays; what a test registers beside it does not."""
    return committed_story(tmp_path_factory.mktemp("committed"), small_data, servers)


@pytest.fixture(scope="module")
def clone(tmp_path_factory, story: Story) -> Story:
    """The same project where nothing was ever computed: what git holds, and the way to MLflow and the data."""
    root = tmp_path_factory.mktemp("clone") / "project"
    git(root.parent, "clone", "-q", str(story.world.root), str(root))
    cloned = Story(World(root, story.world.data), story.servers)
    cloned.names, cloned.names_only = story.names, story.names_only
    return cloned


def test_what_made_a_champion(story: Story, tmp_path: Path) -> None:
    """The chain names data, code, parameters, every result, machine, decision, run and cost; on the terminal in 80 columns."""
    commit = git(story.world.root, "rev-parse", "HEAD")
    page = tmp_path / "page.html"
    found = json.loads(story.command("lineage", "--json", f"--html={page}").out)

    assert [step["step"] for step in found["steps"]] == STEPS
    assert {step["step"]: [step["digest"]] for step in found["steps"]}.items() <= story.world.digests().items()
    assert all(step["seconds"] > 0 and step["stored"] and not step["found"] for step in found["steps"])
    tags = found["tags"]
    assert (tags["code.commit"], tags["code.dirty"]) == (commit, "false")
    assert tags["data.commit"] == git(story.world.data, "rev-parse", "v1")
    assert tags["data.md5"].endswith(".dir")
    assert tags["lock.sha256"]
    assert tags["flow_run.who"]
    assert found["parameters"]["student"]["objective"]["temperature"] == 4
    assert (found["teacher"]["version"], found["teacher"]["digest"]) == ("1", tags["teacher.digest"])
    assert [(line["kind"], line["version"]) for line in found["journal"]] == [("promote", "1")]
    assert found["decision"].startswith("promoted")
    assert found["cost"]["seconds"] == pytest.approx(sum(step["seconds"] for step in found["steps"]))

    shown = story.command("lineage", tags["flow_run.name"])
    assert (shown.code, shown.err) == (0, "")
    assert max(map(len, shown.out.splitlines())) <= 80
    told = [
        "version 1, champion",
        *(tags[f"{step}.digest"][:12] for step in STEPS),
        commit[:12],
        tags["data.commit"][:12],
    ]
    told += [tags["data.md5"][:12], tags["params.sha256"][:12], tags["lock.sha256"][:12], tags["flow_run.name"]]
    told += ["300 samples", "-teacher version 1", "threads 1", "promote – → 1 by", "started by hand", "all of it took"]
    assert [text for text in told if text not in shown.out] == []

    html = page.read_text(encoding="utf-8")
    assert "http" not in html
    assert html.count('<g class="card') == len(STEPS) + 2
    assert tags["student.digest"] in html


def test_the_same_where_nothing_was_computed(clone: Story) -> None:
    """MLflow knows costs, machine and figures of what the store of another place holds; the journal is another's."""
    found = json.loads(clone.command("lineage", "champion", "--json").out)

    assert not any(step["stored"] for step in found["steps"])
    assert all(step["seconds"] > 0 for step in found["steps"])
    assert found["steps"][4]["fingerprint"]["threads"] == 1
    assert found["journal"] == []
    assert found["decision"].startswith("promoted")
    assert "no change of champion in the journal of this place" in clone.command("lineage").out


def test_made_again_from_an_empty_clone(clone: Story) -> None:
    """From its commits the same digests come again; nothing is left behind."""
    again = clone.command("reproduce", "champion")

    assert again.code == 0, again.err
    assert "reproduced: every digest is equal" in again.out
    assert re.findall(r"^(\w+) .* equal *$", again.out, flags=re.MULTILINE) == COMPARED
    assert git(clone.world.root, "worktree", "list").count("\n") == 0
    assert not (clone.world.var / "store").exists()


def test_with_other_threads_metrics_are_held_to_a_tolerance(clone: Story) -> None:
    """Bits differ; what the metrics differ by is said, and decides."""
    with_two = clone.command("reproduce", "champion", "--threads", "2", "--tolerance", "0")

    assert with_two.code == 1, with_two.err
    assert "NOT reproduced: other bits with threads 2 instead of 1" in with_two.out.replace("\n", " ")
    assert re.search(r"^student .* other bits *$", with_two.out, flags=re.MULTILINE)
    (change,) = re.findall(r"^nll .* ([+-]\S+) *$", with_two.out, flags=re.MULTILINE)
    assert 0 < abs(float(change)) < 0.02


def test_a_teacher_from_mlflow_is_the_one_that_taught(story: Story) -> None:
    """However its alias moved since; and what differs between its student and the champion is said."""
    client, teacher = MlflowClient(story.servers["MLFLOW_TRACKING_URI"]), f"{story.names}-teacher"
    client.set_registered_model_alias(teacher, "good", "1")
    params = yaml.safe_load((story.world.root / "params.yaml").read_text(encoding="utf-8"))
    params["teacher"] = {
        "source": {"kind": "mlflow", "uri": f"models:/{teacher}@good"},
        "model": params["teacher"]["model"],
    }
    (story.world.root / "taught.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    done = story.run("--params=taught.yaml", "--set=student.objective.temperature=2")
    assert done.code in (0, 3), done.err
    client.delete_registered_model_alias(teacher, "good")

    found = json.loads(story.command("lineage", "2", "--json").out)
    assert json.loads(found["tags"]["teacher.uris"]) == [f"models:/{teacher}/1"]
    again = story.command("reproduce", "2")
    assert again.code == 0, again.err + again.out
    assert "reproduced: every digest is equal" in again.out
    assert_difference_is_told(story, found)


def assert_difference_is_told(story: Story, second: dict) -> None:
    told = json.loads(story.command("diff", "1", "2", "--json").out)
    assert told["data"] == told["code"] == told["lock"] == {}
    assert told["parameters"]["student.objective.temperature"] == [4, 2]
    assert set(told["results"]) == {f"{step}.digest" for step in ("teacher", "soft_targets", "student", "evaluate")}
    assert told["metrics"]["nll"][1] == second["steps"][-1]["metrics"]["student/nll"]
    assert any(name.startswith("different answers") for name in told["predictions"])
    shown = story.command("diff", "1", "2").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "student.objective.temperature" in shown


@pytest.fixture
def committed(tmp_path: Path, small_data: Path, servers: dict) -> Story:
    return committed_story(tmp_path / "world", small_data, servers)


def test_uncommitted_code_earns_nothing(committed: Story) -> None:
    """It is refused by the gate, can be forced, and cannot be reproduced."""
    committed.world.edit("components/training/optimizer.py", '"""', '"""With a change. ')
    refused = committed.run("--set=student.seed=3")
    assert refused.code == 3
    assert "uncommitted changes" in refused.out + refused.err
    assert committed.command("promote", "2", "--force", "tried by hand").code == 0
    assert "made by uncommitted code" in committed.command("reproduce", "2").refused_with(2)

    git(committed.world.root, "commit", "-qam", "a word more")
    again = committed.run("--set=student.seed=3")
    assert "uncommitted changes" not in again.out + again.err
    told = json.loads(committed.command("lineage", "2", "--json").out)["tags"]
    assert (told["code.dirty"], told["code.commit"]) == ("false", git(committed.world.root, "rev-parse", "HEAD"))
    assert "no version 'seven'" in committed.command("lineage", "seven").refused_with(2)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory) -> Path:
    """A Python that has mlflow, torch and what these need, and nothing else: no Potstill, no Prefect, no DVC."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    for distribution in needed_by("mlflow", "torch"):
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
        for top in sorted(tops):
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return home / "bin" / "python"


def needed_by(*roots: str) -> Iterator[importlib.metadata.Distribution]:
    seen, waiting = set(), list(roots)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in seen:
            seen.add(name)
            found = importlib.metadata.distribution(name)
            yield found
            needs = map(Requirement, found.requires or ())
            waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]


def bare(python: Path, program: str, folder: Path, servers: dict) -> Ended:
    environment = {"MLFLOW_TRACKING_URI": servers["MLFLOW_TRACKING_URI"], "HOME": str(folder), "DO_NOT_TRACK": "true"}
    done = subprocess.run(
        [python, "-I", "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def test_a_process_without_potstill_loads_the_champion(story: Story, bare_python: Path, tmp_path: Path) -> None:
    """By the very lines of the README; what it predicts is what was stored when the model was registered."""
    (lines,) = re.findall(r"```python\n(import mlflow.*?)```", README, flags=re.DOTALL)
    uri = f"models:/{story.names}-student@champion"
    program = f"{lines.replace('models:/digits-student@champion', uri)}\nuri = {uri!r}{SAYS_AGAIN}"

    done = bare(bare_python, program, tmp_path, story.servers)

    assert done.code == 0, done.err
    by_torch, by_pyfunc, rows = map(float, done.out.split()[-3:])
    assert (by_torch <= 1e-4, by_pyfunc <= 1e-4, rows) == (True, True, 7)
    for absent in ("components", "flows", "prefect", "dvc", "great_expectations", "typer", "safetensors"):
        assert "ModuleNotFoundError" in bare(bare_python, f"import {absent}", tmp_path, story.servers).err
