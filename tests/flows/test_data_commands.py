"""`potstill data`: what it lists, compares, copies and tells of real DVC registries, and how it ends."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from tests.flows.conftest import PARAMS, commit_data, digits, dvc, git, write_parquet


@pytest.fixture(scope="module")
def registry(small_data, tmp_path_factory) -> Path:
    """small_data and a tag `relabelled`: one-pixel without its last ten pictures, with two other labels, under a remote."""
    folder = tmp_path_factory.mktemp("with labels") / "registry"
    shutil.copytree(small_data, folder, symlinks=True)
    dvc(folder, "remote", "add", "-q", "--default", "store", str(folder.parent / "remote"))
    images, labels = digits(30)
    images[0, 0, 0, 0] += 1
    labels[[3, 40]] = 9
    write_parquet(folder / "digits", images[:290], labels[:290])
    commit_data(folder, "relabelled")
    dvc(folder, "push", "-q")
    return folder


@pytest.fixture
def potstill(registry, tmp_path, monkeypatch):
    """Runs a command beside a params.yaml that names v1 of the registry."""
    monkeypatch.setenv("POTSTILL_VAR_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "dvc-site"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS.format(repository=registry, revision="v1"), encoding="utf-8")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["data", *arguments], catch_exceptions=False)

    return run


def as_json(result: Result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def fits(text: str) -> bool:
    """Tables, not the sentences beside them, which a terminal wraps."""
    return max(len(line.rstrip()) for line in text.splitlines() if "  " in line) <= 80


def working_tree(folder: Path) -> tuple[str, str, dict[str, bytes]]:
    files = {path.name: path.read_bytes() for path in (folder / "digits").iterdir()}
    return git(folder, "status", "--porcelain"), git(folder, "rev-parse", "HEAD"), files


def test_versions_newest_first(potstill, registry):
    """With what DVC wrote down; the one that the parameters name is marked; rows are not known before a run."""
    told = as_json(potstill("versions", "--json"))
    shown = potstill("versions")

    rows = told["versions"]
    assert [row["revisions"] for row in rows] == [["relabelled", "main"], ["one-pixel"], ["v2"], ["v1"]]
    assert [row["named"] for row in rows] == [False, False, False, True]
    for row in rows:
        assert f"md5: {row['md5']}\n  size: {row['bytes']}\n" in git(registry, "show", f"{row['commit']}:digits.dvc")
        assert (row["files"], row["rows"], row["classes"], row["who"]) == (1, None, None, "t@example.org")
    (marked,) = [line for line in shown.stdout.splitlines() if line.startswith("→")]
    assert marked.split()[1:3] == ["v1", rows[-1]["md5"][:8]]
    assert fits(shown.stdout)


def test_versions_know_the_rows_of_what_is_packed(potstill, tmp_path):
    """Of the very content and format; another format's rows are not said; a damaged artifact says nothing."""
    potstill("diff", "v1", "v2")
    packed = {
        row["revisions"][0]: (row["rows"], row["classes"])
        for row in as_json(potstill("versions", "--json"))["versions"]
    }
    other = as_json(potstill("versions", "--json", "--set", "data.format={name: image_folder}"))["versions"]
    for info in (tmp_path / "var" / "store" / "data").glob("*/data.json"):
        info.chmod(0o644)
        info.write_text("{}")
    damaged = as_json(potstill("versions", "--json"))["versions"]

    assert packed == {"relabelled": (None, None), "one-pixel": (None, None), "v2": (400, 10), "v1": (300, 10)}
    assert {row["rows"] for row in (*other, *damaged)} == {None}


def test_a_revision_that_does_not_exist_is_said_above_those_that_do(potstill):
    """A list is what one asks for then."""
    told = as_json(potstill("versions", "--json", "--set", "data.revision=v3"))

    assert "'v3' does not exist" in told["problem"]
    assert [row["named"] for row in told["versions"]] == [False] * 4


def test_a_list_needs_neither_servers_nor_torch(potstill, tmp_path):
    """It is light: nothing is imported that it does not use."""
    code = (
        "import sys; from typer.testing import CliRunner; from flows.cli import app\n"
        "result = CliRunner().invoke(app, ['data', 'versions'], catch_exceptions=False)\n"
        "print(result.exit_code, sorted({'torch', 'prefect', 'mlflow', 'great_expectations', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)

    assert done.stdout.strip() == "0 []"


def test_diff_of_files_computes_nothing(potstill, tmp_path, registry):
    """No data artifact, no checkout."""
    told = as_json(potstill("diff", "v1", "v2", "--files-only", "--json"))

    assert told["files"] == {"added": [], "removed": [], "changed": ["digits.parquet"], "same": 0}
    assert told["samples"] is None
    assert told["after"]["commit"] == git(registry, "rev-parse", "v2")
    assert not (tmp_path / "var" / "store" / "data").exists()
    assert [path.name for path in (tmp_path / "var" / "cache" / "data").iterdir()] == ["resolved"]


def test_diff_of_samples(potstill, registry):
    """Samples by their content, labels by their names, rows by class, drift by column; and the working tree is left."""
    before = working_tree(registry)
    result = potstill("diff", "v1", "relabelled", "--json")
    samples = as_json(result)["samples"]
    shown = potstill("diff", "v1", "relabelled")

    assert samples["rows"] == {"before": 300, "after": 290}
    assert (len(samples["added"]), len(samples["removed"]), samples["same"]) == (1, 11, 287)
    assert [(row["before"], row["after"]) for row in samples["relabelled"]] == [("0", "9"), ("1", "9")]
    assert [row["source"] for row in samples["relabelled"]] == ["digits.parquet:3", "digits.parquet:40"]
    changes = {row["class_name"]: row["after"] - row["before"] for row in samples["classes"]}
    assert changes == {**dict.fromkeys("0123456789", 0), "0": -1, "1": -1, "9": -8}
    assert {row["column"] for row in samples["drift"]} >= {"label", "mean"}
    assert "computed" in result.stderr
    assert "Cached" in shown.stderr
    assert "2 relabelled" in shown.stdout
    assert fits(shown.stdout)
    assert working_tree(registry) == before


def test_a_version_does_not_differ_from_itself(potstill):
    """Under two names."""
    told = as_json(potstill("diff", "relabelled", "main", "--json"))
    samples = told["samples"]

    assert told["files"] == {"added": [], "removed": [], "changed": [], "same": 1}
    assert [samples[name] for name in ("added", "removed", "relabelled")] == [[], [], []]
    assert {row["psi"] for row in samples["drift"]} == {0.0}


@pytest.mark.parametrize(
    "command", [("diff", "v1", "v22"), ("checkout", "v22", "mine"), ("status", "--set=data.revision=v22")]
)
def test_an_unknown_revision_is_bad_input_with_near_names(potstill, registry, tmp_path, command):
    """Through the door of the command line: one message, exit code 2, nothing written."""
    (tmp_path / "mine").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "data", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ,
    )

    assert done.returncode == 2
    assert done.stderr.startswith("potstill: data.revision 'v22' does not exist")
    assert "Did you mean 'v2'?" in done.stderr
    assert list((tmp_path / "mine").iterdir()) == []


def test_checkout_writes_the_version(potstill, registry, tmp_path):
    """And says what; the working tree is left alone."""
    before = working_tree(registry)
    result = potstill("checkout", "v1", "mine")

    (file,) = (tmp_path / "mine").iterdir()
    assert result.exit_code == 0
    assert file.name == "digits.parquet"
    assert "1 file" in result.stdout
    assert file.read_bytes() != (registry / "digits" / "digits.parquet").read_bytes()
    assert working_tree(registry) == before
    file.write_bytes(b"mine now")


def test_status_before_and_after_use(potstill, registry):
    """Where the bytes are, who used them last, what is newer, and whether the remote could give them."""
    fresh = as_json(potstill("status", "--json"))
    potstill("diff", "v1", "relabelled")
    used = as_json(potstill("status", "--json"))
    newest = as_json(potstill("status", "--json", "--set", "data.revision=main"))
    otherwise = as_json(potstill("status", "--json", "--set", "data.split.salt=other"))

    assert fresh["commit"] == git(registry, "rev-parse", "v1")
    assert (fresh["in_data_cache"], fresh["packed_key"], fresh["last_used"], fresh["rows"]) == (False, None, None, None)
    assert (used["in_data_cache"], used["rows"], used["last_used_by"]) == (True, 300, "data diff")
    assert used["packed_key"] is not None
    assert (fresh["packed_otherwise"], used["packed_otherwise"]) == (False, False)
    assert (otherwise["packed_key"], otherwise["packed_otherwise"], otherwise["rows"]) == (None, True, 300)
    assert [each["revisions"][0] for each in used["newer"]] == ["relabelled", "one-pixel", "v2"]
    assert newest["newer"] == []
    assert newest["remote"] == {"name": "store", "num_files": 1, "missing": [], "listing_missing": False}


def test_status_counts_what_the_remote_lacks(potstill, registry):
    """Only the last tag was pushed; v1 itself has no remote in its configuration."""
    shown = potstill("status")
    commit = as_json(potstill("status", "--json"))["commit"]

    assert "these bytes lie on this machine alone" in " ".join(shown.stdout.split())
    assert commit[:12] in shown.stdout
    assert fits(shown.stdout)


def test_data_in_the_project_s_own_repository(potstill, tmp_path):
    """`repository: .`, with var/ ignored: all four commands, and git sees no change."""
    git(tmp_path, "init", "-q", "-b", "main")
    dvc(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("/var/\n/digits\n/dvc-site/\n")
    (tmp_path / "params.yaml").write_text(PARAMS.format(repository=".", revision="v1"), encoding="utf-8")
    for tag, per_class in (("v1", 6), ("v2", 7)):
        write_parquet(tmp_path / "digits", *digits(per_class))
        commit_data(tmp_path, tag)
    before = working_tree(tmp_path)

    assert [row["revisions"] for row in as_json(potstill("versions", "--json"))["versions"]] == [["v2", "main"], ["v1"]]
    assert as_json(potstill("diff", "v1", "v2", "--files-only", "--json"))["files"]["changed"] == ["digits.parquet"]
    assert potstill("checkout", "v1", "var/mine").exit_code == 0
    assert as_json(potstill("status", "--json"))["commit"] == git(tmp_path, "rev-parse", "v1")
    assert working_tree(tmp_path) == before


@pytest.mark.slow
@pytest.mark.service
def test_a_registry_whose_remote_is_a_bucket(potstill, tmp_path, s3_environment, s3_client, monkeypatch):
    """Read through a URL by a machine that has nothing of it, and counted after an object is gone."""
    (tmp_path / "aws").write_text("")  # DVC wants a file that is one
    for name, value in {**s3_environment, "AWS_CONFIG_FILE": str(tmp_path / "aws")}.items():
        monkeypatch.setenv(name, value)
    place, origin = uuid.uuid4().hex, tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main")
    dvc(origin, "init", "-q")
    dvc(origin, "remote", "add", "-q", "--default", "bucket", f"s3://potstill/{place}")
    dvc(origin, "remote", "modify", "-q", "bucket", "endpointurl", s3_environment["AWS_ENDPOINT_URL"])
    for tag, per_class in (("v1", 6), ("v2", 7)):
        write_parquet(origin / "digits", *digits(per_class))
        commit_data(origin, tag)
    dvc(origin, "push", "-q", "--all-tags")
    content = (origin / "digits" / "digits.parquet").read_bytes()
    shutil.rmtree(origin / ".dvc" / "cache")
    shutil.rmtree(origin / "digits")
    repository = f"--set=data.repository=file://{origin}"

    files = as_json(potstill("diff", "v1", "v2", "--files-only", "--json", repository))["files"]
    assert files == {"added": [], "removed": [], "changed": ["digits.parquet"], "same": 0}
    assert [row["files"] for row in as_json(potstill("versions", "--json", repository))["versions"]] == [1, 1]
    assert potstill("checkout", "v2", "mine", repository).exit_code == 0
    assert (tmp_path / "mine" / "digits.parquet").read_bytes() == content
    assert as_json(potstill("status", "--json", repository))["remote"]["missing"] == []
    for stored in s3_client.list_objects_v2(Bucket="potstill", Prefix=place)["Contents"]:
        if not stored["Key"].endswith(".dir"):
            s3_client.delete_object(Bucket="potstill", Key=stored["Key"])
    assert as_json(potstill("status", "--json", repository))["remote"]["missing"] == ["digits.parquet"]
