"""The text formats: CSV, JSON lines and Parquet say the same of the same rows, and name what they cannot read."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components import plugins
from components.contracts import UNLABELLED, DecodedSamples
from components.errors import DataDamagedError

FORMATS = ("text_csv", "text_jsonl", "text_parquet")
ENDINGS = {"text_csv": "csv", "text_jsonl": "jsonl", "text_parquet": "parquet"}
Rows = list[dict[str, Any]]


def write(folder: Path, name: str, stem: str, rows: Rows) -> Path:
    path = folder / f"{stem}.{ENDINGS[name]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == "text_parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name == "text_jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(folder: Path, name: str, **params: object) -> DecodedSamples:
    return plugins.params_class("formats", name).model_validate({"name": name, **params}).read(folder)  # type: ignore[attr-defined]


def texts(decoded: DecodedSamples) -> list[str]:
    return [sample.tobytes().rstrip(b"\0").decode() for sample in decoded.samples]


@pytest.mark.parametrize("name", FORMATS)
@given(
    wanted=st.lists(
        st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12), min_size=1, max_size=5
    )
)
@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path_factory, name, wanted):
    """Any characters but zero, line ends and quotes included."""
    folder = tmp_path_factory.mktemp("texts")
    write(folder, name, "a", [{"text": text, "label": "x"} for text in wanted])

    assert texts(read(folder, name)) == wanted


@pytest.mark.parametrize("name", FORMATS)
def test_names_and_nothing_become_labels(tmp_path, name):
    """Names are sorted into classes; an empty or null label is none; files and folders tell splits, and come in their order."""
    write(tmp_path, name, "train", [{"text": "a", "label": "up"}, {"text": "b", "label": None}])
    write(tmp_path, name, "test/0", [{"text": "c", "label": "down"}])
    write(tmp_path, name, "more", [{"text": "d", "label": "up"}])
    decoded = read(tmp_path, name)

    assert texts(decoded) == ["a", "b", "c", "d"]
    assert decoded.class_names == ("down", "up")
    assert decoded.labels.tolist() == [1, UNLABELLED, 0, 1]
    assert decoded.columns == {"cut": [False] * 4, "split": ["train", "train", "test", None]}


@pytest.mark.parametrize("name", FORMATS)
def test_whole_numbers_are_positions_in_the_label_set(tmp_path, name):
    """Unnamed classes are called by their number; -1 is unlabelled; names that are numbers stay names."""
    write(tmp_path, name, "a", [{"text": text, "label": label} for text, label in zip("abc", (2, 0, -1), strict=True)])
    decoded = read(tmp_path, name)

    assert (decoded.labels.tolist(), decoded.class_names) == ([2, 0, -1], ("0", "1", "2"))
    assert read(tmp_path, name, class_names=["x", "y", "z"]).class_names == ("x", "y", "z")


def test_stars_are_names_where_they_are_named(tmp_path):
    """One to three stars: with class names 1, 2, 3 the text '1' is the first of them."""
    write(tmp_path, "text_csv", "a", [{"text": "good", "label": "3"}, {"text": "bad", "label": "1"}])

    assert read(tmp_path, "text_csv", class_names=["1", "2", "3"]).labels.tolist() == [2, 0]


@pytest.mark.parametrize("name", FORMATS)
def test_long_texts_are_cut_between_characters(tmp_path, name):
    """Eight bytes hold four letters of two bytes each, or seven single bytes and not half of the next."""
    write(tmp_path, name, "a", [{"text": text, "label": "x"} for text in ("éééé", "ééééé", "abcdefgé", "ok")])
    decoded = read(tmp_path, name, max_bytes=8)

    assert texts(decoded) == ["éééé", "éééé", "abcdefg", "ok"]
    assert decoded.columns["cut"] == [False, True, True, False]
    assert decoded.notes == ("2 of 4 texts were cut to max_bytes = 8 (the longest has 10)",)
    assert read(tmp_path, name, max_bytes=16).notes == ()


@pytest.mark.parametrize("name", FORMATS)
def test_other_columns_are_kept(tmp_path, name):
    """For splits and slices; one that is called as our own steps aside."""
    write(tmp_path, name, "train", [{"text": "a", "label": "x", "topic": "t", "split": "mine", "cut": "no"}])

    assert read(tmp_path, name).columns == {"cut": [False], "split": ["mine"], "topic": ["t"], "source_cut": ["no"]}


@pytest.mark.parametrize("name", FORMATS)
def test_columns_have_the_names_that_are_told(tmp_path, name):
    """A wrong name says what there is, and which parameter to set."""
    write(tmp_path, name, "a", [{"utterance": "a", "intent": "x"}])
    with pytest.raises(DataDamagedError, match=r"'text'.*data\.format\.text_column"):
        read(tmp_path, name)

    assert texts(read(tmp_path, name, text_column="utterance", label_column="intent")) == ["a"]


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_data_set_is_refused(tmp_path, name):
    """No file at all."""
    with pytest.raises(DataDamagedError, match="empty"):
        read(tmp_path, name)


def test_damaged_lines_of_csv_are_named(tmp_path):
    """By line, also behind a text of two lines; the others are read."""
    content = b'text,label\n"two\nlines",x\nbad \xff byte,x\nno label\nzero \0 byte,x\n\nfine,y\n'
    (tmp_path / "a.csv").write_bytes(content)
    decoded = read(tmp_path, "text_csv")

    assert texts(decoded) == ["two\nlines", "fine"]
    assert decoded.sources == ("a.csv:2", "a.csv:8")
    assert decoded.damaged == (
        "a.csv:4: is not valid UTF-8 (byte 0xff)",
        "a.csv:5: has 1 fields, and the header 2",
        "a.csv:6: holds a zero byte, which marks the end of a text",
    )


@pytest.mark.parametrize(("content", "why"), [(b"", "its header is: empty"), (b'text,label\n"open,x\n', "line 2")])
def test_a_csv_that_cannot_be_read_is_refused(tmp_path, content, why):
    """Without a header, or with a quote that never closes."""
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataDamagedError, match=rf"a\.csv.*{why}"):
        read(tmp_path, "text_csv")


def test_tabs_and_a_byte_order_mark(tmp_path):
    """A .tsv file has tabs whatever the delimiter; some editors begin a file with a mark."""
    (tmp_path / "a.tsv").write_bytes(b"\xef\xbb\xbftext\tlabel\na, b\tx\n")
    (tmp_path / "b.csv").write_bytes(b"text;label\na;x\n")

    assert texts(read(tmp_path, "text_csv", delimiter=";")) == ["a, b", "a"]


def test_damaged_lines_of_json_are_named(tmp_path):
    """No JSON, no object, no text, no UTF-8, half a character."""
    lines = [
        b"{",
        b"[1]",
        b'{"label": "x"}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"text": 3}',
        b'{"text": null}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*lines, b"", b'{"text": "fine", "label": "x", "tags": [1]}']))
    decoded = read(tmp_path, "text_jsonl")

    assert texts(decoded) == ["fine"]
    assert decoded.columns == {"cut": [False]}
    assert [line.split(": ")[0] for line in decoded.damaged] == [f"a.jsonl:{number}" for number in range(1, 8)]
    assert "lone surrogate" in decoded.damaged[4]
    assert "holds 3, which is no text" in decoded.damaged[5]


def test_labels_of_two_kinds_are_refused(tmp_path):
    """A number among names is a mistake of whoever wrote the file."""
    write(tmp_path, "text_jsonl", "a", [{"text": "a", "label": "x"}, {"text": "b", "label": 3}])
    with pytest.raises(DataDamagedError, match=r"all names or all whole numbers: a\.jsonl:2 is 3"):
        read(tmp_path, "text_jsonl")


def test_parquet_takes_class_names_from_hugging_face_metadata(tmp_path):
    """Labels are numbers then; class_names go first, classes.json last."""
    path = write(tmp_path, "text_parquet", "train-00000-of-00001", [{"text": "a", "label": 1}])
    (tmp_path / "classes.json").write_text('["file 0", "file 1"]')
    before = read(tmp_path, "text_parquet").class_names
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    table = pq.read_table(path).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)

    assert before == ("file 0", "file 1")
    assert read(tmp_path, "text_parquet").class_names == ("no", "yes")
    assert read(tmp_path, "text_parquet").columns["split"] == ["train"]
    assert read(tmp_path, "text_parquet", class_names=["n", "y"]).class_names == ("n", "y")


def test_parquet_of_bytes_that_are_no_text_is_named_by_row(tmp_path):
    """A column may promise text and hold anything."""
    raw = pa.array([b"fine", b"bad \xff"], type=pa.binary())
    column = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(pa.table({"text": column, "label": ["x", "y"]}), tmp_path / "a.parquet")

    assert read(tmp_path, "text_parquet").damaged == ("a.parquet:1: is not valid UTF-8 (byte 0xff)",)
