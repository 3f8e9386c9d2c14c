"""params.yaml as a frozen, typed tree: section = step, unknown keys refused, all problems reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    ValidationError,
    model_validator,
)

from components import plugins
from components.contracts import (
    DataSpec,
    FormatParams,
    Frozen,
    GateTestParams,
    MixingParams,
    ModelParams,
    ObjectiveParams,
    Severity,
    TransformParams,
    Workload,
    WorkloadParams,
)
from components.errors import BadInputError, ParamsError
from components.functions import DOTTED
from components.schedules import highest

FAMILIES: Mapping[type[BaseModel], str] = {
    FormatParams: "formats",
    GateTestParams: "gate_tests",
    WorkloadParams: "workloads",
    ModelParams: "models",
    ObjectiveParams: "objectives",
    TransformParams: "transforms",
}
"""Whose plugin a section is, by the type it is declared with."""


def _choice(family: str) -> BeforeValidator:
    return BeforeValidator(plugins.parse(family))


Share = Annotated[float, Field(ge=0, le=1)]
FormatChoice = Annotated[SerializeAsAny[FormatParams], _choice("formats")]
WorkloadChoice = Annotated[SerializeAsAny[WorkloadParams], _choice("workloads")]
ModelChoice = Annotated[SerializeAsAny[ModelParams], _choice("models")]
ObjectiveChoice = Annotated[SerializeAsAny[ObjectiveParams], _choice("objectives")]
GateTestChoice = Annotated[SerializeAsAny[GateTestParams], _choice("gate_tests")]
TransformChoice = Annotated[SerializeAsAny[TransformParams], _choice("transforms")]


class HashSplit(Frozen):
    """By a hash of the decoded sample without its label: a sample keeps its split in every later version."""

    by: Literal["hash"] = "hash"
    salt: str = Field("potstill", description="another salt is another split")
    validation: Share = Field(0.125, description="share of the samples for model selection")
    test: Share = Field(0.25, description="share of the samples that is touched once, by evaluate")
    transfer: Share = Field(0.0, description="share of the samples that the student may learn from, and no teacher")

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> HashSplit:
        taken = self.validation + self.test + self.transfer
        if taken >= 1:
            raise ValueError(f"validation + test + transfer is {taken:g}: nothing is left to train on")
        return self


class ColumnSplit(Frozen):
    """By a column of the source whose values are named here."""

    by: Literal["column"]
    column: str = Field(description="name of the column")
    train: tuple[str, ...] = Field(description="its values that mean training")
    validation: tuple[str, ...] = Field(
        (), description="its values that mean validation; empty: a hashed share of training"
    )
    test: tuple[str, ...] = Field(description="its values that mean test")
    transfer: tuple[str, ...] = Field(
        (), description="its values that mean samples that the student may learn from, and no teacher"
    )
    validation_share: Share = Field(0.1, description="share of training to hold out where no value means validation")
    transfer_share: Share = Field(
        0.0, description="share of training to make transfer samples where no value means that"
    )
    salt: str = Field("potstill", description="another salt holds out another share")

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> ColumnSplit:
        return _leaving_some_to_train(self)


class FolderSplit(Frozen):
    """By the first folder of each source, for official test sets (train/..., test/...)."""

    by: Literal["folder"]
    train: tuple[str, ...] = Field(("train",), description="folders that mean training")
    validation: tuple[str, ...] = Field(
        ("validation", "val"), description="folders that mean validation; none there: a hashed share of training"
    )
    test: tuple[str, ...] = Field(("test",), description="folders that mean test")
    transfer: tuple[str, ...] = Field(
        ("transfer",), description="folders of samples that the student may learn from, and no teacher"
    )
    validation_share: Share = Field(0.1, description="share of training to hold out where no folder means validation")
    transfer_share: Share = Field(
        0.0, description="share of training to make transfer samples where no folder means that"
    )
    salt: str = Field("potstill", description="another salt holds out another share")

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> FolderSplit:
        return _leaving_some_to_train(self)


class IndexSplit(Frozen):
    """By an .npz file of index arrays named train, validation (or val) and test, into the decoded order."""

    by: Literal["index"]
    file: Path = Field(description="the .npz file; samples it does not name are left out")
    transfer: str | None = Field(
        None,
        min_length=1,
        description="its array of samples that the student may learn from, and no teacher; null: `transfer` if it has one",
    )
    test_column: str | None = Field(
        None,
        min_length=1,
        description="column of the source that names the test samples; null: the file's array `test`",
    )
    test_values: tuple[str, ...] = Field(("test",), min_length=1, description="values of test_column that mean test")


def _leaving_some_to_train(split: ColumnSplit | FolderSplit) -> Any:
    taken = split.validation_share + split.transfer_share
    if taken >= 1:
        raise ValueError(f"validation_share + transfer_share is {taken:g}: nothing is left to train on")
    return split


SplitChoice = Annotated[Union[HashSplit, ColumnSplit, FolderSplit, IndexSplit], Field(discriminator="by")]


class DataParams(Frozen):
    """Which data, at which version, decoded and split how."""

    repository: str = Field(description="a git repository with DVC: a path, a URL, or . for this one")
    path: str = Field(description="the DVC-tracked path inside it")
    revision: str = Field("HEAD", description="tag, branch or commit; resolved to a full commit once")
    format: FormatChoice = Field(description="how the files are laid out")
    split: SplitChoice = Field(default_factory=HashSplit, description="how samples are split")
    on_damaged: Literal["refuse", "skip"] = Field(
        "refuse", description="what to do with samples that cannot be decoded"
    )
    on_duplicate: Literal["drop", "refuse"] = Field(
        "drop", description="copies of test or validation samples found in training, and second copies anywhere"
    )
    min_per_class: int = Field(1, ge=1, description="every class has at least so many samples in every split")


class ExpectationParams(Frozen):
    """One expectation of the user's own, on the table with one row a sample."""

    type: str = Field(description="a Great Expectations type, such as expect_column_mean_to_be_between")
    kwargs: Mapping[str, Any] = Field(default_factory=dict, description="its arguments, such as column and max_value")
    severity: Severity = Field("critical", description="critical stops the flow, warning and info go on")


class ValidationParams(Frozen):
    """Whether a data version may be used."""

    min_rows: int = Field(100, ge=1, description="fewer samples than this are refused")
    class_share_min: Share = Field(0.0, description="smallest share of the samples that a class may have")
    duplicate_share_max: Share = Field(0.01, description="largest share of samples that are copies of others")
    drift_max: float = Field(
        0.2, ge=0, description="largest population stability index of a column against the last accepted version"
    )
    drift_severity: Severity = Field("warning", description="what a drift beyond that is")
    expectations: tuple[ExpectationParams, ...] = Field(
        (), description="expectations of your own, on the table with one row a sample"
    )


class OptimizerParams(Frozen):
    """How weights move."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="sgd (with Nesterov momentum) or adamw")
    learning_rate: float = Field(0.1, gt=0, description="peak learning rate, reached at the end of the warm-up")
    momentum: Share = Field(0.9, description="of sgd")
    weight_decay: float = Field(5e-4, ge=0, description="on weights of two or more dimensions")


class TrainParams(Frozen):
    """One training loop, for teachers and students alike."""

    epochs: int = Field(20, ge=1, le=100_000, description="passes over the training samples")
    batch_size: int = Field(128, ge=1, description="largest number of samples in a step")
    optimizer: OptimizerParams = Field(default_factory=OptimizerParams)
    shuffle: Literal["full", "chunks"] = Field(
        "full",
        description="chunks: in random order, rows shuffled within a window of them, for soft targets beyond memory",
    )
    shuffle_chunk_rows: int = Field(4096, ge=1, description="neighbouring rows in a chunk, where shuffle is chunks")
    shuffle_window_chunks: int = Field(16, ge=1, description="chunks in a window, where shuffle is chunks")
    warmup_share: Share = Field(
        0.1, description="share of the steps in which the learning rate rises; a cosine follows"
    )
    final_learning_rate_share: Share = Field(0.01, description="learning rate at the very end, as a share of the peak")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="on the hard-label part")
    clip_grad_norm: float | None = Field(None, gt=0, description="largest norm of all gradients together")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: autocast in the forward pass")
    channels_last: bool = Field(False, description="memory format of images; faster for convolutions on most hardware")
    early_stopping_epochs: int | None = Field(
        None,
        ge=1,
        description="stop after so many epochs without a better validation loss, and keep the best epoch's weights",
    )
    checkpoint_seconds: float = Field(
        20.0, ge=0, description="a kill loses at most about so much work (never changes a number)"
    )


class ViewParams(Frozen):
    """Deterministic augmentations: view v of a sample is the same pixels wherever it is made."""

    count: int = Field(1, ge=1, le=100_000, description="V: epoch e reads view e mod V")
    seed: int = Field(0, ge=0, description="another seed is another set of views")
    transforms: tuple[TransformChoice, ...] = Field((), description="in order; none: the sample itself")
    first_is_identity: bool = Field(True, description="view 0 is the sample itself")

    @property
    def mixes(self) -> bool:
        """Whether a view also shows another sample."""
        return any(isinstance(step, MixingParams) for step in self.transforms)

    @model_validator(mode="after")
    def _views_differ(self) -> ViewParams:
        if self.count > 1 and not self.transforms:
            raise ValueError(f"count is {self.count} but there are no transforms: all views would be the same sample")
        if self.count == 1 and self.transforms and self.first_is_identity:
            raise ValueError(
                "count is 1 and view 0 is the sample itself, so that no transform would ever run: raise count, or set "
                "first_is_identity to false"
            )
        return self

    @model_validator(mode="after")
    def _mix_once_and_last(self) -> ViewParams:
        mixing = [step.name for step in self.transforms if isinstance(step, MixingParams)]
        if len(mixing) > 1:
            raise ValueError(f"a view mixes two samples once, and transforms hold {' and '.join(mixing)}: keep one")
        if mixing and self.transforms[-1].name != mixing[0]:
            raise ValueError(f"{mixing[0]} must come last in transforms, since a mixed view has two labels: move it")
        return self


class TrainedTeacher(Frozen):
    """A teacher trained here."""

    kind: Literal["train"] = "train"


class MlflowTeacher(Frozen):
    """A teacher from a registry or run."""

    kind: Literal["mlflow"]
    uri: str = Field(
        pattern=r"^(models|runs):/", description="models:/<name>@<alias>, models:/<name>/<version> or runs:/..."
    )


class WeightsTeacher(Frozen):
    """A teacher from a file of safetensors weights, for the model named in teacher.model."""

    kind: Literal["weights"]
    file: Path = Field(description="the .safetensors file, from the working directory or the repository around it")


class BuilderTeacher(Frozen):
    """A teacher that a function of your own builds, with the weights that it comes with."""

    kind: Literal["builder"]
    builder: str = Field(pattern=DOTTED, description="module:function; it gets the DataSpec and returns a torch module")
    arguments: Mapping[str, Any] = Field(default_factory=dict, description="what the function is called with, by name")

    def as_model(self) -> ModelParams:
        """The same as teacher.model."""
        model = plugins.params_class("models", "builder").model_validate(
            {"name": "builder", "builder": self.builder, "arguments": self.arguments}
        )
        assert isinstance(model, ModelParams)
        return model


class BlackBoxTeacher(Frozen):
    """A teacher that only predicts: its answers in a file, or a function that is asked."""

    kind: Literal["black_box"]
    file: Path | None = Field(
        None, description=".npz or .parquet with sample_id, source or row of each sample, and what was said of it"
    )
    function: str | None = Field(
        None, pattern=DOTTED, description="module:function; it gets samples [B, *S] and returns an array"
    )
    arguments: Mapping[str, Any] = Field(default_factory=dict, description="what the function is called with, by name")
    answers: Literal["probabilities", "labels"] = Field(
        "probabilities", description="[N, C] probabilities of the classes, or [N] labels alone"
    )
    classes: tuple[str, ...] | None = Field(
        None, description="names of its classes in its own order; null: those of the data, in their order"
    )
    smoothing: float = Field(
        0.1, gt=0, lt=1, description="with labels: that share of each row is spread over all classes"
    )
    smallest_probability: float = Field(
        1e-6, gt=0, lt=0.1, description="with probabilities: smaller ones are raised to it, since log 0 is no number"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> BlackBoxTeacher:
        if (self.file is None) == (self.function is None):
            raise ValueError("name either a file of what it said or a function that is asked")
        return self


class TrainedMembers(Frozen):
    """Members that are trained here as teacher.train and teacher.views say, one for each seed."""

    kind: Literal["train"]
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1, description="a member for each")
    model: ModelChoice | None = Field(None, description="their architecture; null: teacher.model")


class WeightsMember(WeightsTeacher):
    """A member from a file of safetensors weights."""

    model: ModelChoice | None = Field(None, description="the architecture of the weights; null: teacher.model")


MemberSource = Annotated[
    Union[TrainedMembers, MlflowTeacher, WeightsMember, BuilderTeacher, BlackBoxTeacher], Field(discriminator="kind")
]


class EnsembleTeacher(Frozen):
    """Several teachers, whose answers are combined sample by sample."""

    kind: Literal["ensemble"]
    members: tuple[MemberSource, ...] = Field(min_length=1, description="where they come from; at least two in all")
    combine: Literal["probabilities", "logits", "weighted", "confidence"] = Field(
        "probabilities",
        description="mean probabilities; mean logits (or numbers); probabilities weighted by their fit on validation; "
        "probabilities weighted sample by sample by how certain each member is",
    )

    @model_validator(mode="after")
    def _several(self) -> EnsembleTeacher:
        if sum(len(member.seeds) if isinstance(member, TrainedMembers) else 1 for member in self.members) < 2:
            raise ValueError("an ensemble has at least two members: name more, or more seeds")
        return self


TeacherSource = Annotated[
    Union[TrainedTeacher, MlflowTeacher, WeightsTeacher, BuilderTeacher, BlackBoxTeacher, EnsembleTeacher],
    Field(discriminator="kind"),
]


class TeacherParams(Frozen):
    """The large, slow, accurate model."""

    source: TeacherSource = Field(default_factory=TrainedTeacher, description="where the teacher comes from")
    model: ModelChoice = Field(
        description="the teacher's architecture; kind: builder sets it, and with mlflow or black_box it is not used"
    )
    train: TrainParams = Field(
        default_factory=TrainParams, description="how the teacher is trained, or the members of an ensemble are"
    )
    views: ViewParams = Field(default_factory=ViewParams, description="augmentations of the teacher's own training")
    folds: int = Field(
        1,
        ge=1,
        le=100,
        description="K: further K teachers, each trained without one fold, speak about the training samples; 1: the teacher",
    )
    floor: Mapping[str, float] = Field(
        default_factory=dict,
        description="metric: what the teacher must reach on validation before it may teach, in the metric's direction",
    )
    seed: int = Field(0, ge=0, description="of the teacher's initial weights, shuffling and dropout")

    @model_validator(mode="before")
    @classmethod
    def _the_builder_is_the_model(cls, tree: Any) -> Any:
        """A teacher that a function builds is the model `builder`, and naming it once is enough."""
        source = tree.get("source") if isinstance(tree, dict) else None
        if not isinstance(source, dict) or source.get("kind") != "builder" or "model" in tree:
            return tree
        return {**tree, "model": {**{k: v for k, v in source.items() if k != "kind"}, "name": "builder"}}

    @property
    def members(self) -> tuple[TeacherParams, ...]:
        """Those of an ensemble, each as a teacher by itself; else the teacher itself."""
        if not isinstance(self.source, EnsembleTeacher):
            return (self,)
        return tuple(member for source in self.source.members for member in self._members_of(source))

    def _members_of(self, source: MemberSource) -> Iterator[TeacherParams]:
        model = getattr(source, "model", None) or self.model
        if isinstance(source, TrainedMembers):
            for seed in source.seeds:
                yield self.model_copy(update={"source": TrainedTeacher(), "model": model, "seed": seed})
        elif isinstance(source, BuilderTeacher):
            yield self.model_copy(update={"source": source, "model": source.as_model()})
        else:
            yield self.model_copy(update={"source": source, "model": model})

    @property
    def in_words(self) -> str:
        """Such as 'convnet', 'an ensemble of 5' or 'a black box'."""
        source = self.source
        if isinstance(source, EnsembleTeacher):
            return f"an ensemble of {len(self.members)}"
        return "a black box" if isinstance(source, BlackBoxTeacher) else self.model.name


class SoftTargetParams(Frozen):
    """The teacher's raw logits on every view of every training sample."""

    max_kl: float | None = Field(
        1e-4,
        gt=0,
        description="largest mean KL (nats) of the stored rows to the live teacher, at every T asked for; "
        "null: the least error within max_bytes_per_row",
    )
    max_relative_error: float = Field(
        1e-3,
        gt=0,
        description="of labels that are numbers, instead of max_kl: largest RMSE of the stored rows to the live teacher, as "
        "a share of the standard deviation of its outputs",
    )
    max_bytes_per_row: int | None = Field(None, ge=1, description="largest row on disk, of all classes together")
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1.0, 2.0, 4.0, 8.0, 20.0), min_length=1, description="where the error is measured"
    )
    codec: Literal["auto", "fp32", "fp16", "int8", "int4", "topk"] = Field(
        "auto", description="auto: the smallest within the bounds; topk: the smallest k within them"
    )
    batch_size: int = Field(
        256, ge=1, description="fixed, the last batch padded: logits change in the last bits with it"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the teacher's forward pass; bf16 is held to the same bound against fp32"
    )
    memory_format: Literal["contiguous", "channels_last"] = Field(
        "contiguous", description="channels_last: convolutions run faster on most processors, with other last bits"
    )
    rows_per_chunk: int = Field(4096, ge=1, description="unit of commit, checksum and resume")
    min_entropy_nats: float = Field(1e-4, ge=0, description="mean entropy at T=1 below this is one-hot: refused")
    max_entropy_share: Share = Field(
        0.99, description="mean entropy at T=1 above this share of log C is uniform: refused"
    )

    @model_validator(mode="after")
    def _bounded(self) -> SoftTargetParams:
        if self.max_kl is None and self.max_bytes_per_row is None and self.codec in ("auto", "topk"):
            raise ValueError(f"codec {self.codec} chooses by max_kl or max_bytes_per_row, and both are null: set one")
        return self


class AllLabels(Frozen):
    """Every label that the data holds."""

    by: Literal["all"] = "all"


class CountedLabels(Frozen):
    """So many labels, drawn by a hash of each sample: adding samples displaces few."""

    by: Literal["count"]
    count: int = Field(ge=1, description="labels that the student sees")
    per: Literal["set", "class"] = Field("set", description="count is of all classes together, or of each class")
    seed: int = Field(0, ge=0, description="another seed draws other samples")


class IndexedLabels(Frozen):
    """The samples that an array of an .npz file names, by their places in the decoded order."""

    by: Literal["index"]
    array: str = Field("labelled", min_length=1, description="name of the array")
    file: Path | None = Field(None, description="the .npz file; null: the one of data.split")


LabelChoice = Annotated[Union[AllLabels, CountedLabels, IndexedLabels], Field(discriminator="by")]
RowChoice = Literal["auto", "train", "transfer", "both", "labelled_and_transfer"]


class StudentParams(Frozen):
    """The small, fast model."""

    model: ModelChoice = Field(description="the student's architecture, with and without distillation")
    objective: ObjectiveChoice = Field(description="what the student learns from the teacher")
    rows: RowChoice = Field(
        "auto",
        description="samples that the student learns from: a split, both, or transfer and those of training whose labels "
        "it sees; auto: the last if there are transfer samples, else train",
    )
    labels: LabelChoice = Field(
        default_factory=AllLabels, description="labels that both students see; of the other samples only soft targets"
    )
    train: TrainParams = Field(default_factory=TrainParams, description="how both students are trained")
    views: ViewParams = Field(default_factory=ViewParams, description="the views that teacher and student both see")
    seed: int = Field(0, ge=0, description="of both students' initial weights, shuffling and dropout")
    live_precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the teacher's forward pass beside the student, where the objective needs its features"
    )
    allow_mismatched_views: bool = Field(
        False,
        description="train on augmented samples with the logits of the clean ones (a known mistake; for studies only)",
    )


class EvaluateParams(Frozen):
    """The one look at the test split."""

    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of the intervals")
    bootstrap_resamples: int = Field(
        2000, ge=100, description="resamples of the test split for intervals of differences"
    )
    latency_batches: tuple[int, ...] = Field((1, 64), min_length=1, description="batch sizes to time, in samples")
    latency_repeats: int = Field(
        100,
        ge=10,
        description="timed forward passes behind p50 and p95, for each batch size; fewer where they take over ten seconds",
    )
    seed: int = Field(0, ge=0, description="of the bootstrap")


class GateParams(Frozen):
    """When a student may become champion."""

    metric: str = Field("accuracy", description="one of the workload's metrics, on the test split")
    floor: float = Field(description="the metric must be at least as good as this")
    against_champion: Literal["non_inferiority", "superiority"] = Field(
        "non_inferiority", description="not worse than the champion by more than the margin, or better than it"
    )
    margin: float = Field(
        0.02, ge=0, description="of non_inferiority, in the metric's own unit: a loss that nobody would mind"
    )
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="how often one holdout may promote a candidate that does not deserve it, in all"
    )
    candidates_per_holdout: int = Field(
        10, ge=1, description="alpha is shared among so many different candidates; then a fresh holdout is due"
    )
    min_rows: int = Field(30, ge=2, description="smallest holdout, in labelled test samples")
    tests: tuple[GateTestChoice, ...] = Field((), description="further bounds, all of which must hold too")
    committed_code: bool = Field(True, description="refuse what was made by code with uncommitted changes")
    approval_hours: float | None = Field(
        None,
        gt=0,
        description="wait so long for a person to approve a promotion in Prefect, then refuse; null: do not ask",
    )

    @model_validator(mode="after")
    def _margin_where_there_is_one(self) -> GateParams:
        if self.against_champion == "non_inferiority" and self.margin == 0:
            raise ValueError(
                "margin is 0: a test of non-inferiority needs a margin; or set against_champion: superiority"
            )
        return self


COSTS = ("num_parameters", "latency_p50_ms")
"""Objectives of a sweep that are no metrics; less of them is better."""
SEED = "student.seed"


class RangeParams(Frozen):
    """Numbers from low to high, whole ones where the parameter is a whole number."""

    low: float = Field(description="smallest value")
    high: float = Field(description="largest value")
    log: bool = Field(False, description="spread evenly over orders of magnitude")
    step: float | None = Field(None, gt=0, description="distance of neighbouring values; a grid needs it")

    @model_validator(mode="after")
    def _is_a_range(self) -> RangeParams:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}: low must be less")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low:g}, and a range with log begins above 0")
        if self.log and self.step:
            raise ValueError("log and step exclude each other: leave one out")
        return self


def _kind_of_space(value: Any) -> str:
    return "range" if isinstance(value, dict | RangeParams) else "values"


def _values_or_range(value: Any) -> Any:
    if not isinstance(value, list | tuple | dict | RangeParams) or not value:
        raise ValueError("must be a list of values, or a range {low, high, log, step}")
    return value


SpaceChoice = Annotated[
    Union[Annotated[tuple[Any, ...], Tag("values")], Annotated[RangeParams, Tag("range")]],
    Discriminator(_kind_of_space),
    BeforeValidator(_values_or_range),
]


class SweepParams(Frozen):
    """Many students from one set of soft targets; `potstill sweep` alone reads it."""

    space: Mapping[str, SpaceChoice] = Field(
        min_length=1,
        description="student parameter, such as student.objective.temperature: a list of its values (whole sections "
        "too), or {low, high, log, step}",
    )
    sampler: Literal["grid", "tpe", "random"] = Field(
        "grid", description="grid: every combination; tpe: guided by the trials so far; random: neither"
    )
    trials: int | None = Field(None, ge=1, description="combinations to draw, with tpe and random")
    seeds: int = Field(1, ge=1, description="students of each trial, with student.seed 0, 1, ...")
    objectives: tuple[str, ...] = Field(
        (),
        description="what is optimised: metrics of the workload on the validation split, num_parameters, "
        "latency_p50_ms; several give a Pareto front; none: the workload's primary metric",
    )
    pruner: Literal["none", "median"] = Field(
        "none", description="median: a trial that is worse than half of the others at the same epoch is given up"
    )
    processes: int = Field(0, ge=0, description="students trained at once, each in one thread; 0: one a physical core")
    timeout_minutes: float | None = Field(None, gt=0, description="no trial begins after so long")
    seed: int = Field(0, ge=0, description="of the sampler")

    @model_validator(mode="after")
    def _no_contradictions(self) -> SweepParams:
        problems = list(_sweep_contradictions(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _sweep_contradictions(sweep: SweepParams) -> Iterator[str]:
    if sweep.sampler == "grid":
        endless = [name for name, found in sweep.space.items() if isinstance(found, RangeParams) and not found.step]
        if endless:
            yield f"a grid needs a step or a list of values for {', '.join(endless)}; or use sampler tpe"
        if sweep.trials:
            yield "a grid tries every combination: leave trials out, or use sampler random"
    elif sweep.trials is None:
        yield f"sampler {sweep.sampler} never ends by itself: set trials"
    if isinstance(sweep.space.get(SEED), RangeParams):
        yield f"{SEED} needs a list of seeds"
    if SEED in sweep.space and sweep.seeds > 1:
        yield f"seeds is {sweep.seeds} and space lists {SEED}: keep one"
    if sweep.pruner != "none" and len(sweep.objectives) > 1:
        yield "a trial with several objectives cannot be pruned: set pruner to none"


class ComparisonParams(Frozen):
    """Several objectives under one teacher and with the same seeds; `potstill compare` alone reads it."""

    methods: Mapping[str, Annotated[tuple[ObjectiveChoice, ...], Field(min_length=1)]] = Field(
        min_length=2,
        description="a row of the table each: objectives, of which the best on the validation split is taken",
    )
    reference: str = Field("kd", description="the row that all others are compared with, besides hard labels")
    seeds: int = Field(5, ge=2, description="students behind each row, with student.seed 0, 1, ...")
    search_seeds: int = Field(2, ge=1, description="students behind each choice, with student.seed 0, 1, ...")

    @model_validator(mode="after")
    def _reference_is_a_row(self) -> ComparisonParams:
        if self.reference not in self.methods:
            raise ValueError(f"reference {self.reference!r} is not one of the methods ({', '.join(self.methods)})")
        return self


class RefreshParams(Frozen):
    """Where new data versions appear; `potstill refresh` alone reads it."""

    tags: str | None = Field(None, description="a pattern, such as v*: the highest version number is the newest")
    branch: str | None = Field(None, description="or a branch, whose last commit is the newest; neither: all tags")

    @model_validator(mode="after")
    def _one_of_them(self) -> RefreshParams:
        if self.tags is not None and self.branch is not None:
            raise ValueError("tags and branch are both set: keep one")
        return self


class RegistryParams(Frozen):
    """Names in MLflow."""

    experiment: str = Field("potstill", min_length=1, description="experiment that the runs are logged to")
    student: str = Field(min_length=1, pattern=r"^[^/:@]+$", description="registered model of the students")
    teacher: str = Field(min_length=1, pattern=r"^[^/:@]+$", description="registered model of the teachers")


class Params(Frozen):
    """Every choice that changes a number."""

    data: DataParams
    workload: WorkloadChoice
    validation: ValidationParams = Field(default_factory=ValidationParams)
    teacher: TeacherParams
    soft_targets: SoftTargetParams = Field(default_factory=SoftTargetParams)
    student: StudentParams
    evaluate: EvaluateParams = Field(default_factory=EvaluateParams)
    gate: GateParams
    registry: RegistryParams
    refresh: RefreshParams = Field(default_factory=RefreshParams)
    sweep: SweepParams | None = Field(
        None, description="what `potstill sweep` tries: many students from one set of soft targets"
    )
    comparison: ComparisonParams | None = Field(None, description="a table of objectives")

    def workload_for(self, data: DataSpec) -> Workload:
        """The workload, for the labels of *data*; BadInputError where those are of another kind than it learns."""
        workload = self.workload.build(data)
        if workload.labels != data.label_kind:
            raise BadInputError(
                f"the labels of {self.data.path} are {data.label_kind}, and workload {self.workload.name!r} learns "
                f"{workload.labels}; correct workload, or data.format"
            )
        return workload

    @model_validator(mode="after")
    def _no_contradictions(self) -> Params:
        problems = list(_contradictions(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _contradictions(params: Params) -> Iterator[str]:
    yield from _unknown_metrics(params)
    yield from _of_another_kind_of_labels(params)
    single = params.teacher.source.kind in ("train", "weights")
    if single and params.student.model == params.teacher.model and highest(params.student.objective.alpha) > 0:
        yield "student.model is the teacher's own model: there is nothing to make smaller"
    if params.student.labels.by == "index" and params.student.labels.file is None and params.data.split.by != "index":
        yield "student.labels names no file, and data.split has none either: set student.labels.file"
    yield from _teacher_contradictions(params.teacher)
    if params.teacher.source.kind in ("ensemble", "black_box") and "features" in params.student.objective.needs:
        yield (
            f"student.objective {params.student.objective.name} needs the features of one model, and teacher.source.kind is "
            f"{params.teacher.source.kind!r}: choose an objective of logits"
        )
    yield from _views_of_a_table(params)
    yield from _kinds_of_answers(params)
    yield from _untestable(params)
    if params.teacher.folds > 1 and "features" in params.student.objective.needs:
        yield (
            f"student.objective {params.student.objective.name} needs the features of one live teacher, and teacher.folds "
            f"is {params.teacher.folds}: set it to 1, or choose an objective of logits"
        )


def _teacher_contradictions(teacher: TeacherParams) -> Iterator[str]:
    source, kind = teacher.source, teacher.source.kind
    trains = isinstance(source, EnsembleTeacher) and any(member.kind == "train" for member in source.members)
    if kind != "train" and not trains and teacher.train != TrainParams():
        yield f"teacher.train is set, but teacher.source.kind is {kind!r}: nothing would be trained"
    if isinstance(source, BuilderTeacher) and teacher.model != source.as_model():
        yield "teacher.source.kind is 'builder', and teacher.model names another model: leave teacher.model out"
    if kind != "train" and teacher.folds > 1:
        yield f"teacher.folds is {teacher.folds}, but teacher.source.kind is {kind!r}: only what is trained here has folds"


def _kinds_of_answers(params: Params) -> Iterator[str]:
    """Probabilities of classes make no sense of numbers."""
    if params.workload.build().labels != "numbers":
        return
    source = params.teacher.source
    if isinstance(source, EnsembleTeacher) and source.combine != "logits":
        yield f"teacher.source.combine {source.combine} is for classes, and the labels are numbers: set it to logits"
    if any(isinstance(member.source, BlackBoxTeacher) for member in params.teacher.members):
        yield "teacher.source.kind black_box gives probabilities or labels of classes, and the labels are numbers"


def _views_of_a_table(params: Params) -> Iterator[str]:
    sources = [member.source for member in params.teacher.members]
    tables = any(isinstance(source, BlackBoxTeacher) and source.file for source in sources)
    if tables and params.student.views.transforms and not params.student.allow_mismatched_views:
        yield (
            "teacher.source.file holds what a black box said of the samples as they are, and student.views.transforms make "
            "others of them: leave student.views out, ask a function (teacher.source.function), or set "
            "student.allow_mismatched_views for a study of that mistake"
        )


def _untestable(params: Params) -> Iterator[str]:
    """What the gate could not judge, said before anything is trained."""
    measures = params.workload.build().measures
    measure = measures.get(params.gate.metric)
    if measure is None:
        return
    if measure.of_rows is None:
        testable = ", ".join(sorted(name for name, each in measures.items() if each.of_rows))
        yield (
            f"gate.metric {params.gate.metric!r} has no value for a single row, so two models cannot be tested on it: take "
            f"one of {testable}, and bound it by gate.tests (name: bound)"
        )
    margins = {"gate.margin": params.gate.margin} if params.gate.against_champion == "non_inferiority" else {}
    margins |= {
        f"gate.tests ({test.name}).margin": test.margin for test in params.gate.tests if hasattr(test, "margin")
    }
    for place, margin in margins.items():
        if measure.of_rows == "share" and margin >= 1:
            yield f"{place} is a share and must lie below 1 (is {margin:g})"
    for test in params.gate.tests:
        if test.name == "latency" and getattr(test, "batch_size", None) not in params.evaluate.latency_batches:
            yield f"gate.tests (latency).batch_size {getattr(test, 'batch_size', None)} is not in evaluate.latency_batches"


def _unknown_metrics(params: Params) -> Iterator[str]:
    measures = params.workload.build().measures
    known = f"is not a metric of this workload (it has: {', '.join(sorted(measures))})"
    if params.gate.metric not in measures:
        yield f"gate.metric {params.gate.metric!r} {known}"
    for name, bound in params.teacher.floor.items():
        if name not in measures:
            yield f"teacher.floor: {name!r} {known}"
        elif measures[name].unit == "share" and not 0 <= bound <= 1:
            yield f"teacher.floor.{name} is a share and must lie between 0 and 1 (is {bound:g})"
    objectives = params.sweep.objectives if params.sweep else ()
    for name in set(objectives) - {*measures, *COSTS}:
        yield f"sweep.objectives: {name!r} {known}, nor one of the costs {', '.join(COSTS)}"
    if objectives and not set(objectives) & set(measures):
        yield f"sweep.objectives has costs alone: name a metric too ({', '.join(sorted(measures))})"


def _of_another_kind_of_labels(params: Params) -> Iterator[str]:
    """What makes sense for classes alone, or for numbers alone."""
    kind, objective = params.workload.build().labels, params.student.objective
    if kind not in objective.learns and highest(objective.alpha) > 0:
        yield f"student.objective {objective.name!r} compares {', '.join(sorted(objective.learns))}, and {_learns(params)}"
    if kind == "classes":
        return
    smoothed = [name for name in ("teacher", "student") if getattr(params, name).train.label_smoothing]
    for place in (*(f"{name}.train.label_smoothing" for name in smoothed), *_about_classes(params)):
        yield f"{place} is about classes, and {_learns(params)}: leave it out"


def _learns(params: Params) -> str:
    return f"workload {params.workload.name!r} learns {params.workload.build().labels}"


def _about_classes(params: Params) -> Iterator[str]:
    if params.validation.class_share_min:
        yield "validation.class_share_min"
    if params.data.min_per_class > 1:
        yield "data.min_per_class"
    if params.soft_targets.codec in ("int8", "int4", "topk"):
        yield f"soft_targets.codec {params.soft_targets.codec}"


def load_params(path: Path, overrides: Sequence[str] = ()) -> Params:
    """Read *path*, apply 'a.b.c=value' *overrides* and type the whole; ParamsError lists every problem."""
    tree, lines = _read(path)
    problems = [problem for override in overrides if (problem := _apply(tree, override))]
    if problems:
        raise ParamsError(_message(path, problems))
    set_here = [tuple(override.partition("=")[0].split(".")) for override in overrides]
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        problems = [_describe(details, tree, lines, set_here) for details in error.errors()]
        raise ParamsError(_message(path, problems)) from error


def _message(path: Path, problems: Sequence[str]) -> str:
    count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
    return f"{path} has {count}:\n" + "\n".join(f"  {problem}" for problem in problems)


def _read(path: Path) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise ParamsError(
            f"{path} does not exist; run from the project's folder or name a file with --params"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ParamsError(f"{path} must be a mapping of sections ({', '.join(Params.model_fields)})")
    return tree, dict(_lines(node, ())) if node else {}


def _lines(node: yaml.Node, at: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*at, key.value), key.start_mark.line + 1
            yield from ((place, line) for place, line in _lines(value, (*at, key.value)) if place != (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*at, index))


def _apply(tree: dict[str, Any], override: str) -> str | None:
    """Set one 'a.b.c=value' in *tree*; the value is YAML. Returns what is wrong with it, if anything."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        return f"--set {override!r} is not of the form section.field=value"
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return f"--set {override!r}: the value is not valid YAML"
    stopped_at = _put(tree, dotted, value)
    return f"--set {override!r}: {stopped_at} is not a section" if stopped_at else None


def _put(tree: dict[str, Any], dotted: str, value: Any) -> str | None:
    """Set a value by its dotted name; returns what is in the way because it is no section."""
    *parents, last = dotted.split(".")
    target = tree
    for name in parents:
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            return name
    target[last] = value
    return None


def with_values(params: Params, values: Mapping[str, Any]) -> Params:
    """*params* with other values for some dotted names, outer sections first; ParamsError lists what does not fit."""
    tree = params.model_dump(mode="json")
    for dotted in sorted(values, key=lambda name: name.count(".")):
        if stopped_at := _put(tree, dotted, values[dotted]):
            raise ParamsError(f"{dotted}: {stopped_at} is not a section")
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise ParamsError("; ".join(_describe(details, tree, {}, ()) for details in error.errors())) from error


def _describe(
    details: Any,
    tree: dict[str, Any],
    lines: Mapping[tuple[str | int, ...], int],
    overridden: Sequence[tuple[str, ...]],
) -> str:
    place = _real_place(details, tree)
    name = ".".join(str(part) for part in place) or "(whole file)"
    line = next((lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in lines), None)
    is_overridden = any(place[: len(override)] == override for override in overridden)
    where = f"{name} (overridden)" if is_overridden else f"{name} (line {line})" if line else name
    return f"{where}: {_problem(details, place, tree)}"


def _real_place(details: Any, tree: Any) -> tuple[str | int, ...]:
    """The place of a problem without the tags of discriminated unions, which are no keys of the file."""
    loc, is_a_key = details["loc"], details["type"] in ("missing", "extra_forbidden")
    place: list[str | int] = []
    for index, part in enumerate(loc):
        if isinstance(tree, dict) and part not in tree and not (is_a_key and index + 1 == len(loc)):
            continue
        place.append(part)
        tree = tree[part] if _holds(tree, part) else None
    return tuple(place)


def _holds(tree: Any, part: str | int) -> bool:
    return (isinstance(tree, dict) and part in tree) or (
        isinstance(tree, list) and isinstance(part, int) and part < len(tree)
    )


def _problem(details: Any, place: tuple[str | int, ...], tree: Any) -> str:
    kind, message = details["type"], details["msg"]
    if kind == "extra_forbidden":
        return f"no such parameter{_did_you_mean(str(place[-1]), _siblings(place[:-1], tree))}"
    if kind == "missing":
        return "is required"
    value = details["input"]
    shown = "" if isinstance(value, dict | BaseModel) else f" (is {value!r})"
    return message.removeprefix("Value error, ") + shown


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _siblings(place: tuple[str | int, ...], tree: Any) -> tuple[str, ...]:
    """Field names that are allowed at *place*; for a plugin, those of the one that is named there."""
    models: list[type[BaseModel]] = [Params]
    for part in place:
        tree = tree[part] if _holds(tree, part) else None
        if isinstance(part, int):
            continue
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        models = [_named(found, tree) for field in fields for found in _models_in(field.annotation)]
    return tuple(dict.fromkeys(name for model in models for name in model.model_fields))


def _named(model: type[BaseModel], tree: Any) -> type[BaseModel]:
    """The Params of the plugin that *tree* names, where *model* is the base class of a family."""
    family = FAMILIES.get(model)
    return plugins.params_class(family, tree["name"]) if family and isinstance(tree, dict) and "name" in tree else model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from _models_in(argument)
