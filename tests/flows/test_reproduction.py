"""Whether a model that was made again counts as the same: digests first, metrics within a tolerance, else not."""

import pytest

from components.ancestry import Ancestry
from components.artifacts.ledger import Saved
from components.registry import RegisteredVersion
from flows.reproduction import Reproduction, apart, pinned, print_reproduction, verdict

EQUAL = {"data": ("d" * 64, "d" * 64), "student": ("a" * 64, "a" * 64)}
OTHER = {**EQUAL, "student": ("a" * 64, "b" * 64)}
METRICS = {"accuracy": (0.94, 0.95), "rmse": (50.0, 50.4)}
THREADS = ("threads 2 instead of 1",)


@pytest.mark.parametrize(
    ("found", "tolerance", "code", "words"),
    [
        (Reproduction(EQUAL, METRICS, ()), 0, 0, "reproduced: every digest is equal"),
        (Reproduction(OTHER, METRICS, THREADS), 0.011, 0, "reproduced within 0.011: other bits with threads 2 instead"),
        (Reproduction(OTHER, METRICS, THREADS), 0.009, 1, "NOT reproduced: other bits with threads 2 instead of 1"),
        (Reproduction(OTHER, METRICS, ()), 0, 1, "NOT reproduced: other bits on the very machine and builds"),
        (Reproduction(OTHER, METRICS, None), 0, 1, "(nobody knows on what machine"),
        (Reproduction(OTHER, {}, THREADS), 1, 1, "NOT reproduced: other bits with threads 2 instead of 1, and MLflow"),
    ],
)
def test_the_exit_code_follows_the_tolerance(
    found: Reproduction, tolerance: float, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal digests need no metrics; other bits need metrics that are known and near."""
    assert words in verdict(found, tolerance)
    assert print_reproduction(found, tolerance) == code
    shown = capsys.readouterr().out
    assert ("+0.01" in shown) == (not found.equal and bool(found.metrics))


def test_large_numbers_are_held_to_a_relative_tolerance() -> None:
    """An error of 50 may be off by 0.4, a share may not be."""
    assert apart(50.0, 50.4) == pytest.approx(0.008)
    assert apart(0.5, 0.9) == pytest.approx(0.4)


def test_names_are_replaced_by_what_they_meant() -> None:
    """A branch by the commit, an alias by the version: of every member of an ensemble that comes from MLflow."""
    alias = {"kind": "mlflow", "uri": "models:/t@good"}
    members = [alias, {"kind": "train", "seeds": [0, 1]}, {**alias, "uri": "models:/u@best"}]
    params = {
        "data": {"repository": "https://example.org/data.git", "revision": "main"},
        "teacher": {"source": {"kind": "ensemble", "members": members}},
    }
    tags = {"data.commit": "c" * 40, "teacher.uris": '["models:/t/3", "models:/u/7"]'}
    version = RegisteredVersion("students", "1", "", "", "", tags)

    found = pinned(Ancestry(version, params, (), (), "", None, Saved()))

    assert found["data"] == {"repository": "https://example.org/data.git", "revision": "c" * 40}
    assert [each.get("uri") for each in found["teacher"]["source"]["members"]] == ["models:/t/3", None, "models:/u/7"]
    assert params["data"]["revision"] == "main"
    assert alias["uri"] == "models:/t@good"
