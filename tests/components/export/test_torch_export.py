"""The torch.export archive: same bytes, any batch, no pickle."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from components import plugins
from components.contracts import DataSpec
from components.errors import ExportError
from components.export.torch_export import export, load
from components.models.convnet import Params as ConvNet
from components.programs import demand_parity, largest_difference

SPEC = DataSpec((1, 12, 12), ("a", "b", "c"), (0.4,), (0.3,), 10)


def student() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return ConvNet(channels=(4, 6)).build(SPEC).eval()


def samples(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *SPEC.sample_shape), dtype=np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """One student, exported once."""
    return export(student(), SPEC.sample_shape, tmp_path_factory.mktemp("export"))


def test_it_is_a_plugin():
    """The file is found by its name and types its parameters."""
    assert "torch_export" in plugins.available("export")
    assert plugins.params_class("export", "torch_export")(name="torch_export").name == "torch_export"


def test_every_batch_size_predicts_like_the_live_model(exported):
    """One archive serves batches of 1, 2, 7 and 64."""
    assert largest_difference(student(), load(exported), samples(64), (1, 2, 7, 64)) <= 1e-6


def test_nothing_is_pickled(exported):
    """No record of the archive is a pickle, and reading it looks up no global by name."""
    with zipfile.ZipFile(exported) as archive:
        assert not [name for name in archive.namelist() if archive.read(name)[:2] in (b"\x80\x02", b"PK")]
    looked_up = []
    watching = True
    sys.addaudithook(lambda event, args: looked_up.append(args) if watching and event == "pickle.find_class" else None)
    load(exported)
    watching = False
    assert not looked_up


def test_no_path_of_the_machine_is_in_it(exported):
    """Source files and lines of the tracing machine are left out."""
    with zipfile.ZipFile(exported) as archive:
        text = b"".join(archive.read(name) for name in archive.namelist())
    assert b".py" not in text
    assert str(Path.cwd()).encode() not in text


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(exported, tmp_path):
    """Process, folder and hash seed leave no trace."""
    script = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from pathlib import Path\nfrom test_torch_export import SPEC, student\n"
        "from components.export.torch_export import export\n"
        "export(student(), SPEC.sample_shape, Path(sys.argv[3]))"
    )
    here, root = Path(__file__).parent, Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-c", script, str(root), str(here), str(tmp_path)],
        check=True,
        timeout=120,
        env={"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
    )
    assert (tmp_path / exported.name).read_bytes() == exported.read_bytes()


def test_a_model_that_fixes_its_batch_is_refused(tmp_path):
    """A forward that only works for the example's batch size is an error that says so."""

    class Fixed(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows.float().flatten(1) * torch.ones(2, 1)

    with pytest.raises(ExportError, match="Fixed cannot be exported for every batch size"):
        export(Fixed(), (3,), tmp_path)


def test_a_damaged_archive_is_an_error_with_its_name(exported, tmp_path):
    """Half a file is refused with its path."""
    half = tmp_path / "half.pt2"
    half.write_bytes(exported.read_bytes()[:2000])
    with pytest.raises(ExportError, match=r"half\.pt2"):
        load(half)


def test_parity_is_refused_beyond_the_tolerance_and_for_nan():
    """A logit further off than 1e-5, of another shape, or not a number, is an error."""

    class Off(torch.nn.Module):
        def __init__(self, by: float, columns: int = 3) -> None:
            super().__init__()
            self.by, self.columns = by, columns

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(rows), self.columns) + self.by

    assert largest_difference(Off(0), Off(1e-6), samples(2), (1, 2)) == pytest.approx(1e-6)
    assert largest_difference(Off(0), Off(float("nan")), samples(2), (1, 2)) == float("inf")
    demand_parity(1e-6, "x")
    for wrong in (Off(2e-5), Off(float("nan")), Off(0.0, 1)):
        with pytest.raises(ExportError, match="differs from the live model"):
            demand_parity(largest_difference(Off(0), wrong, samples(2), (1, 2)), "x")
