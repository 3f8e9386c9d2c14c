"""Any rows in any order, and nothing that is not what the student asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.artifacts.artifact import Artifact
from components.errors import ArtifactDamagedError, BadInputError, SoftTargetsRefusedError
from components.soft_targets.header import Identity
from components.soft_targets.reader import SoftTargets


@pytest.fixture(params=["fp32", "fp16"])
def folder(request: pytest.FixtureRequest, make: Callable[..., Any]) -> Path:
    return make(codec=request.param)[0]


@pytest.fixture
def rewrite(make: Callable[..., Any]) -> Callable[..., Path]:
    """Soft targets whose header says something else."""

    def changed(**fields: Any) -> Path:
        out, _ = make()
        path = out / "soft_targets.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return out

    return changed


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.integers(0, 36), max_size=60), view=st.integers(0, 7))
def test_any_rows_in_any_order(folder: Path, expected: np.ndarray, places: list[int], view: int) -> None:
    """Repeated, permuted or none: row r of view v (mod V) is what the teacher said of it."""
    targets = SoftTargets.load(folder)

    found = targets.gather(torch.from_numpy(targets.rows[places]), view).numpy()

    said = expected[view % 3][places]
    if targets.header.codec == "fp16":
        said = said.astype(np.float16).astype(np.float32)
    assert found.dtype == np.float32
    assert np.array_equal(found, said)


def test_an_artifact_opens_like_its_folder(folder: Path) -> None:
    """`open` takes what tasks pass around."""
    targets = SoftTargets.open(Artifact("soft_targets", "k", "d", folder))

    assert (targets.num_views, targets.num_classes, len(targets.rows)) == (3, 4, 37)


def test_a_buffer_is_used_again(folder: Path) -> None:
    """Two gathers of one size share their memory, two of different sizes do not."""
    targets = SoftTargets.load(folder)
    rows = torch.from_numpy(targets.rows)

    first, second, other = targets.gather(rows[:5], 0), targets.gather(rows[5:10], 1), targets.gather(rows[:6], 0)

    assert first.data_ptr() == second.data_ptr() != other.data_ptr()


@pytest.mark.parametrize("unknown", [0, 2, 40, 10**9, -1, -5])
def test_rows_that_are_not_stored_are_named(folder: Path, unknown: int) -> None:
    """A row of another split, of no split, or negative."""
    targets = SoftTargets.load(folder)

    with pytest.raises(BadInputError, match=rf"for 1 of 2 rows \({unknown}\): they hold the 37 rows"):
        targets.gather(torch.tensor([5, unknown]), 0)


def test_expecting_changes_nothing(folder: Path, expected: np.ndarray) -> None:
    """Any rows of any view may be announced, at the ends of the file too, and read as ever."""
    targets = SoftTargets.load(folder)
    for view in range(4):
        targets.expect(targets.places(targets.rows), view)
        targets.expect(targets.places(targets.rows[-1:]), view)

    np.testing.assert_allclose(targets.gather(torch.from_numpy(targets.rows), 2).numpy(), expected[2], atol=1e-2)


def test_the_right_targets_match(folder: Path, identity: Identity) -> None:
    """The identity they were written with, also after its way through JSON."""
    SoftTargets.load(folder).matches(identity)
    SoftTargets.load(folder).matches(Identity.model_validate_json(identity.model_dump_json()))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("teacher_digest", "c" * 64, "teacher_digest is 'aaaa"),
        ("data_digest", "c" * 64, "data_digest is 'bbbb"),
        ("class_names", ("ant", "bee", "dog", "cat"), r"class_names\[2\] is 'cat' and 'dog' is asked for"),
        ("class_names", ("ant", "bee"), "class_names is"),
    ],
)
def test_targets_of_something_else_are_refused(
    folder: Path, identity: Identity, field: str, value: Any, named: str
) -> None:
    """The field that differs is named, with both values."""
    with pytest.raises(SoftTargetsRefusedError, match=named):
        SoftTargets.load(folder).matches(identity.model_copy(update={field: value}))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, r"view_spec\.seed is 1 and 2 is asked for"),
        ({"count": 4}, r"view_spec\.count is 3 and 4 is asked for"),
        ({"first_is_identity": False}, r"view_spec\.first_is_identity is True and False"),
        ({"transforms": []}, r"view_spec\.transforms is .* and \[\] is asked for"),
    ],
)
def test_targets_of_other_views_are_refused_unless_a_study_says_so(
    folder: Path, identity: Identity, change: dict[str, Any], named: str
) -> None:
    """View specs are compared to the leaf; allow_mismatched_views lets them through, and only them."""
    wanted = identity.model_copy(update={"view_spec": {**identity.view_spec, **change}})
    targets = SoftTargets.load(folder)

    with pytest.raises(SoftTargetsRefusedError, match=named):
        targets.matches(wanted)
    targets.matches(wanted, allow_mismatched_views=True)
    with pytest.raises(SoftTargetsRefusedError, match="data_digest"):
        targets.matches(wanted.model_copy(update={"data_digest": "c"}), allow_mismatched_views=True)


def test_a_transform_that_differs_is_named_to_its_parameter(folder: Path, identity: Identity) -> None:
    """Not only that the transforms differ, but where."""
    [transform] = identity.view_spec["transforms"]
    spec = {**identity.view_spec, "transforms": [{**transform, "shift_pixels": 2}]}

    with pytest.raises(SoftTargetsRefusedError, match=r"view_spec\.transforms\[0\]\.shift_pixels is 1 and 2 is asked"):
        SoftTargets.load(folder).matches(identity.model_copy(update={"view_spec": spec}))


def test_another_schema_is_refused(rewrite: Callable[..., Path]) -> None:
    """A later version's targets are not guessed at."""
    with pytest.raises(SoftTargetsRefusedError, match="schema_version is 2, and this version of Potstill reads 1"):
        SoftTargets.load(rewrite(schema_version=2))


def test_an_unknown_codec_is_refused(rewrite: Callable[..., Path]) -> None:
    """It is named, with those that exist."""
    with pytest.raises(SoftTargetsRefusedError, match="codec 'int3' is none of fp32, fp16"):
        SoftTargets.load(rewrite(codec="int3"))


@pytest.mark.parametrize("size", [-1, 1, -8, 8])
def test_a_file_of_the_wrong_size_is_noticed(folder: Path, size: int) -> None:
    """A byte or a row too few or too many."""
    path = folder / "logits.bin"
    content = path.read_bytes()
    path.write_bytes(content[:size] if size < 0 else content + b"\0" * size)

    with pytest.raises(ArtifactDamagedError, match=r"3 views x 37 rows x"):
        SoftTargets.load(folder)


@pytest.mark.parametrize("name", ["soft_targets.json", "logits.bin", "rows.npy"])
def test_missing_and_garbled_files_are_named(folder: Path, name: str) -> None:
    """ArtifactDamagedError, not a traceback of a parser."""
    (folder / name).write_bytes(b"garbage")
    with pytest.raises(ArtifactDamagedError, match=name):
        SoftTargets.load(folder)

    (folder / name).unlink()
    with pytest.raises(ArtifactDamagedError, match=name):
        SoftTargets.load(folder)


def test_rows_that_do_not_fit_the_header_are_noticed(folder: Path) -> None:
    """Another number of rows, or another type."""
    np.save(folder / "rows.npy", np.arange(36))
    with pytest.raises(ArtifactDamagedError, match=r"int64 \[36\], and the header promises int64 \[37\]"):
        SoftTargets.load(folder)


def test_a_header_without_a_field_is_damaged(make: Callable[..., Any]) -> None:
    """What is no header of this schema is said to be none."""
    out, _ = make()
    path = out / "soft_targets.json"
    raw = json.loads(path.read_text())
    del raw["num_rows"]
    path.write_text(json.dumps(raw))

    with pytest.raises(ArtifactDamagedError, match="not a header of soft targets"):
        SoftTargets.load(out)
