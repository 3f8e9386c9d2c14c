"""Every parameter and plugin, described from the types themselves."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console

from components import plugins
from components.contracts import PluginParams
from components.errors import ParamsError
from components.params import Params
from flows.describe import Entry, describe, params_markdown, params_tree, plugins_table

ROOT = Path(__file__).parents[2]
PARAMS = """\
data: {repository: r, path: p, format: {name: parquet}, split: {by: hash, test: 0.3}}
workload: {name: image_classification}
teacher: {model: {name: convnet, hidden: 7}, source: {kind: train}}
student:
  model: {name: mlp}
  objective: {name: kd, temperature: 8}
  train: {epochs: 33}
gate: {floor: 0.5}
registry: {student: s, teacher: t}
"""


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS)
    return path


def shown(renderable: object) -> str:
    console = Console(width=300)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def line_of(text: str, name: str) -> str:
    (line,) = (line.strip("│├└─ ") for line in text.splitlines() if line.strip("│├└─ ").startswith(f"{name} "))
    return line


def leaves(entries: tuple[Entry, ...], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Entry]]:
    for entry in entries:
        yield (*at, entry.name), entry
        yield from leaves(entry.children, (*at, entry.name))


def is_plugin(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, PluginParams)


def test_every_field_of_every_section_is_there():
    """Nothing that params.yaml may hold is left out of the description."""

    def expected(model: type[BaseModel], at: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, field in model.model_fields.items():
            yield (*at, name)
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and not is_plugin(field):
                yield from expected(field.annotation, (*at, name))

    described = {place for place, _ in leaves(describe())}
    assert set(expected(Params, ())) - described == set()
    assert ("student", "objective", "kd", "alpha") in described
    assert ("data", "split", "by: column", "column") in described


def test_every_parameter_says_what_it_means():
    """A name and a type alone teach nobody."""
    assert [place for place, entry in leaves(describe()) if not entry.about] == []


@pytest.mark.parametrize("family", ["formats", "models", "objectives", "transforms", "workloads"])
def test_every_plugin_file_is_described_with_its_parameters(family: str):
    """A new file is in the page by being there."""
    page = params_markdown()
    for name in plugins.available(family):
        chapter = page.partition(f"### {family}\n")[2].partition(f"#### {name}\n")[2].partition("\n#")[0]
        assert plugins.summary(family, name).replace("<", "\\<").split("|")[0] in chapter.replace("\\<", "\\<")
        for field in plugins.params_class(family, name).model_fields:
            assert field == "name" or f"| `{field}` |" in chapter


def test_a_leaf_has_type_bounds_default_and_meaning():
    """All that a person needs to set it."""
    text = shown(params_tree(section="student.train"))
    assert (
        line_of(text, "label_smoothing") == "label_smoothing = 0.0  float, at least 0, below 1  on the hard-label part"
    )
    assert line_of(text, "clip_grad_norm").startswith("clip_grad_norm = null  float or null, above 0")
    assert "fp32 | bf16" in line_of(text, "precision")


def test_values_of_the_file_stand_beside_the_defaults(params_file: Path):
    """What was changed is shown with what it would be otherwise; what was not is shown once."""
    text = shown(params_tree(params_file, "student"))
    assert line_of(text, "epochs").startswith("epochs = 33 (default 20)")
    assert line_of(text, "batch_size").startswith("batch_size = 128  ")
    assert "temperature = 8.0 (default 4.0)" in text
    assert "kd (chosen)" in text


def test_only_the_chosen_plugins_unfold_in_the_whole_tree(params_file: Path):
    """The other models are one line each, until their section is asked for."""
    whole, section = shown(params_tree(params_file)), shown(params_tree(params_file, "teacher.model"))
    assert "convs_per_stage" in whole
    assert "resnet" in whole
    assert "depth = 20" not in whole
    assert "depth = 20" in section


@pytest.mark.parametrize("section", ["student.objective.temperature", "student.objective.kd.temperature"])
def test_a_section_goes_through_the_choice_or_names_it(params_file: Path, section: str):
    """The name in --set and the name in the tree both lead there."""
    assert shown(params_tree(params_file, section)).startswith(f"{section} = 8.0 (default 4.0)")


def test_a_misspelt_section_says_what_was_probably_meant():
    """As a misspelt parameter does."""
    with pytest.raises(ParamsError, match="no parameter 'student.trian': 'trian' does not exist; did you mean 'train'"):
        params_tree(section="student.trian")
    with pytest.raises(ParamsError, match="nothing below it"):
        params_tree(section="student.seed.x")


def test_a_file_with_problems_still_shows_the_defaults(tmp_path: Path):
    """Who has just misspelt something is who needs the tree."""
    broken = tmp_path / "params.yaml"
    broken.write_text(PARAMS.replace("epochs", "epocs"))
    text = shown(params_tree(broken))
    assert text.startswith(f"parameters (defaults only: {broken} has 1 problem)")
    assert "batch_size = 128" in text
    assert "does not exist" in shown(params_tree(tmp_path / "no.yaml"))


def test_a_users_own_module_is_described_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A dotted name is a choice beside the files."""
    (tmp_path / "acme_losses.py").write_text("")
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "losses.py").write_text(
        "from components.contracts import ObjectiveParams\n"
        "class Params(ObjectiveParams):\n    name: str = 'acme.losses'\n    strength: float = 2.5\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS.replace("{name: kd, temperature: 8}", "{name: acme.losses, strength: 3.0}"))
    text = shown(params_tree(file, "student.objective"))
    assert "acme.losses (chosen)" in text
    assert "strength = 3.0 (default 2.5)" in text


def test_the_page_has_tables_that_markdown_can_read():
    """Every row has four cells, with bars inside a cell escaped."""
    rows = [line for line in params_markdown().splitlines() if line.startswith("|")]
    assert len(rows) > 60
    assert {row.replace("\\|", "").count("|") for row in rows} == {5}


def test_the_table_of_plugins_lists_every_file_with_its_first_line():
    """Families, names and summaries, from the files alone."""
    text = shown(plugins_table())
    for family in plugins.FAMILIES:
        for name in plugins.available(family):
            assert plugins.summary(family, name) in text
        assert not plugins.available(family) or family in text


def test_describing_imports_no_heavy_library():
    """`potstill params` and `potstill plugins` answer at once."""
    script = (
        "import sys\nfrom flows.describe import params_markdown, plugins_table\nparams_markdown()\nplugins_table()\n"
        "print([name for name in ('torch', 'mlflow', 'prefect', 'pandas', 'great_expectations') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
