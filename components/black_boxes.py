"""What a black box said of samples, from a file to a table of log-probabilities by sample id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.contracts import DataSpec
from components.errors import WeightsError, some_of
from components.params import BlackBoxTeacher

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.artifacts.artifact import Artifact
    from components.data.packed import PackedData

NAMES = ("sample_id", "source", "row")
"""How a file may name its samples."""
HEX_DIGITS = 32


def class_columns(source: BlackBoxTeacher, data: DataSpec) -> list[int]:
    """[C]: where each class of the data stands in the black box's own order; WeightsError unless the names are the same."""
    theirs = source.classes or data.class_names
    if sorted(theirs) != sorted(data.class_names) or len(set(theirs)) != len(theirs):
        unknown, missing = sorted(set(theirs) - set(data.class_names)), sorted(set(data.class_names) - set(theirs))
        raise WeightsError(
            f"teacher.source.classes must be the {len(data.class_names)} classes of the data, each once: unknown are "
            f"{some_of(unknown) or 'none'}, missing are {some_of(missing) or 'none'}"
        )
    return [theirs.index(name) for name in data.class_names]


def conversion(source: BlackBoxTeacher, data: DataSpec) -> dict[str, Any]:
    """What `models._black_box.Convert` is made of, as plain data."""
    return {
        "columns": class_columns(source, data),
        "answers": source.answers,
        "smoothing": source.smoothing,
        "smallest": source.smallest_probability,
        "what": source.function or str(source.file),
    }


def read_answers(
    path: Path, source: BlackBoxTeacher, artifact: Artifact, data: PackedData
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Sample ids [M, 16] and what the file says of them, [M, C] or [M], in the black box's own class order.

    WeightsError for a file that cannot be read, that names no samples or unknown ones, or one sample twice.
    """
    import numpy as np

    columns = _columns(path)
    ids = _ids(path, columns, artifact, data)
    answers = _answers(path, columns, source, data.spec)
    if len(ids) != len(answers):
        raise WeightsError(f"{path} names {len(ids)} samples and has {len(answers)} answers")
    kept, counts = np.unique(ids, axis=0, return_counts=True)
    if twice := [each.tobytes().hex() for each in kept[counts > 1]]:
        raise WeightsError(f"{path} names samples twice (ids {some_of(twice)})")
    return ids, answers


def _columns(path: Path) -> Mapping[str, NDArray[Any]]:
    """The arrays of an .npz file, or the columns of a Parquet file."""
    import zipfile

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            return {name: np.asarray(table.column(name).to_pylist()) for name in table.column_names}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, pa.ArrowException) as error:
        raise WeightsError(f"teacher.source.file {path} cannot be read: {error}") from error
    raise WeightsError(f"teacher.source.file {path} must be an .npz or a .parquet file")


def _ids(path: Path, columns: Mapping[str, NDArray[Any]], artifact: Artifact, data: PackedData) -> NDArray[np.uint8]:
    import numpy as np

    named = [name for name in NAMES if name in columns]
    if len(named) != 1:
        raise WeightsError(
            f"{path} must name its samples in one of {', '.join(NAMES)}, and has {some_of(sorted(columns)) or 'nothing'}"
        )
    given = columns[named[0]]
    if named[0] == "sample_id":
        return _of_hex(path, given)
    rows = _rows_of_sources(path, given, artifact) if named[0] == "source" else given
    if rows.dtype.kind not in "iu" or len(bad := rows[(rows < 0) | (rows >= len(data))]):
        listed = some_of([str(row) for row in (bad if rows.dtype.kind in "iu" else rows)])
        raise WeightsError(f"{path}: rows must be whole numbers in 0..{len(data) - 1}, not {listed}")
    return np.array(data.sample_ids[rows])


def _of_hex(path: Path, given: NDArray[Any]) -> NDArray[np.uint8]:
    """As `potstill` writes them in table.parquet: 32 hexadecimal digits."""
    import numpy as np

    try:
        ids = [bytes.fromhex(str(text)) for text in given]
    except ValueError:
        ids = [b""]
    if bad := [str(text) for text in given if len(str(text)) != HEX_DIGITS] or any(len(each) != 16 for each in ids):
        raise WeightsError(
            f"{path}: a sample_id has {HEX_DIGITS} hexadecimal digits ({bad if bad is True else some_of(bad)})"
        )
    return np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(-1, 16)


def _rows_of_sources(path: Path, given: NDArray[Any], artifact: Artifact) -> NDArray[np.int64]:
    import numpy as np
    import pyarrow.parquet as pq

    sources = pq.read_table(artifact.file("table.parquet"), columns=["source"]).column("source").to_pylist()
    row_of = {source: row for row, source in enumerate(sources)}
    if unknown := [str(source) for source in given if str(source) not in row_of]:
        raise WeightsError(f"{path} names {len(unknown)} sources that the data does not have: {some_of(unknown)}")
    return np.array([row_of[str(source)] for source in given], dtype=np.int64)


def _answers(path: Path, columns: Mapping[str, NDArray[Any]], source: BlackBoxTeacher, spec: DataSpec) -> NDArray[Any]:
    import numpy as np

    classes = source.classes or spec.class_names
    if source.answers == "probabilities":
        if "probabilities" in columns:
            return columns["probabilities"]
        missing = [name for name in classes if name not in columns]
        if missing:
            raise WeightsError(
                f"{path} needs probabilities [N, C], or a column for each class; missing are {some_of(missing)}"
            )
        return np.stack([columns[name].astype(np.float64) for name in classes], axis=1)
    label = columns.get("labels", columns.get("label"))
    if label is None:
        raise WeightsError(f"{path} needs a column label, or an array labels (it has: {some_of(sorted(columns))})")
    return label if label.dtype.kind in "iu" else _numbers(path, label, classes)


def _numbers(path: Path, names: NDArray[Any], classes: Sequence[str]) -> NDArray[np.int64]:
    """Names of classes as their places."""
    import numpy as np

    place = {name: index for index, name in enumerate(classes)}
    if unknown := sorted({str(name) for name in names} - set(place)):
        raise WeightsError(f"{path}: labels {some_of(unknown)} are no classes of the black box")
    return np.array([place[str(name)] for name in names], dtype=np.int64)
