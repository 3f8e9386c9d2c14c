"""The versions of a path: every tag and branch, every commit that changed its content, from real registries."""

import pytest

from components.data.history import history
from components.data.versions import files_of, in_remote, resolve
from components.errors import DataNotFoundError


def versions(registry, cache, path="pictures", **also):
    """(names, message, md5) of each, newest first."""
    found = history(str(registry.root), path, cache=cache, say=print, **also).listed
    return [(each.names, each.commit.message, each.version and each.version.md5) for each in found]


def md5(registry, cache, revision, path="pictures"):
    return resolve(str(registry.root), path, revision, cache=cache).md5


def test_tags_and_branches_newest_first(registry, cache):
    """With the hash, files and bytes that DVC wrote into the .dvc file, and who committed it."""
    newest, oldest = history(str(registry.root), "pictures", cache=cache, say=print).listed

    assert (newest.names, oldest.names) == (("v2", "main"), ("v1",))
    assert newest.version == resolve(str(registry.root), "pictures", "v2", cache=cache)
    assert (newest.version.num_files, oldest.version.num_files) == (5, 4)
    assert f"size: {oldest.version.num_bytes}\n" in registry.git("show", "v1:pictures.dvc")
    assert (oldest.commit.who, oldest.commit.message) == ("x@example.invalid", "one")


def test_commits_between_that_changed_the_content_are_versions_and_others_are_not(registry, cache):
    """A commit that changes another path is none; one that has a name is one, whatever it changed."""
    (registry.root / "pictures" / "1" / "4.png").unlink()
    registry.dvc("add", "--quiet", "pictures")
    registry.commit("without the fifth")
    (registry.root / "lone.txt").write_text("two\n")
    registry.dvc("add", "--quiet", "lone.txt")
    registry.commit("another path")
    registry.git("commit", "--quiet", "--allow-empty", "--message", "nothing at all")

    found = versions(registry, cache)

    assert [(names, message) for names, message, _ in found] == [
        (("main",), "nothing at all"),
        ((), "without the fifth"),
        (("v2",), "two"),
        (("v1",), "one"),
    ]
    assert found[0][2] == found[1][2] == found[3][2] == md5(registry, cache, "v1")


def test_a_stage_that_rewrites_its_lock_without_new_content_is_no_version(registry, cache):
    """dvc.lock changes for many reasons; only what the path holds counts."""
    (registry.root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    registry.commit("a lock")
    registry.git("commit", "--quiet", "--allow-empty", "--message", "later")

    assert "a lock" not in [message for _, message, _ in versions(registry, cache)]


def test_a_commit_before_the_data_says_so(registry, cache):
    """The row is there, and why it has no content."""
    registry.git("checkout", "--quiet", "--orphan", "empty")
    registry.git("rm", "-rfq", "--cached", ".")
    registry.git("commit", "--quiet", "--allow-empty", "--message", "nothing yet")
    found = history(str(registry.root), "pictures", cache=cache, say=print).listed
    (empty,) = [each for each in found if each.names == ("empty",)]

    assert empty.version is None
    assert "no DVC in it" in empty.problem
    assert len(found) == 3


def test_the_commit_that_the_parameters_name_is_always_there(registry, cache):
    """Even with neither a name nor a change."""
    commit = registry.git("commit-tree", "v1^{tree}", "-p", "v1", "-m", "beside")

    assert ((), "beside", md5(registry, cache, "v1")) in versions(registry, cache, also=commit)
    assert "beside" not in [message for _, message, _ in versions(registry, cache)]


def test_annotated_tags_stand_for_their_commit(registry, cache):
    """A tag object is none of the versions; the commit that it points to is."""
    registry.git("tag", "--annotate", "--message", "signed off", "v3", "v1")

    assert versions(registry, cache)[-1][0] == ("v3", "v1")


def test_a_repository_behind_a_url(registry, cache):
    """Its history is copied once and follows; the URL, which may hold a password, is written down nowhere."""
    url = f"file://user:hidden@localhost{registry.root}"
    first = history(url, "pictures", cache=cache, say=print).listed
    registry.git("tag", "later", "v1")
    second = history(url, "pictures", cache=cache, say=print).listed
    registry.git("tag", "--delete", "later")
    third = history(url, "pictures", cache=cache, say=print).listed

    assert [each.names for each in first] == [each.names for each in third] == [("v2", "main"), ("v1",)]
    assert second[-1].names == ("v1", "later") or second[-1].names == ("later", "v1")
    assert [each.version.md5 for each in first] == [md5(registry, cache, "v2"), md5(registry, cache, "v1")]
    assert not [path for path in cache.rglob("*") if path.is_file() and b"hidden" in path.read_bytes()]


def test_a_url_that_leads_nowhere(cache, tmp_path):
    """Git's own reason is given."""
    with pytest.raises(DataNotFoundError, match="git cannot read data.repository"):
        history(f"file://{tmp_path}/nothing", "pictures", cache=cache, say=print)


def test_a_second_listing_asks_dvc_nothing(registry, cache, monkeypatch):
    """What DVC recorded at a commit never changes."""
    first = versions(registry, cache)
    monkeypatch.setattr("components.data._dvc.recorded", None)

    assert versions(registry, cache) == first


def test_a_long_history_is_announced(registry, cache):
    """Once, and not when all is remembered."""
    dvc_file = (registry.root / "pictures.dvc").read_text()
    md5_now = md5(registry, cache, "v2").removesuffix(".dir")
    for number in range(12):
        (registry.root / "pictures.dvc").write_text(dvc_file.replace(md5_now, f"{number:032x}"))
        registry.commit(f"state {number}")
    said: list[str] = []
    counts = [len(history(str(registry.root), "pictures", cache=cache, say=said.append).listed) for _ in range(2)]

    assert counts == [14, 14]
    assert len(said) == 1


def test_newer_versions_have_another_content(registry, cache):
    """A later commit with the same content is nothing new."""
    registry.git("commit", "--quiet", "--allow-empty", "--message", "later")
    found = history(str(registry.root), "pictures", cache=cache, say=print)
    newer = {
        revision: [
            each.commit.message
            for each in found.newer_than(resolve(str(registry.root), "pictures", revision, cache=cache))
        ]
        for revision in ("v1", "v2")
    }

    assert newer == {"v1": ["later", "two"], "v2": []}


def test_the_list_of_files_needs_none_of_them(registry, cache):
    """DVC's list alone is read."""
    version = resolve(str(registry.root), "pictures", "v1", cache=cache)
    for where in ("cache", "remote"):
        for name in files_of(version).values():
            registry.stored(where, name).unlink()

    assert sorted(files_of(version)) == ["0/0.png", "0/2.png", "1/1.png", "1/3.png"]


def test_the_remote_is_counted(registry, cache):
    """Files that it lacks are named; the list of all files counts by itself."""
    version = resolve(str(registry.root), "pictures", "v1", cache=cache)
    whole = in_remote(version)
    registry.stored("remote", files_of(version)["0/2.png"]).unlink()
    lacking = in_remote(version)
    registry.stored("remote", version.md5).unlink()
    listless = in_remote(version)

    assert (whole.name, whole.num_files, whole.missing, whole.whole) == ("local", 4, (), True)
    assert (lacking.missing, lacking.listing_missing, lacking.whole) == (("0/2.png",), False, False)
    assert (listless.missing, listless.listing_missing) == (("0/2.png",), True)


def test_no_remote_is_no_error(registry, cache):
    """The data lie on this machine alone."""
    (registry.root / ".dvc" / "config").write_text("")
    commit = registry.commit("no remote")

    assert in_remote(resolve(str(registry.root), "lone.txt", commit, cache=cache)) is None
