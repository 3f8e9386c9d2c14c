"""params.yaml: typed, frozen, all problems at once, each with its line and a way out."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.errors import ParamsError
from components.params import load_params, with_values

ROOT = Path(__file__).parents[2]
GOOD = """\
data:
  repository: somewhere
  path: digits
  revision: v1
  format: {name: parquet}
workload: {name: image_classification}
teacher:
  model: {name: convnet}
student:
  model: {name: mlp}
  objective: {name: kd, temperature: 4, alpha: 0.9}
gate: {floor: 0.9}
registry: {student: s, teacher: t}
"""


@pytest.fixture
def file(tmp_path):
    """A small complete file of parameters."""
    path = tmp_path / "params.yaml"
    path.write_text(GOOD)
    return path


def problems(file: Path, overrides=()) -> str:
    with pytest.raises(ParamsError) as caught:
        load_params(file, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))], ids=lambda p: p.name
)
def test_the_files_we_ship_load(path):
    """params.yaml and every recipe."""
    assert load_params(path).student.model.name


def test_an_override_is_typed_like_the_file(file):
    """--set values are YAML."""
    params = load_params(file, ["student.objective.temperature=8", "teacher.train.epochs=3", "data.revision='1e3'"])

    assert params.student.objective.temperature == 8
    assert params.teacher.train.epochs == 3
    assert params.data.revision == "1e3"


def test_values_never_change(file):
    """The tree is frozen."""
    with pytest.raises(Exception, match="frozen"):
        load_params(file).data.path = "other"


def test_all_problems_are_said_at_once_with_lines_and_guesses(tmp_path):
    """One message for a misspelt name, a missing one, a bound, an unknown plugin and a plugin's own field."""
    file = tmp_path / "p.yaml"
    file.write_text(
        GOOD.replace("revision:", "revison:")
        .replace("{name: parquet}", "{name: parquett}")
        .replace("temperature: 4", "temperature: -4")
        .replace("alpha", "alfa")
        .replace("floor: 0.9", "metric: accuracy")
        .replace("{name: convnet}", "{name: convnet, chanels: [3]}")
    )
    message = problems(file)

    assert "6 problems" in message
    assert "data.revison (line 4): no such parameter; did you mean 'revision'?" in message
    assert "data.format (line 5): no 'parquett' among the formats (found: idx, image_folder, parquet, " in message
    assert "teacher.model.chanels (line 8): no such parameter; did you mean 'channels'?" in message
    assert "student.objective.temperature (line 11): Input should be greater than 0 (is -4)" in message
    assert "student.objective.alfa (line 11): no such parameter; did you mean 'alpha'?" in message
    assert "gate.floor (line 12): is required" in message


def test_a_problem_of_an_override_names_no_line_of_the_file(file):
    """The file may be right there."""
    message = problems(file, ["student.objective.temperature=-1", "data.split={by: hash, tset: 0.3}"])

    assert "student.objective.temperature (overridden): Input should be greater than 0 (is -1)" in message
    assert "data.split.tset (overridden): no such parameter; did you mean 'test'?" in message


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("gate.metric=accuracies", "'accuracies' is not a metric of this workload"),
        ("teacher.floor={acuracy: 0.9}", "teacher.floor: 'acuracy' is not a metric of this workload (it has: accuracy"),
        ("teacher.floor.accuracy=95", "teacher.floor.accuracy is a share and must lie between 0 and 1 (is 95)"),
        ("student.model={name: convnet}", "nothing to make smaller"),
        ("student.views={count: 4}", "all views would be the same sample"),
        ("data.split={by: hash, validation: 0.5, test: 0.5}", "nothing is left to train on"),
        (
            "teacher={model: {name: convnet}, source: {kind: mlflow, uri: 'models:/t/1'}, train: {epochs: 3}}",
            "would be trained",
        ),
        (
            "teacher={model: {name: convnet}, source: {kind: mlflow, uri: 'models:/t/1'}, folds: 5}",
            "teacher.folds is 5, but teacher.source.kind is 'mlflow'",
        ),
        ("student.labels={by: index}", "student.labels names no file, and data.split has none either"),
        ("nonsense", "is not of the form section.field=value"),
        ("data.path.deeper=1", "path is not a section"),
        ("student.objective.temperature=.nan", "temperature"),
    ],
)
def test_contradictions_die_at_load(file, override, said):
    """What cannot be meant is said before anything runs."""
    assert said in problems(file, [override])


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "not valid YAML"), ("- 1", "must be a mapping"), ("", "must be a mapping"), ("\0", "not valid YAML")],
)
def test_a_file_that_is_no_yaml_mapping_is_bad_input(tmp_path, text, said):
    """Never a traceback."""
    file = tmp_path / "p.yaml"
    file.write_text(text)

    assert said in problems(file)


def test_a_missing_file_says_how_to_name_one(tmp_path):
    """The way out is in the message."""
    assert "--params" in problems(tmp_path / "absent.yaml")


YAML_TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


@given(section=st.sampled_from(["data", "teacher", "student", "gate", "views", "workload"]), tree=YAML_TREES)
def test_whatever_stands_in_a_section_the_answer_is_a_typed_error(tmp_path_factory, section, tree):
    """Any YAML in place of a section either loads or is a ParamsError."""
    whole = {**yaml.safe_load(GOOD), section: tree}
    file = tmp_path_factory.mktemp("fuzz") / "p.yaml"
    file.write_text(yaml.safe_dump(whole))
    try:
        load_params(file)
    except ParamsError as error:
        assert re.search(r"\d+ problems?:", str(error))


SPACE = "space={student.objective.temperature: [1, 2]}"


@pytest.mark.parametrize(
    ("sweep", "wrong"),
    [
        ("space={x: {low: 2, high: 1, step: 1}}", "low is 2 and high is 1"),
        ("space={x: {low: 0, high: 1, log: true}}, sampler: tpe, trials: 2", "begins above 0"),
        ("space={x: 4}", "must be a list of values, or a range"),
        ("space={x: {low: 1, high: 2}}", "a grid needs a step or a list of values for x"),
        (f"{SPACE}, trials: 3", "leave trials out"),
        (f"{SPACE}, sampler: tpe", "set trials"),
        ("space={student.seed: [0, 1]}, seeds: 2", "space lists student.seed"),
        ("space={student.seed: {low: 0, high: 3, step: 1}}", "needs a list of seeds"),
        (f"{SPACE}, pruner: median, objectives: [accuracy, num_parameters]", "cannot be pruned"),
        (f"{SPACE}, objectives: [speed, accuracy]", "'speed' is not a metric"),
        (f"{SPACE}, objectives: [num_parameters]", "name a metric too"),
        (f"{SPACE}, samplr: grid", "did you mean 'sampler'"),
    ],
)
def test_what_contradicts_itself_in_a_sweep(file, sweep, wrong):
    """Said before anything is trained."""
    assert wrong in problems(file, ["sweep={" + sweep.replace("space=", "space: ") + "}"])


def test_values_by_dotted_names(file):
    """Whole sections first, then what is inside them."""
    params = load_params(file)
    values = {"student.objective.temperature": 8, "student.objective": {"name": "kd", "alpha": 0.5}, "student.seed": 3}
    found = with_values(params, values).student

    assert (found.objective.temperature, found.objective.alpha, found.seed) == (8, 0.5, 3)
    with pytest.raises(
        ParamsError, match="student.objective.temprature: no such parameter; did you mean 'temperature'"
    ):
        with_values(params, {"student.objective.temprature": 1})
    with pytest.raises(ParamsError, match="seed is not a section"):
        with_values(params, {"student.seed.x": 1})


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "student.objective={name: kd}",
            "student.objective 'kd' compares classes, and workload 'tabular_regression' learns",
        ),
        ("soft_targets.codec=int8", "soft_targets.codec int8 is about classes"),
        ("student.train.label_smoothing=0.1", "student.train.label_smoothing is about classes"),
        ("validation.class_share_min=0.1", "validation.class_share_min is about classes"),
        ("gate.metric=accuracy", "gate.metric 'accuracy' is not a metric of this workload (it has: mae, r2, rmse)"),
        ("teacher.floor={accuracy: 0.9}", "teacher.floor: 'accuracy' is not a metric"),
    ],
)
def test_what_is_about_classes_contradicts_numbers(override, said):
    """At load, and hard labels alone need no objective for numbers."""
    recipe = ROOT / "recipes" / "diabetes.yaml"

    assert said in problems(recipe, [override])
    assert load_params(recipe, ["student.objective={name: kd, alpha: 0}"]).student.objective.alpha == 0


def test_numbers_contradict_classes(file):
    """The objective for them has nothing to compare."""
    assert "'regression_kd' compares numbers" in problems(file, ["student.objective={name: regression_kd}"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("gate={metric: ece, floor: 0.5}", "gate.metric 'ece' has no value for a single row.*accuracy, nll"),
        ("gate={floor: 0.5, margin: 1.5}", "gate.margin is a share and must lie below 1"),
        ("gate={floor: 0.5, tests: [{name: teacher, margin: 2}]}", r"gate.tests \(teacher\).margin is a share"),
        (
            "gate={floor: 0.5, tests: [{name: latency, p95_ms: 1, batch_size: 7}]}",
            "7 is not in evaluate.latency_batches",
        ),
    ],
)
def test_a_gate_that_could_not_judge_is_said_before_anything_is_trained(file, override, said):
    """With the way out, and not after minutes of training."""
    assert re.search(said, problems(file, [override]))
