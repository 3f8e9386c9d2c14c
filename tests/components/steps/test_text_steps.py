"""Facts about the steps on texts: what a model learns before it is built, what it remembers, and how it leaves."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.data.packed import open_packed
from components.data.packing import write_packed
from components.data.splits import Splits
from components.export.torch_export import load
from components.params import Params
from components.programs import largest_difference
from components.sample_ids import sample_ids
from components.saved_models import load_model, model_digest
from components.settings import Settings
from components.steps import baseline, fitting, fold_teachers, student, teacher
from components.steps.execute import Outcome, execute, key_of
from components.steps.pipeline import load_step
from components.steps.step import Resolved, Step
from components.workloads.text_classification import Params as Workload

LENGTH = 48
TRANSFORMER = {"name": "text_transformer", "vocab_size": 300, "max_tokens": 16, "width": 16, "heads": 2}
BASE: dict[str, Any] = {
    "data": {"repository": ".", "path": "data", "format": {"name": "text_csv"}},
    "workload": {"name": "text_classification"},
    "teacher": {
        "model": {**TRANSFORMER, "depth": 2},
        "train": {"epochs": 8, "batch_size": 4, "optimizer": {"name": "adamw", "learning_rate": 0.01}},
    },
    "student": {
        "model": {"name": "ngram_bag", "num_buckets": 64, "width": 8},
        "objective": {"name": "kd"},
        "views": {"count": 2, "transforms": [{"name": "token_dropout", "probability": 0.3}]},
        "train": {"epochs": 4, "batch_size": 4, "optimizer": {"name": "adamw", "learning_rate": 0.01}},
    },
    "gate": {"floor": 0.0},
    "registry": {"student": "s", "teacher": "t"},
}


def changed(**sections: Mapping[str, Any]) -> Params:
    return Params.model_validate({**BASE, **{name: {**BASE[name], **values} for name, values in sections.items()}})


@pytest.fixture
def data(store: Store) -> Artifact:
    """The tiny texts, packed."""

    def make(out: Path) -> None:
        decoded = Workload().build().tiny(seed=0)
        of = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [12, 6, 6])
        write_packed(out, decoded, sample_ids(decoded.samples), Splits(of, dropped=(), conflicting=()))

    return store.commit("data", "0" * 64, {}, make)


class Listener(NoProgress):
    """Remembers what was begun."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []

    def start(self, title: str, *, total: int) -> None:
        self.begun.append((title, total))


class Runs:
    """Runs steps on one store."""

    def __init__(self, settings: Settings, store: Store, data: Artifact) -> None:
        self.settings, self.store, self.data, self.progress = settings, store, data, Listener()

    def __call__(self, step: Step, params: Params, **inputs: Artifact) -> Outcome:
        given = {"data": self.data, **inputs}
        if "fold_teachers" in step.inputs:
            given["fold_teachers"] = self(fold_teachers.STEP, params).artifact
        return execute(
            step,
            params=params,
            settings=self.settings,
            store=self.store,
            inputs=given,
            producer="test",
            progress=self.progress,
        )

    def taught(self, params: Params) -> tuple[Artifact, Artifact]:
        """Teacher and student."""
        made = self(teacher.STEP, params).artifact
        targets = self(load_step("soft_targets"), params, teacher=made).artifact
        return made, self(student.STEP, params, teacher=made, soft_targets=targets).artifact


@pytest.fixture
def runs(settings: Settings, store: Store, data: Artifact) -> Runs:
    return Runs(settings, store, data)


def test_versions_of_a_models_own_libraries_count(data: Artifact) -> None:
    """The tokenizers library for whoever uses it, and not for others."""
    keys = [
        key_of(step, changed(), {"data": data}, Resolved()).fields["libraries"]
        for step in (teacher.STEP, baseline.STEP)
    ]

    assert ["tokenizers" in libraries for libraries in keys] == [True, False]


def test_models_that_learn_nothing_are_handed_no_samples(data: Artifact) -> None:
    """Most do not look at them, and copying a training split costs its size."""

    class Unreadable:
        spec = open_packed(data).spec

    params = changed()
    assert fitting.with_learned(params.student.model, Unreadable()) is Unreadable.spec  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        fitting.with_learned(params.teacher.model, Unreadable())  # type: ignore[arg-type]


def samples() -> torch.Tensor:
    return torch.from_numpy(Workload().build().tiny(seed=1).samples)


@pytest.mark.slow
def test_a_transformer_teaches_a_bag_of_ngrams(runs: Runs) -> None:
    """Its tokenizer is kept beside the weights, counts in its digest, and is all that loading needs."""
    made, taught = runs.taught(changed())
    learned = made.read_json("learned.json")
    module = load_model(made)

    assert set(learned) == {"tokenizer"}
    assert "learned" not in made.read_json("model.json")["data_spec"]
    assert module.tokenizer == learned["tokenizer"]
    assert made.read_json("metrics.json")["accuracy"] >= 0.5
    assert load_model(taught)(samples()).shape == (24, 3)
    assert not taught.file("learned.json").exists()
    before = model_digest(made)
    made.file("learned.json").chmod(0o644)
    made.file("learned.json").write_text("{}")
    assert model_digest(made) != before


@pytest.mark.slow
def test_an_exported_transformer_takes_tokens(runs: Runs) -> None:
    """student.pt2 takes what tokenizer.json makes of a text, and nothing of this project is needed for either."""
    from tokenizers import Tokenizer

    params = changed(student={"model": {**TRANSFORMER, "depth": 1}, "views": {}})
    made = runs(baseline.STEP, params).artifact
    exported = runs(load_step("export"), params, student=made).artifact
    live, texts = load_model(made), ["lost my card", "Cash?"]

    stored = np.zeros((2, LENGTH), dtype=np.uint8)
    for row, text in enumerate(texts):
        stored[row, : len(text)] = np.frombuffer(text.encode(), dtype=np.uint8)
    tokenizer = Tokenizer.from_file(str(exported.file("tokenizer.json")))
    ids = torch.tensor([each.ids for each in tokenizer.encode_batch(texts)])
    program = torch.export.load(exported.file("student.pt2")).module()

    torch.testing.assert_close(program(ids), live(torch.from_numpy(stored)), atol=1e-5, rtol=1e-5)
    whole = load(exported.file("student.pt2"))
    assert largest_difference(live, whole, samples().numpy(), (1, 2, 7)) <= 1e-5


def encoder(folder: Path) -> Params:
    model = {"name": "sentence_encoder", "folder": str(folder), "hidden": [8], "max_tokens": 24}
    return changed(teacher={"model": model, "views": BASE["student"]["views"]})


@pytest.mark.slow
def test_a_checkpoint_counts_by_its_content(runs: Runs, checkpoint: Path, tmp_path: Path) -> None:
    """Another folder with the same files is the same teacher, another weight is another; loading needs no folder."""
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(checkpoint, first)
    shutil.copytree(checkpoint, second)
    made = runs(teacher.STEP, encoder(first))
    again = runs(teacher.STEP, encoder(second))
    content = bytearray((second / "model.safetensors").read_bytes())
    content[-2] ^= 1
    (second / "model.safetensors").write_bytes(bytes(content))
    other = runs(teacher.STEP, encoder(second))
    said = load_model(made.artifact)(samples())
    shutil.rmtree(first)

    assert again.cached
    assert not other.cached
    assert torch.equal(load_model(made.artifact)(samples()), said)


@pytest.mark.slow
def test_embeddings_are_made_ahead_and_said(runs: Runs, checkpoint: Path) -> None:
    """Every view of every training text, before the first step; the weights hold the encoder and none of these."""
    made = runs(teacher.STEP, encoder(checkpoint)).artifact

    assert runs.progress.begun[0] == ("what training will not change", 24)
    assert made.file("weights.safetensors").stat().st_size < 2 * (checkpoint / "model.safetensors").stat().st_size


@pytest.mark.slow
def test_a_registered_transformer_teaches(runs: Runs, tmp_path: Path) -> None:
    """MLflow keeps the program of tokens and its tokenizer, and gives both back as a teacher that can be registered."""
    from components.registry import load_registered, register_model
    from components.tracking import RunSpec, project_run

    uri, locks = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "locks"
    trained = runs(teacher.STEP, changed()).artifact
    run = project_run(uri, "potstill", RunSpec("teacher", "teacher-identity"), [], lock_dir=locks)

    def register(name: str, artifact: Artifact) -> str:
        return register_model(
            uri,
            name=name,
            artifact=artifact,
            run_id=run.parent_run_id,
            sample_shape=(LENGTH,),
            tags={},
            lock_dir=locks,
            metadata={"class_names": ["a"]},
        ).uri

    there = Runs(runs.settings.model_copy(update={"tracking_uri": uri}), runs.store, runs.data)
    source = {"kind": "mlflow", "uri": register("t", trained)}
    brought = there(teacher.STEP, changed(teacher={"source": source, "train": {}})).artifact

    assert brought.read_json("model.json")["sample_shape"] == [LENGTH]
    assert brought.read_json("metrics.json") == pytest.approx(trained.read_json("metrics.json"), abs=1e-5)
    torch.testing.assert_close(load_model(brought)(samples()), load_model(trained)(samples()), atol=1e-5, rtol=1e-5)
    loaded = load_registered(register("again", brought), uri)
    torch.testing.assert_close(loaded(samples()), load_model(trained)(samples()), atol=1e-5, rtol=1e-5)


OWN = """
from pathlib import Path
from typing import ClassVar
from components.contracts import ModelParams

LIBRARIES = ("tokenizers", "transformers")


class Params(ModelParams):
    located: ClassVar[frozenset[str]] = frozenset({"folder"})
    folder: Path

    def files(self):
        names = ("config.json", "tokenizer.json", "model.safetensors")
        return {name: self.folder / name for name in names}

    def learn(self, samples):
        from components.models._tokens import fixed_length, read_tokenizer
        files = self.files()
        tokenizer = read_tokenizer(files["tokenizer.json"].read_text())
        return {"config": files["config.json"].read_text(), "tokenizer": fixed_length(tokenizer, 32, "[PAD]")}

    def build(self, data):
        from acme_texts.network import Classifier
        return Classifier(data)

    def begin(self, module):
        from transformers import AutoModel
        found = AutoModel.from_pretrained(self.folder, local_files_only=True).state_dict()
        module.core.encoder.load_state_dict(found)
"""
NETWORK = """
import json
import torch
from components.models._tokens import Tokens


class Core(torch.nn.Module):
    def __init__(self, config, num_classes):
        from transformers import AutoConfig, AutoModel
        super().__init__()
        config = AutoConfig.for_model(config.pop("model_type"), **config)
        self.encoder = AutoModel.from_config(config)
        self.head = torch.nn.Linear(config.hidden_size, num_classes)

    def forward(self, ids):
        return self.head(self.encoder(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state[:, 0])


class Classifier(torch.nn.Module):
    def __init__(self, data):
        super().__init__()
        self.tokenizer = data.learned["tokenizer"]
        self.tokens = Tokens(self.tokenizer)
        self.core = Core(json.loads(data.learned["config"]), data.num_classes)

    def forward(self, samples):
        return self.core(self.tokens(samples))
"""


@pytest.mark.slow
def test_a_checkpoint_by_a_dotted_builder(
    runs: Runs, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's own module fine-tunes a checkpoint whole, teaches, and is loaded without its folder."""
    package = tmp_path / "acme_texts"
    package.mkdir()
    for name, content in {"__init__": "", "encoder": OWN, "network": NETWORK}.items():
        (package / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    made, taught = runs.taught(changed(teacher={"model": {"name": "acme_texts.encoder", "folder": str(folder)}}))
    shutil.rmtree(folder)

    assert load_model(made)(samples()).isfinite().all()
    assert json.loads(made.file("model.json").read_text())["family"] == "acme_texts.encoder"
    assert taught.read_json("metrics.json")
    for name in [name for name in sys.modules if name.startswith("acme_texts")]:
        del sys.modules[name]
