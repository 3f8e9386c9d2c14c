"""The table format: rows of numbers with their targets."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from components.contracts import DecodedSamples, is_labelled
from components.data.formats.table import Params
from components.data.packing import check_decoded
from components.errors import DataDamagedError

CSV = "age,bmi,target\n59,32.1,151\n48,21.6,\n,30.5,141\n"


def read(folder: Path, **params: object) -> DecodedSamples:
    decoded = Params.model_validate({"name": "table", "target_columns": ["target"], **params}).read(folder)
    check_decoded(decoded)
    return decoded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text(CSV)
    return tmp_path


def test_rows_features_and_targets(folder: Path) -> None:
    """A missing target is unlabelled, a missing feature is damage; features are columns as well."""
    decoded = read(folder)

    assert decoded.samples.tolist() == np.float32([[59, 32.1], [48, 21.6]]).tolist()
    assert is_labelled(decoded.labels).tolist() == [True, False]
    assert decoded.labels[0].tolist() == [151]
    assert decoded.feature_names == ("age", "bmi")
    assert decoded.target_names == ("target",)
    assert decoded.sources == ("a.csv:0", "a.csv:1")
    assert decoded.damaged == ("a.csv:2: age is missing",)
    assert decoded.columns["age"] == [59, 48]


def test_csv_and_parquet_say_the_same(folder: Path, tmp_path: Path) -> None:
    """Whatever the number types; columns may come in another order, and a file's name tells a split."""
    (folder / "a.csv").rename(folder / "train.csv")
    (folder / "test").mkdir()
    table = pa.table({"bmi": pa.array([1.5, 2.5]), "target": pa.array([1, None], pa.int32()), "age": [True, False]})
    pq.write_table(table, folder / "test" / "b.parquet")
    decoded = read(folder)

    assert decoded.samples[2:].tolist() == [[1, 1.5], [0, 2.5]]
    assert is_labelled(decoded.labels).tolist() == [True, False, True, False]
    assert decoded.columns["split"] == ["train", "train", "test", "test"]


def test_named_features_leave_the_others_for_splits(folder: Path) -> None:
    """In the order that is asked for; text may stand in the rest."""
    (folder / "a.csv").write_text("site,age,bmi,target\nx,59,32,151\ny,48,21,75\n")
    decoded = read(folder, feature_columns=["bmi", "age"])

    assert decoded.samples.tolist() == [[32, 59], [21, 48]]
    assert decoded.columns["site"] == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age,sex,target\n1,male,3\n", "column 'sex' is string and must be numbers; categories are not encoded here"),
        ("age,bmi\n1,2\n", "no column 'target', or more than one"),
        ("target\n1\n", "no column cannot be a feature"),
        ("age,label,target\n1,2,3\n", "label cannot be a feature"),
        ("age,target\n1,2,3\n", "cannot be read as CSV"),
        ("age,target\n", "there is no row"),
        ("age,target\n,1\n", "a.csv:0: age is missing"),
        ("age,target\n1e39,1\n", "age is beyond single precision"),
    ],
)
def test_what_cannot_be_used_is_named(folder: Path, text: str, said: str) -> None:
    """With the way out."""
    (folder / "a.csv").write_text(text)
    with pytest.raises(DataDamagedError, match=said):
        read(folder)


def test_files_must_agree_and_be_there(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Other features in another file, and no file at all."""
    (folder / "b.csv").write_text("age,weight,target\n1,2,3\n")
    with pytest.raises(DataDamagedError, match=r"b.csv and a.csv have other features \(bmi, weight\)"):
        read(folder)
    with pytest.raises(DataDamagedError, match=r"no .csv or .parquet file"):
        read(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize(
    "params",
    [
        {"target_columns": ()},
        {"target_columns": ("a", "a")},
        {"feature_columns": ("target",)},
        {"target_columns": ("split",)},
    ],
)
def test_a_column_means_one_thing(params: dict[str, object]) -> None:
    """It is not target and feature, and not what the table of samples calls something else."""
    with pytest.raises(ValidationError):
        Params.model_validate({"name": "table", "target_columns": ("target",), **params})
