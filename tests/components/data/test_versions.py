"""Data versions: resolved once, checked out beside the working tree, verified byte by byte."""

import hashlib
import importlib
import json
import logging
import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.data import versions
from components.data.versions import DataVersion, checkout, listing_md5, resolve
from components.errors import DataDamagedError, DataNotFoundError, StoreError


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def here(registry, path="pictures", revision="v1", *, cache: Path) -> DataVersion:
    return resolve(str(registry.root), path, revision, cache=cache)


def test_a_tag_resolves_to_the_commit_and_the_md5_of_dvc(registry, cache):
    """The md5 is the one that DVC wrote into the .dvc file of that commit."""
    version = here(registry, cache=cache)

    assert version.commit == registry.git("rev-parse", "v1")
    assert f"md5: {version.md5}\n" in registry.git("show", "v1:pictures.dvc")
    assert version.is_directory


@pytest.mark.parametrize("name", ["main", "v2", "HEAD"])
def test_branch_tag_and_head_are_all_revisions(registry, cache, name):
    """Whatever git can name resolves to the same full commit."""
    assert here(registry, revision=name, cache=cache).commit == registry.git("rev-parse", "v2")


def test_a_short_commit_is_a_revision(registry, cache):
    """An abbreviated commit resolves to the full one."""
    commit = registry.git("rev-parse", "v1")

    assert here(registry, revision=commit[:8], cache=cache).commit == commit


def test_a_second_look_needs_no_dvc(registry, cache):
    """A fresh process that finds the note imports neither dvc nor numpy."""
    first = here(registry, cache=cache)
    program = (
        "import sys; from pathlib import Path; from components.data.versions import resolve\n"
        f"version = resolve({str(registry.root)!r}, 'pictures', 'v1', cache=Path({str(cache)!r}))\n"
        "print(version.md5, sorted({'dvc', 'numpy', 'torch', 'pandas'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == f"{first.md5} []"


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"md5": 3}', "other md5", "other path"])
def test_a_damaged_note_is_a_miss(registry, cache, damage):
    """What is not a whole note about this very path is looked up again."""
    version = here(registry, cache=cache)
    (note,) = (cache / "resolved").glob("*.json")
    whole = json.loads(note.read_text())
    named = {"other md5": {**whole, "md5": "no md5"}, "other path": {**whole, "path": "elsewhere"}}
    note.write_text(json.dumps(named[damage]) if damage in named else damage)

    assert here(registry, cache=cache) == version
    assert json.loads(note.read_text()) == whole


def test_a_cache_that_cannot_be_written_does_not_stop_resolve(registry, tmp_path):
    """The note is only a shortcut."""
    (tmp_path / "a-file").write_text("")

    assert here(registry, cache=tmp_path / "a-file").md5 == here(registry, cache=tmp_path / "ok").md5


def test_a_lone_file_and_a_folder_inside_a_tracked_one_are_data_too(registry, cache):
    """The inner folder gets the md5 that DVC would give it on its own."""
    lone = here(registry, "lone.txt", cache=cache)
    inner = here(registry, "pictures/1/", "v2", cache=cache)
    names = ("1.png", "3.png", "4.png")

    assert (lone.md5, lone.is_directory) == (md5(b"one\n"), False)
    assert inner.md5 == listing_md5(
        {name: md5((registry.root / "pictures" / "1" / name).read_bytes()) for name in names}
    )
    assert set(files(checkout(inner, cache=cache))) == set(names)
    assert files(checkout(lone, cache=cache)) == {"lone.txt": b"one\n"}


def test_listing_md5_is_the_one_of_dvc(registry, cache):
    """Ours over the checked-out files equals the one in the .dvc file."""
    version = here(registry, cache=cache)
    folder = checkout(version, cache=cache)

    assert listing_md5({name: md5(content) for name, content in files(folder).items()}) == version.md5


def test_two_revisions_lie_side_by_side(registry, cache):
    """Each has its own files, both at once."""
    first = checkout(here(registry, cache=cache), cache=cache)
    second = checkout(here(registry, revision="v2", cache=cache), cache=cache)

    assert set(files(second)) - set(files(first)) == {"1/4.png"}
    assert len(files(first)) == 4


def test_the_working_tree_is_untouched(registry, cache):
    """git status, dvc status, and every file of the work tree are the same before and after."""
    (registry.root / "pictures" / "0" / "mine.png").write_bytes(b"not added yet")
    before, tree = registry.state(), files(registry.root / "pictures")
    checkout(here(registry, cache=cache), cache=cache)

    assert registry.state() == before
    assert files(registry.root / "pictures") == tree


def test_a_checkout_is_read_only_and_no_link_into_dvc(registry, cache):
    """A repository that prefers links still gives copies."""
    registry.run(sys.executable, "-m", "dvc", "config", "cache.type", "symlink,hardlink")
    commit = registry.commit("links")
    folder = checkout(here(registry, revision=commit, cache=cache), cache=cache)

    for path in folder.rglob("*"):
        assert not path.is_symlink()
        assert not stat.S_IMODE(path.stat().st_mode) & 0o222
        assert path.is_dir() or path.stat().st_nlink == 1


def test_the_remote_serves_when_dvc_has_no_cache(registry, cache):
    """A clone that never fetched can be read."""
    shutil.rmtree(registry.root / ".dvc" / "cache")

    assert len(files(checkout(here(registry, cache=cache), cache=cache))) == 4


def test_damaged_bytes_in_dvcs_cache_are_noticed_and_the_remote_is_used(registry, cache):
    """DVC itself hands them out without a word; here they are named, and the good copy is fetched."""
    content = (registry.root / "pictures" / "0" / "0.png").read_bytes()
    registry.damage("cache", md5(content))
    said: list[str] = []
    folder = checkout(here(registry, cache=cache), cache=cache, say=said.append)

    assert (folder / "0" / "0.png").read_bytes() == content
    assert "0/0.png" in said[0]
    assert "cache" in said[0]


def test_data_that_is_damaged_everywhere_is_refused_by_name(registry, cache):
    """Nothing is left in our cache, and the message names the file."""
    content = (registry.root / "pictures" / "0" / "0.png").read_bytes()
    registry.damage("cache", md5(content))
    registry.damage("remote", md5(content))
    version = here(registry, cache=cache)
    with pytest.raises(DataDamagedError, match=r"1 file not as DVC recorded: 0/0\.png"):
        checkout(version, cache=cache)

    assert not any(name.name.startswith(version.md5[:8]) for name in cache.iterdir())


def test_a_damaged_copy_without_a_remote_says_whose_bytes_they_are(registry, cache):
    """The cache is named as the culprit when there is nothing else to read."""
    registry.damage("cache", md5((registry.root / "lone.txt").read_bytes()))
    shutil.rmtree(registry.root / "remote")
    with pytest.raises(DataDamagedError, match="DVC's own cache holds these bytes"):
        checkout(here(registry, "lone.txt", cache=cache), cache=cache)


@pytest.mark.parametrize("harm", ["change", "remove", "add"])
def test_a_damaged_checkout_is_fetched_again(registry, cache, harm):
    """Hits are hashed too."""
    version = here(registry, cache=cache)
    folder = checkout(version, cache=cache)
    good = files(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    if harm == "change":
        (folder / "0" / "0.png").write_bytes(b"other")
    elif harm == "remove":
        (folder / "0" / "0.png").unlink()
    else:
        (folder / "0" / "9.png").write_bytes(b"more")
    said: list[str] = []

    assert files(checkout(version, cache=cache, say=said.append)) == good
    assert "damaged" in said[0]


def test_a_hit_fetches_nothing(registry, cache):
    """Once here, the registry may be gone."""
    version = here(registry, cache=cache)
    folder = checkout(version, cache=cache)
    shutil.rmtree(registry.root)

    assert checkout(version, cache=cache) == folder


def test_what_a_killed_run_left_behind_is_cleared(registry, cache):
    """A half-made copy is neither used nor in the way."""
    version = here(registry, cache=cache)
    partial = cache / f".{version.md5}.partial"
    (partial / "data").mkdir(parents=True)
    (partial / "data" / "junk").write_bytes(b"junk")

    assert len(files(checkout(version, cache=cache))) == 4
    assert not partial.exists()


def _check_out(root: Path, revision: str, cache: Path) -> int:
    return len(files(checkout(resolve(str(root), "pictures", revision, cache=cache), cache=cache)))


def test_many_threads_on_two_versions(registry, cache):
    """Each gets its own version, whole."""
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda revision: _check_out(registry.root, revision, cache), ["v1", "v2"] * 8))

    assert counts == [4, 5] * 8


@pytest.mark.slow
def test_many_processes_on_two_versions(registry, cache):
    """Each gets its own version, whole."""
    program = (
        "import sys; from pathlib import Path; from components.data.versions import checkout, resolve\n"
        f"cache = Path({str(cache)!r})\n"
        f"folder = checkout(resolve({str(registry.root)!r}, 'pictures', sys.argv[1], cache=cache), cache=cache)\n"
        "print(sum(path.is_file() for path in folder.rglob('*')))\n"
    )
    revisions = ["v1", "v2"] * 3
    started = [
        subprocess.Popen([sys.executable, "-c", program, revision], stdout=subprocess.PIPE, text=True)
        for revision in revisions
    ]

    assert [int(process.communicate()[0]) for process in started] == [4, 5] * 3


def test_dvc_is_quiet(registry, cache, capfd):
    """Neither a log line nor a progress bar, and DVC's own log level is put back."""
    importlib.import_module("dvc")  # sets levels of its own at import
    logging.getLogger("dvc").setLevel(logging.WARNING)
    shutil.rmtree(registry.root / ".dvc" / "cache")
    checkout(here(registry, cache=cache), cache=cache)

    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("dvc").level == logging.WARNING


@pytest.mark.parametrize(
    ("path", "revision", "message"),
    [
        ("pictures", "v22", r"'v22' does not exist in .*tags: v1, v2; branches: main.*Did you mean 'v2'"),
        ("pictures", "", "no name of a tag"),
        ("pictures", "--all", "no name of a tag"),
        ("pictures", "0" * 40, "does not exist"),
        ("picture", "v1", r"does not exist\. DVC tracks there: lone.txt, pictures\. Did you mean 'pictures'"),
        ("notes.md", "v1", "not as one thing that DVC tracks"),
        ("pictures/0/9.png", "v1", "does not exist"),
        ("../pictures", "v1", "inside the repository"),
        ("/pictures", "v1", "inside the repository"),
        (".", "v1", "inside the repository"),
    ],
)
def test_what_does_not_exist_is_said_with_what_does(registry, cache, path, revision, message):
    """Unknown revisions and paths, and paths that git holds itself."""
    with pytest.raises(DataNotFoundError, match=message):
        here(registry, path, revision, cache=cache)


def test_a_path_from_before_it_was_added_is_missing(registry, cache):
    """What counts is the commit, not the work tree."""
    (registry.root / "later.txt").write_text("later\n")
    registry.dvc("add", "--quiet", "later.txt")
    registry.commit("later", "v3")
    with pytest.raises(DataNotFoundError, match="DVC tracks there: lone.txt, pictures"):
        here(registry, "later.txt", "v2", cache=cache)

    assert here(registry, "later.txt", "v3", cache=cache).md5 == md5(b"later\n")


def test_a_repository_that_is_not_there(tmp_path, cache):
    """The message says where it was looked for."""
    with pytest.raises(DataNotFoundError, match="'nowhere' does not exist"):
        resolve("nowhere", "pictures", "v1", cache=cache)


def test_a_folder_without_git(tmp_path, cache):
    """A folder alone has no versions."""
    with pytest.raises(DataNotFoundError, match="no git repository"):
        resolve(str(tmp_path), "pictures", "HEAD", cache=cache)


def test_a_repository_without_dvc(registry, cache):
    """The way out is in the message."""
    shutil.rmtree(registry.root / ".dvc")
    for name in ("pictures.dvc", "lone.txt.dvc"):
        (registry.root / name).unlink()
    registry.commit("no dvc", "bare")
    with pytest.raises(DataNotFoundError, match="no DVC in it.*dvc init"):
        here(registry, revision="bare", cache=cache)


def test_data_that_was_never_pushed(registry, cache):
    """Neither the cache nor the remote has it: push it."""
    version = here(registry, cache=cache)
    shutil.rmtree(registry.root / ".dvc" / "cache")
    shutil.rmtree(registry.root / "remote")
    with pytest.raises(DataNotFoundError, match="dvc push"):
        checkout(version, cache=cache)


def test_a_broken_dvc_file(registry, cache):
    """DVC's own complaint reaches the user without a traceback."""
    (registry.root / "pictures.dvc").write_text("outs: [{md5: 3")
    registry.commit("broken", "broken")
    with pytest.raises(DataDamagedError, match="DVC cannot read"):
        here(registry, revision="broken", cache=cache)


def test_a_cache_that_cannot_be_written_is_a_store_error(registry, tmp_path, cache):
    """A file stands where the cache should be."""
    version = here(registry, cache=cache)
    (tmp_path / "a-file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        checkout(version, cache=tmp_path / "a-file" / "cache")


def test_a_full_disk_is_a_store_error_and_leaves_nothing(registry, cache, monkeypatch):
    """No half checkout is published."""
    version = here(registry, cache=cache)

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(versions, "_make_read_only", full)
    with pytest.raises(StoreError, match="No space left"):
        checkout(version, cache=cache)

    assert {path.name for path in cache.iterdir()} == {"locks", "resolved"}


def test_a_clone_behind_a_url(registry, cache, tmp_path):
    """ls-remote answers for tags, annotated ones included; a full commit needs no question."""
    registry.git("tag", "--annotate", "--message", "annotated", "v2-annotated", "v2")
    (registry.root / ".dvc" / "config").write_text(
        f"[core]\n    remote = local\n['remote \"local\"']\n    url = {registry.root / 'remote'}\n"
    )
    commit = registry.commit("absolute remote", "v3")
    url = f"file://{registry.root}"
    versions_ = [resolve(url, "pictures", name, cache=cache) for name in ("v2-annotated", "v3", commit, "main", "HEAD")]

    assert [version.commit for version in versions_] == [registry.git("rev-parse", "v2"), *[commit] * 4]
    assert len(files(checkout(versions_[1], cache=cache))) == 5


def test_unknown_revisions_and_repositories_behind_a_url(registry, cache, tmp_path):
    """The same messages as for a folder."""
    with pytest.raises(DataNotFoundError, match="Did you mean 'v2'"):
        resolve(f"file://{registry.root}", "pictures", "v22", cache=cache)
    with pytest.raises(DataNotFoundError, match="must be given in full"):
        resolve(f"file://{registry.root}", "pictures", registry.git("rev-parse", "v1")[:8], cache=cache)
    with pytest.raises(DataNotFoundError, match="git cannot read"):
        resolve(f"file://{tmp_path}/nothing", "pictures", "v1", cache=cache)


def test_credentials_in_a_url_stay_out_of_messages(cache):
    """A token is not for logs."""
    version = DataVersion("https://me:secret@example.invalid/r.git", "p", "v1", "0" * 40, "0" * 32)

    assert "secret" not in str(version)
    assert "https://example.invalid/r.git" in str(version)


def test_dvc_in_a_folder_of_a_larger_repository(tmp_path, cache, registry):
    """data.repository may be a folder inside a git repository, with DVC in that folder."""
    outer = type(registry)(tmp_path / "outer")
    (outer.root / "inner" / "things").mkdir(parents=True)
    outer.git("init", "--quiet", "--initial-branch=main", "--template=", ".")
    inner = type(registry)(outer.root / "inner")
    inner.dvc("init", "--quiet", "--subdir")
    (inner.root / "things" / "a.txt").write_text("a\n")
    inner.dvc("add", "--quiet", "things")
    inner.commit("inner")
    version = resolve(str(inner.root), "things", "HEAD", cache=cache)

    assert files(checkout(version, cache=cache)) == {"a.txt": b"a\n"}
    with pytest.raises(DataNotFoundError, match="DVC tracks there: things"):
        resolve(str(inner.root), "thing", "HEAD", cache=cache)
    with pytest.raises(DataNotFoundError, match="no DVC in it"):
        resolve(str(outer.root), "things", "HEAD", cache=cache)


def test_a_relative_repository_is_found_from_a_copy_inside_the_outermost_one(registry, cache, tmp_path, monkeypatch):
    """`dvc exp run --temp` works in a copy of the project that lacks what git does not track."""
    (tmp_path / ".git").mkdir()
    copy = tmp_path / "tmp" / "copy"
    (copy / ".git").mkdir(parents=True)
    monkeypatch.chdir(copy)

    assert resolve("registry", "pictures", "v1", cache=cache).md5 == here(registry, cache=cache).md5


def test_git_variables_of_a_hook_do_not_lead_elsewhere(registry, cache, monkeypatch):
    """GIT_DIR points at the hook's own repository."""
    monkeypatch.setenv("GIT_DIR", "/nonexistent")

    assert here(registry, cache=cache).md5.endswith(".dir")


def test_no_git_on_the_path(registry, cache, monkeypatch):
    """A missing program is said, not raised as a traceback."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataNotFoundError, match="git is not installed"):
        here(registry, cache=cache)


@pytest.mark.slow
def test_checkout_works_inside_dvc_repro_of_the_same_repository(registry, cache):
    """DVC's own lock is not wanted: a stage may check out data of the repository that runs it."""
    program = registry.root / "stage.py"
    program.write_text(
        "from pathlib import Path; from components.data.versions import checkout, resolve\n"
        f"cache = Path({str(cache)!r})\n"
        "folder = checkout(resolve('.', 'pictures', 'v1', cache=cache), cache=cache)\n"
        "Path('count.txt').write_text(str(sum(path.is_file() for path in folder.rglob('*'))))\n"
    )
    (registry.root / "dvc.yaml").write_text(
        f"stages:\n  count:\n    cmd: {sys.executable} stage.py\n    outs: [count.txt]\n    always_changed: true\n"
    )
    registry.dvc("repro", "--quiet")

    assert (registry.root / "count.txt").read_text() == "4"


def test_the_lock_on_dvc_is_never_taken_through_somebody_elses_link(registry, cache, tmp_path, monkeypatch):
    """A link under the name of this user's folder is refused, and what it points at is left alone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bait = tmp_path / "bait"
    bait.mkdir()
    (tmp_path / f"potstill-{os.getuid()}").symlink_to(bait)
    with pytest.raises(StoreError, match="TMPDIR"):
        resolve(str(registry.root), "pictures", "v1", cache=cache)

    assert list(bait.iterdir()) == []
