"""A copy of a data version: writable, verified, whole or absent, and never in a working tree."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from components.contracts import NoProgress
from components.data import copies
from components.data.copies import write_copy
from components.data.versions import checkout, resolve
from components.errors import BadInputError, DataDamagedError, InterruptedRunError, StoreError


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy(registry, folder: Path, *, cache: Path, path="pictures", revision="v1"):
    version = resolve(str(registry.root), path, revision, cache=cache)
    return write_copy(version, folder, cache=cache, progress=NoProgress())


@pytest.mark.parametrize("empty_folder", [False, True])
def test_a_copy_is_the_version_and_can_be_written(registry, cache, tmp_path, empty_folder):
    """A new folder or an empty one; neither the cache's copy nor DVC's is the same file."""
    target = tmp_path / "mine"
    if empty_folder:
        target.mkdir()
    written = copy(registry, target, cache=cache)
    version = written.version

    assert files(target) == files(checkout(version, cache=cache))
    assert (written.folder, written.num_files) == (target, 4)
    assert written.num_bytes == sum(map(len, files(target).values()))
    for path in target.rglob("*"):
        assert path.stat().st_mode & stat.S_IWUSR
        assert path.is_dir() or path.stat().st_nlink == 1
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_lone_file_lies_in_the_folder(registry, cache, tmp_path):
    copy(registry, tmp_path / "mine", cache=cache, path="lone.txt")

    assert files(tmp_path / "mine") == {"lone.txt": b"one\n"}


@pytest.mark.parametrize("what", ["file", "full", "no parent"])
def test_a_folder_that_is_not_free_is_left_as_it_is(registry, cache, tmp_path, what):
    target = {"no parent": tmp_path / "no" / "mine"}.get(what, tmp_path / "mine")
    if what == "file":
        target.write_text("mine")
    elif what == "full":
        target.mkdir()
        (target / "mine.txt").write_text("mine")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadInputError, match="there is no folder" if what == "no parent" else "is there already"):
        copy(registry, target, cache=cache)

    assert [each for each in sorted(tmp_path.iterdir()) if each not in (cache, tmp_path / "dvc-site")] == [
        each for each in before if each not in (cache, tmp_path / "dvc-site")
    ]
    assert what != "full" or files(target) == {"mine.txt": b"mine"}


def test_the_folder_that_one_works_in_is_not_replaced(registry, cache, tmp_path, monkeypatch):
    """A shell that stands in it would stand nowhere."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(BadInputError, match="would be replaced"):
        copy(registry, Path(), cache=cache)

    assert list(Path().iterdir()) == []


def test_an_interrupted_copy_leaves_nothing(registry, cache, tmp_path):
    """Stopped after the first file."""

    class Stopping(NoProgress):
        def advance(self, done, **values):
            self.stop = True

        def check(self):
            if getattr(self, "stop", False):
                raise InterruptedRunError("stopped")

    version = resolve(str(registry.root), "pictures", "v1", cache=cache)
    with pytest.raises(InterruptedRunError):
        write_copy(version, tmp_path / "mine", cache=cache, progress=Stopping())

    assert [each.name for each in tmp_path.iterdir() if "mine" in each.name] == []


@pytest.mark.parametrize("inside", ["new", "notes/new", ".git/new", ".dvc/new", ".dvc/cache/new"])
def test_the_working_tree_is_left_alone(registry, cache, inside):
    """A folder in it is refused, and nothing of it changes."""
    target = registry.root / inside
    target.parent.mkdir(exist_ok=True)
    before = registry.state()
    with pytest.raises(BadInputError, match="lies in the working tree"):
        copy(registry, target, cache=cache)

    assert registry.state() == before
    assert not target.exists()


def test_what_git_ignores_is_no_part_of_the_working_tree(registry, cache):
    """As var/ of a project whose data lie in its own repository."""
    (registry.root / ".gitignore").write_text("/pictures\n/lone.txt\n/remote\nvar/\n")
    (registry.root / "var").mkdir()
    before = registry.state()
    copy(registry, registry.root / "var" / "mine", cache=cache)

    assert len(files(registry.root / "var" / "mine")) == 4
    assert registry.state() == before


def test_a_copy_that_went_wrong_is_not_kept(registry, cache, tmp_path, monkeypatch):
    """Every copied byte is hashed again."""
    copyfile = copies.copyfile

    def spoil(source, target):
        copyfile(source, target)
        if target.name == "0.png":
            target.write_bytes(b"spoilt")

    monkeypatch.setattr(copies, "copyfile", spoil)
    with pytest.raises(DataDamagedError, match="not as DVC recorded"):
        copy(registry, tmp_path / "mine", cache=cache)

    assert [each.name for each in tmp_path.iterdir() if "mine" in each.name] == []


def test_a_full_disk_leaves_nothing(registry, cache, disk):
    """The message names the place."""
    full = disk("16k")
    (full / "filler").write_bytes(b"x" * 8192)
    with pytest.raises(StoreError, match="no space left"):
        copy(registry, full / "mine", cache=cache)

    assert [each.name for each in full.iterdir()] == ["filler"]


def test_a_kill_leaves_nothing_under_the_name_and_the_next_copy_cleans_up(registry, cache, tmp_path):
    """Killed between two files."""
    program = (
        "import time; from pathlib import Path\n"
        "from components.contracts import NoProgress; from components.data import copies\n"
        "from components.data.versions import resolve\n"
        "copyfile = copies.copyfile\n"
        "def slow(*names): copyfile(*names); print('copied', flush=True); time.sleep(60)\n"
        "copies.copyfile = slow\n"
        f"version = resolve({str(registry.root)!r}, 'pictures', 'v1', cache=Path({str(cache)!r}))\n"
        f"copies.write_copy(version, Path({str(tmp_path / 'mine')!r}), cache=Path({str(cache)!r}), progress=NoProgress())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    assert process.stdout.readline() == "copied\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = [each.name for each in tmp_path.iterdir() if "mine" in each.name]
    copy(registry, tmp_path / "mine", cache=cache)

    assert left == [".mine.potstill-partial"]
    assert [each.name for each in tmp_path.iterdir() if "mine" in each.name] == ["mine"]
    assert len(files(tmp_path / "mine")) == 4
