"""Teachers that are not trained as one model here: ensembles, builders of the user's own, and black boxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from components.artifacts.artifact import Artifact
from components.artifacts.code_digest import reached
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.data.packed import open_packed
from components.data.packing import write_packed
from components.data.splits import Splits
from components.errors import InterruptedRunError, ParamsError, PluginNotFoundError, WeightsError
from components.exportable import can_be_exported
from components.params import Params, load_params
from components.sample_ids import sample_ids
from components.saved_models import describe, load_model, model_digest, within
from components.settings import Settings
from components.soft_targets.reader import SoftTargets
from components.steps import baseline, evaluate, fold_teachers, soft_targets, student, teacher
from components.steps.execute import Outcome, execute
from components.steps.step import Step
from components.workloads.image_classification import Params as Workload

BASE: dict[str, Any] = {
    "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
    "workload": {"name": "image_classification"},
    "teacher": {
        "model": {"name": "mlp", "hidden": [8]},
        "train": {"epochs": 3, "batch_size": 4},
        "source": {"kind": "ensemble", "members": [{"kind": "train", "seeds": [0, 1]}]},
    },
    "soft_targets": {"codec": "fp32"},
    "student": {
        "model": {"name": "mlp", "hidden": [4]},
        "objective": {"name": "kd"},
        "train": {"epochs": 2, "batch_size": 4},
    },
    "evaluate": {"bootstrap_resamples": 100, "latency_repeats": 10, "latency_batches": [1]},
    "gate": {"floor": 0.0},
    "registry": {"student": "s", "teacher": "t"},
}
STEPS = (teacher.STEP, fold_teachers.STEP, soft_targets.STEP, baseline.STEP, student.STEP, evaluate.STEP)
CLASSES = ("dark", "grey", "bright")
HERE = "tests.components.steps.test_teacher_sources"
BUILT = "tests.components.models.built"


def taught_by(source: Mapping[str, Any], **teacher: Any) -> Params:
    """Nothing is trained but the members of an ensemble."""
    base = BASE["teacher"] if source["kind"] == "ensemble" else {"model": BASE["teacher"]["model"]}
    return Params.model_validate({**BASE, "teacher": {**base, "source": dict(source), **teacher}})


def ensemble(*members: Mapping[str, Any], combine: str = "probabilities") -> Params:
    return taught_by({"kind": "ensemble", "members": [*members], "combine": combine})


def untrained(*members: Mapping[str, Any]) -> Params:
    source = {"kind": "ensemble", "members": [*members]}
    return Params.model_validate({**BASE, "teacher": {"model": BASE["teacher"]["model"], "source": source}})


def by_brightness(samples: np.ndarray) -> np.ndarray:
    """Probabilities of a black box that sees how bright a picture is."""
    level = samples.reshape(len(samples), -1).mean(1) / 75
    p = np.exp(-((level[:, None] - np.array([0.6, 1.6, 2.6])) ** 2))
    return p / p.sum(1, keepdims=True)


class Runs:
    """Runs steps on one store."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.found: dict[str, Artifact] = {"data": store.commit("data", "0" * 64, {}, self._pack)}

    def _pack(self, out: Path) -> None:
        decoded = Workload().build().tiny(seed=0)
        of = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [12, 6, 6])
        write_packed(out, decoded, sample_ids(decoded.samples), Splits(of, dropped=(), conflicting=()))

    @property
    def samples(self) -> np.ndarray:
        return np.array(open_packed(self.found["data"]).samples)

    def __call__(self, step: Step, chosen: Params, progress: Any = None) -> Outcome:
        outcome = execute(
            step,
            params=chosen,
            settings=self.settings,
            store=self.store,
            inputs=self.found,
            producer="test",
            progress=progress or NoProgress(),
        )
        self.found[step.name] = outcome.artifact
        return outcome

    def all(self, chosen: Params) -> Mapping[str, Artifact]:
        return {step.name: self(step, chosen).artifact for step in STEPS}

    def single(self, **teacher_params: Any) -> Artifact:
        """A teacher that is trained by itself, as a member is."""
        one = {name: value for name, value in BASE["teacher"].items() if name != "source"}
        return self(teacher.STEP, Params.model_validate({**BASE, "teacher": {**one, **teacher_params}})).artifact


@pytest.fixture
def runs(settings: Settings, store: Store) -> Runs:
    return Runs(settings, store)


# Ensembles


def test_an_ensemble_teaches_through_every_step(runs: Runs) -> None:
    """Soft targets are its rows, the report's teacher is the ensemble with the cost of all its members."""
    one, other = (load_model(runs.single(seed=seed)) for seed in (0, 1))
    made = runs.all(ensemble({"kind": "train", "seeds": [0, 1]}))
    data, targets = open_packed(runs.found["data"]), SoftTargets.open(made["soft_targets"])
    rows = data.rows("train")
    with torch.inference_mode():
        asked = torch.from_numpy(np.array(data.samples[rows]))
        mean = (one(asked).softmax(1) + other(asked).softmax(1)) / 2
    stored = targets.gather(torch.from_numpy(rows), 0)

    torch.testing.assert_close(stored.exp(), mean, atol=1e-6, rtol=1e-5)
    assert targets.header.says == "log_probabilities"
    measured = made["evaluate"].read_json("metrics.json")["teacher"]
    sizes = [describe(within(made["teacher"], f"member-{index}")) for index in (0, 1)]
    assert measured["num_parameters"] == sum(size.num_parameters or 0 for size in sizes)
    assert measured["weight_bytes"] == sum(size.weight_bytes for size in sizes)
    assert describe(made["teacher"]).num_parameters == measured["num_parameters"]


@pytest.mark.parametrize("combine", ["logits", "weighted", "confidence"])
def test_combinations_are_different_teachers(runs: Runs, combine: str) -> None:
    """The members are the same."""
    mean, other = (
        runs(teacher.STEP, ensemble({"kind": "train", "seeds": [0, 1]}, combine=which)).artifact
        for which in ("probabilities", combine)
    )

    assert model_digest(mean) != model_digest(other)
    assert [model_digest(within(each, "member-1")) for each in (mean, other)] == [
        model_digest(within(mean, "member-1"))
    ] * 2
    weights = other.read_json("model.json")["weights"]
    assert (sum(weights) == pytest.approx(1)) if combine == "weighted" else weights is None


def test_members_come_from_anywhere(runs: Runs, tmp_path: Path) -> None:
    """Trained here with another architecture, from weights, from a builder and from a function."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(runs.single().file("weights.safetensors").read_bytes())
    chosen = ensemble(
        {"kind": "train", "seeds": [3], "model": {"name": "convnet", "channels": [4]}},
        {"kind": "weights", "file": str(file)},
        {"kind": "builder", "builder": f"{BUILT}:make", "arguments": {"hidden": 3}},
        {"kind": "black_box", "function": f"{HERE}:by_brightness"},
    )
    made = runs.all(chosen)

    assert [describe(within(made["teacher"], f"member-{index}")).family for index in range(4)] == [
        "convnet", "mlp", "builder", "black_box",
    ]  # fmt: skip
    assert not can_be_exported(made["teacher"])
    assert {"tests", "components.models._ensemble"} <= set(made["teacher"].manifest().fields["code"])


def test_a_kill_keeps_the_members_that_are_finished(runs: Runs, settings: Settings, tmp_path: Path) -> None:
    chosen = ensemble({"kind": "train", "seeds": [0, 1]})
    expected = runs(teacher.STEP, chosen).artifact.digest
    elsewhere = settings.model_copy(update={"store": str(tmp_path / "other")})
    disturbed = Runs(elsewhere, Store(elsewhere))

    class Told(NoProgress):
        def __init__(self, stop_at: str) -> None:
            self.titles: list[str] = []
            self.stop_at = stop_at

        def start(self, title: str, *, total: int) -> None:
            self.titles.append(title)

        def check(self) -> None:
            if self.titles and self.titles[-1] == self.stop_at:
                raise InterruptedRunError("stopped")

    going_on = Told("")
    with pytest.raises(InterruptedRunError):
        disturbed(teacher.STEP, chosen, Told("mlp of the ensemble, seed 1"))
    assert disturbed(teacher.STEP, chosen, going_on).artifact.digest == expected
    assert going_on.titles == ["mlp of the ensemble, seed 1"]


def test_another_member_file_is_another_ensemble(runs: Runs, tmp_path: Path) -> None:
    """By its content, not by its place."""
    file, moved = tmp_path / "w.safetensors", tmp_path / "m.safetensors"
    for path in (file, moved):
        path.write_bytes(runs.single().file("weights.safetensors").read_bytes())
    first, second = (
        untrained({"kind": "weights", "file": str(path)}, {"kind": "builder", "builder": f"{BUILT}:make"})
        for path in (file, moved)
    )
    runs(teacher.STEP, first)
    assert runs(teacher.STEP, second).cached
    moved.write_bytes(runs.single(seed=1).file("weights.safetensors").read_bytes())
    assert not runs(teacher.STEP, second).cached


def test_an_ensemble_of_models_is_a_program_too(runs: Runs, tmp_path: Path) -> None:
    """So that it can be registered."""
    from components.export.torch_export import export, load
    from components.programs import largest_difference

    for combine in ("probabilities", "confidence"):
        made = runs(teacher.STEP, ensemble({"kind": "train", "seeds": [0, 1]}, combine=combine)).artifact
        path = export(load_model(made), (1, 8, 8), tmp_path)

        assert can_be_exported(made)
        assert largest_difference(load_model(made), load(path), runs.samples[:7], (1, 2, 7)) < 1e-5


def test_code_of_ensembles_and_black_boxes_retrains_no_other_teacher() -> None:
    plain = Params.model_validate({**BASE, "teacher": {"model": BASE["teacher"]["model"]}})
    modules = reached(["components.steps.teacher", *teacher.STEP.plugins(plain)])

    assert not [name for name in modules if "ensemble" in name or "black_box" in name]


# Builders


def test_a_builder_names_the_teacher_once(runs: Runs) -> None:
    """It is the model `builder`, and its weights are kept as they come."""
    made = runs.all(builder_params())
    described = describe(made["teacher"])
    assert (described.family, described.params["builder"]) == ("builder", f"{BUILT}:make")
    assert made["teacher"].read_json("history.json") == []


def builder_params(**source: Any) -> Params:
    given = {"kind": "builder", "builder": f"{BUILT}:make", "arguments": {"hidden": 5}, **source}
    return Params.model_validate({**BASE, "teacher": {"source": given}})


def test_a_builder_may_be_trained_here_too(runs: Runs) -> None:
    """As any other model, teacher or student."""
    model = {"name": "builder", "builder": f"{BUILT}:make"}
    made = runs.single(model=model)

    assert len(made.read_json("history.json")) == 3
    assert "tests" in made.manifest().fields["code"]


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (f"{BUILT}:mkae", "has no function 'mkae'; did you mean 'make'"),
        ("nowhere.at_all:make", "no module 'nowhere.at_all' on the Python path"),
    ],
)
def test_a_builder_that_is_not_there(runs: Runs, builder: str, message: str) -> None:
    with pytest.raises(PluginNotFoundError, match=message):
        runs(teacher.STEP, builder_params(builder=builder, arguments={}))


def test_a_builder_that_builds_no_module(runs: Runs) -> None:
    from components.errors import BadInputError

    with pytest.raises(BadInputError, match=r"must return a torch.nn.Module, not str"):
        runs(teacher.STEP, builder_params(builder=f"{BUILT}:no_module", arguments={}))


# Black boxes


def test_a_function_teaches_by_its_probabilities(runs: Runs) -> None:
    """Views and all: it can be asked about any sample."""
    chosen = taught_by({"kind": "black_box", "function": f"{HERE}:by_brightness"})
    views = {"count": 2, "transforms": [{"name": "affine", "shift_pixels": 1}]}
    made = runs.all(
        chosen.model_copy(update={"student": chosen.student.model_validate({**BASE["student"], "views": views})})
    )
    targets, rows = SoftTargets.open(made["soft_targets"]), np.arange(12)

    said = targets.gather(torch.from_numpy(rows), 0).exp().numpy()
    assert np.allclose(said, by_brightness(runs.samples[:12]), atol=1e-5)
    assert targets.header.says == "log_probabilities"
    assert made["evaluate"].read_json("metrics.json")["teacher"]["num_parameters"] == 0
    assert not can_be_exported(made["teacher"])


def file_of(tmp_path: Path, runs: Runs, kind: str) -> tuple[Path, dict[str, Any]]:
    """What the black box said of every sample, in files of several kinds, with its classes in its own order."""
    p, ids = by_brightness(runs.samples), open_packed(runs.found["data"]).sample_ids
    hexes = [each.tobytes().hex() for each in ids]
    sources = pq.read_table(runs.found["data"].file("table.parquet")).column("source").to_pylist()
    turned = [2, 0, 1]
    names = [CLASSES[index] for index in turned]
    order = np.random.default_rng(0).permutation(len(p))
    path = tmp_path / f"{kind}.{'parquet' if 'parquet' in kind else 'npz'}"
    if kind == "npz by row":
        np.savez(path, row=order, probabilities=p[order][:, turned])
    elif kind == "npz by id":
        np.savez(path, sample_id=np.array(hexes)[order], probabilities=p[order][:, turned])
    elif kind == "parquet by source":
        columns = {name: p[order, index] for name, index in zip(CLASSES, range(3), strict=True)}
        pq.write_table(pa.table({"source": [sources[row] for row in order], **columns}), path)
    else:
        said = [CLASSES[label] for label in p[order].argmax(1)]
        pq.write_table(pa.table({"sample_id": [hexes[row] for row in order], "label": said}), path)
    answers = "labels" if kind == "parquet of labels" else "probabilities"
    return path, {"kind": "black_box", "file": str(path), "classes": names, "answers": answers}


@pytest.mark.parametrize("kind", ["npz by row", "npz by id", "parquet by source", "parquet of labels"])
def test_a_file_teaches_what_it_says(runs: Runs, tmp_path: Path, kind: str) -> None:
    """Whatever names its samples and in whatever order of classes."""
    _, source = file_of(tmp_path, runs, kind)
    made = runs.all(taught_by(source))
    said = SoftTargets.open(made["soft_targets"]).gather(torch.arange(12), 0).exp().numpy()
    expected = by_brightness(runs.samples[:12])

    if kind == "parquet of labels":
        assert np.array_equal(said.argmax(1), expected.argmax(1))
        assert np.allclose(said.max(1), 0.9 + 0.1 / 3)
    else:
        assert np.allclose(said, expected, atol=1e-5)
    assert made["teacher"].read_json("metrics.json")["accuracy"] > 0.5


def test_a_file_counts_by_its_content(runs: Runs, tmp_path: Path) -> None:
    path, source = file_of(tmp_path, runs, "npz by row")
    runs(teacher.STEP, taught_by(source))
    moved = path.rename(tmp_path / "moved.npz")
    assert runs(teacher.STEP, taught_by({**source, "file": str(moved)})).cached
    assert not runs(teacher.STEP, taught_by({**source, "file": str(moved), "smallest_probability": 1e-3})).cached
    with pytest.raises(WeightsError, match="teacher.source.file .* does not exist"):
        runs(teacher.STEP, taught_by(source))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"probabilities": [[1.0, 0.0, 0.0]]}, "must name its samples in one of sample_id, source, row"),
        ({"row": [0], "probabilities": [[1.0, 0.0, 0.0]] * 2}, "names 1 samples and has 2 answers"),
        ({"row": [0, 0], "probabilities": [[1.0, 0.0, 0.0]] * 2}, "names samples twice"),
        ({"row": [24], "probabilities": [[1.0, 0.0, 0.0]]}, r"whole numbers in 0\.\.23, not 24"),
        ({"row": [0.5], "probabilities": [[1.0, 0.0, 0.0]]}, r"whole numbers in 0\.\.23, not 0.5"),
        (
            {"source": ["nowhere"], "probabilities": [[1.0, 0.0, 0.0]]},
            "names 1 sources that the data does not have: nowhere",
        ),
        ({"sample_id": ["abc"], "probabilities": [[1.0, 0.0, 0.0]]}, "32 hexadecimal digits"),
        ({"sample_id": ["z" * 32], "probabilities": [[1.0, 0.0, 0.0]]}, "32 hexadecimal digits"),
        ({"row": [0]}, "a column for each class; missing are dark, grey, bright"),
        ({"row": [0], "probabilities": [[1.0, 0.0, 0.0]]}, "said nothing about 6 samples"),
    ],
)
def test_files_that_cannot_teach(runs: Runs, tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "said.npz", **columns)
    with pytest.raises(WeightsError, match=message):
        runs(teacher.STEP, taught_by({"kind": "black_box", "file": str(tmp_path / "said.npz")}))


@pytest.mark.parametrize("name", ["said.npz", "said.parquet", "said.csv"])
def test_a_file_of_another_kind(runs: Runs, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"text")
    with pytest.raises(WeightsError, match=r"(cannot be read|must be an \.npz or a \.parquet file)"):
        runs(teacher.STEP, taught_by({"kind": "black_box", "file": str(tmp_path / name)}))


def test_classes_must_be_those_of_the_data(runs: Runs) -> None:
    source = {"kind": "black_box", "function": f"{HERE}:by_brightness", "classes": ["dark", "gray", "bright"]}
    with pytest.raises(WeightsError, match="the 3 classes of the data, each once: unknown are gray, missing are grey"):
        runs(teacher.STEP, taught_by(source))


# Contradictions

SHIFTED = "student.views={count: 2, transforms: [{name: affine, shift_pixels: 1}]}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["teacher={model: {name: mlp}, source: {kind: black_box, file: said.npz}}", SHIFTED],
            "ask a function (teacher.source.function), or set student.allow_mismatched_views",
        ),
        (["teacher.source={kind: black_box}"], "name either a file of what it said or a function that is asked"),
        (["teacher.source={kind: ensemble, members: [{kind: train}]}"], "an ensemble has at least two members"),
        (
            ["teacher={model: {name: mlp}, source: {kind: builder, builder: 'a.b:c'}}"],
            "teacher.model names another model: leave teacher.model out",
        ),
        (["teacher.source={kind: builder, builder: 'a.b.c'}"], "teacher.source.builder"),
        (["teacher.folds=3"], "teacher.folds is 3, but teacher.source.kind is 'ensemble'"),
        (["teacher.source={kind: black_box, function: 'a.b:c'}"], "teacher.train is set, but teacher.source.kind is"),
    ],
)
def test_contradictions_die_at_load(tmp_path: Path, overrides: list[str], message: str) -> None:
    import yaml

    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(BASE))
    with pytest.raises(ParamsError) as raised:
        load_params(file, overrides)
    assert message in str(raised.value)


def test_a_study_of_the_mistake_may_use_a_file(tmp_path: Path) -> None:
    import yaml

    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({**BASE, "teacher": {"model": {"name": "mlp"}}}))
    assert load_params(
        file, ["teacher.source={kind: black_box, file: said.npz}", SHIFTED, "student.allow_mismatched_views=true"]
    )


def test_teachers_in_words() -> None:
    """For reports."""
    assert ensemble({"kind": "train", "seeds": [0, 1, 2]}).teacher.in_words == "an ensemble of 3"
    assert taught_by({"kind": "black_box", "function": "a.b:c"}).teacher.in_words == "a black box"
    assert builder_params().teacher.in_words == "builder"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{kind: ensemble, members: [{kind: train, seeds: [0, 1]}]}",
            "teacher.source.combine probabilities is for classes, and the labels are numbers: set it to logits",
        ),
        ("{kind: black_box, function: 'a.b:c'}", "black_box gives probabilities or labels of classes"),
    ],
)
def test_probabilities_are_of_classes(source: str, message: str) -> None:
    """Numbers have none; the mean of members is `logits`."""
    recipe = Path(__file__).parents[3] / "recipes" / "diabetes.yaml"
    mean = "{kind: ensemble, combine: logits, members: [{kind: train, seeds: [0, 1]}]}"
    assert load_params(recipe, [f"teacher.source={mean}"]).teacher.in_words == "an ensemble of 2"
    with pytest.raises(ParamsError) as raised:
        load_params(recipe, [f"teacher.source={source}"])
    assert message in str(raised.value)
