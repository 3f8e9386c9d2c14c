"""The types a plugin fulfils and the words every module shares; importing this costs no torch.

Shape legend, the same everywhere:

    N rows (samples, or tokens and boxes flattened)   C classes   D width of a regression or feature
    B batch   T time   V views   S the shape of one sample, for an image (channels, height, width)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from components.schedules import Scheduled, Within, in_words

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

Severity = Literal["critical", "warning", "info"]
Direction = Literal["higher", "lower"]
ColumnKind = Literal["integer", "real", "text"]
LabelKind = Literal["classes", "numbers"]
"""classes: one of C, int64 [N], UNLABELLED where there is none; numbers: float32 [N, D], NaN where there is none."""
SPLITS = ("train", "validation", "test", "transfer")
"""A split's number is its place here. Transfer samples teach the student alone: no teacher has seen them."""
UNLABELLED = -1


def is_labelled(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of labels of either LabelKind are there; [N]. Of several numbers, all must be."""
    if labels.dtype.kind == "f":
        known: NDArray[np.bool_] = (labels == labels).all(axis=1)  # noqa: PLR0124 - NaN alone differs from itself
        return known
    return labels != UNLABELLED


def unlabelled_like(labels: NDArray[Any]) -> NDArray[Any]:
    """As many, none of them there."""
    hidden = labels.copy()
    hidden[...] = float("nan") if labels.dtype.kind == "f" else UNLABELLED
    return hidden


class Frozen(BaseModel):
    """A typed section of params.yaml: unknown keys are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PluginParams(Frozen):
    """The parameters of one plugin file; `name` is the file's name."""

    name: str


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What a model or objective must know of a data set to be built for it."""

    sample_shape: tuple[int, ...]
    """[S] of one stored sample; uint8 images are (channels, height, width), rows of a table (features,)."""
    class_names: tuple[str, ...]
    """In label order: class_names[y] is the name of label y. None where labels are numbers."""
    channel_mean: tuple[float, ...]
    """Of the training split, one for each place of the first dimension of S; of uint8, values scaled to 0..1."""
    channel_std: tuple[float, ...]
    num_train: int
    sample_dtype: Literal["uint8", "float32"] = "uint8"
    target_names: tuple[str, ...] = ()
    """Of labels that are numbers, in column order; [D]."""
    target_mean: tuple[float, ...] = ()
    """Of the labelled samples of the training split; [D]."""
    target_std: tuple[float, ...] = ()
    """[D], above zero."""
    feature_names: tuple[str, ...] = ()
    """What each value of a sample is, where they have names."""
    learned: Mapping[str, str] = field(default_factory=dict)
    """What the model to be built learnt of the training samples, see `ModelParams.learn`; it goes with the model."""

    @property
    def label_kind(self) -> LabelKind:
        return "numbers" if self.target_names else "classes"

    @property
    def output_names(self) -> tuple[str, ...]:
        """What each output of a model is about."""
        return self.target_names or self.class_names

    @property
    def num_outputs(self) -> int:
        """C, or D."""
        return len(self.output_names)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True, slots=True)
class Expectation:
    """One expectation on the table of samples, as plain data: a Great Expectations type and its arguments."""

    type: str
    kwargs: Mapping[str, Any]
    severity: Severity = "critical"


@dataclass(frozen=True, slots=True)
class Signals:
    """What a model says about N rows; the same type whether live or read from the store."""

    logits: Tensor
    """[N, C], before softmax and before any temperature; [N, D] in the labels' own unit where those are numbers."""
    features: Mapping[str, Tensor] = field(default_factory=dict)
    """By tap point, for objectives that need more than logits."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What an objective may know of the rows besides what the models say."""

    labels: Tensor
    """Of one LabelKind: [N] int64 or [N, D] float32."""
    labelled: Tensor
    """[N] bool."""
    sample_index: Tensor
    """[N] int64, the row in the data set."""
    place: Tensor
    """[N] int64, 0..number of rows trained on - 1: the place among them, for what is remembered of each."""
    progress: float
    """Share of the training done, 0..1."""


@dataclass(frozen=True, slots=True)
class DecodedSamples:
    """A data version once decoded, in a fixed order that does not depend on the file system."""

    samples: NDArray[Any]
    """[N, *S], uint8, or float32 and finite."""
    labels: NDArray[Any]
    """Of one LabelKind."""
    class_names: tuple[str, ...]
    """None where labels are numbers."""
    sources: tuple[str, ...]
    """[N]; where each sample came from, such as 'train/3/0012.png' or 'digits.parquet:12'."""
    columns: Mapping[str, Sequence[Any]]
    """[N] each: further columns of the source, usable for splits by column and for slices."""
    damaged: tuple[str, ...] = ()
    """Samples that could not be decoded, as 'source: why'."""
    notes: tuple[str, ...] = ()
    """What was done to samples that a person should hear of, one sentence each."""
    target_names: tuple[str, ...] = ()
    """Of labels that are numbers; [D]."""
    feature_names: tuple[str, ...] = ()
    """Columns that hold the values of the samples one by one; [S] where samples are rows of a table."""


class FormatParams(PluginParams):
    """A data format: a file in components/data/formats/."""

    def read(self, folder: Path) -> DecodedSamples:
        """Decode everything below *folder*; damaged samples are named, never dropped in silence."""
        raise NotImplementedError


class Transform(Protocol):
    """Makes views of samples of whole numbers; the same pixels for the same draw whatever the batch."""

    def __call__(self, samples: Tensor, draws: Draws) -> Tensor:
        """[B, *S] uint8 and the draws of those B views -> [B, *S] uint8."""
        ...


class Mixing(Protocol):
    """Makes a view of two samples: the last step of a view, after which it has two labels.

    Word 0 of its draws says which sample is the partner; its own words begin at 1.
    """

    def __call__(self, samples: Tensor, partners: Tensor, draws: Draws) -> Tensor:
        """[B, *S] twice, both seen as the steps before left them, and the draws of B views -> [B, *S], of the same type."""
        ...

    def shares(self, draws: Draws) -> Tensor:
        """[B] float32, 0..1: how much of each view is the sample's own; the rest is its partner's."""
        ...


@dataclass(frozen=True, slots=True)
class Mixture:
    """What B mixed views are made of."""

    partners: Tensor
    """[B] int64, the partner's row in the data set."""
    share: Tensor
    """[B] float32: of the sample itself; 1 - share is the partner's."""


class Draws(Protocol):
    """The random numbers of B views: for each (seed, sample id, view index) an endless row of 32-bit words."""

    def integers(self, low: int, high: int, *, word: int) -> Tensor:
        """[B] int64, uniform in low..high inclusive, made of the word numbered *word*.

        Four words cost as much as one, so a step numbers the words it needs from 0 on.
        """
        ...

    def noise(self, count: int) -> Tensor:
        """[B, count] uint8, uniform, and independent of all words."""
        ...


class TransformParams(PluginParams):
    """One step of a view: a file in components/transforms/."""

    def build(self, sample_shape: tuple[int, ...]) -> Transform | Mixing:
        raise NotImplementedError


class MixingParams(TransformParams):
    """The step of a view that mixes two samples; it comes last."""

    def build(self, sample_shape: tuple[int, ...]) -> Mixing:
        raise NotImplementedError


class ModelParams(PluginParams):
    """A model family: a file in components/models/.

    The module built takes raw samples [B, *S] as stored and returns logits [B, C], or numbers [B, D] in the labels'
    own unit: its deterministic `prepare` (normalise, resize) is inside, hence in its weights, digest and export. It
    may name its tap points: a mapping `tap_points` from name to submodule, in order from input to output.
    Where the first part of `prepare` is no tensor operation, the module fulfils `Tokenized`.
    """

    located: ClassVar[frozenset[str]] = frozenset()
    """Parameters that say where `files` are: what is in them counts in keys, not where they lie."""

    def modules(self) -> tuple[str, ...]:
        """Modules of the user's own that compute it besides the plugin file."""
        return ()

    def files(self) -> Mapping[str, Path]:
        """Files that `learn` and `begin` read, by names that are the same wherever they lie."""
        return {}

    def learn(self, samples: NDArray[np.uint8]) -> Mapping[str, str]:  # noqa: ARG002 (most learn nothing)
        """What building needs of the training samples [N, *S], such as a vocabulary: the same for the same samples.

        It becomes `DataSpec.learned` and is kept beside the weights, so that loading needs neither samples nor files.
        """
        return {}

    def build(self, data: DataSpec) -> nn.Module:
        raise NotImplementedError

    def begin(self, module: nn.Module) -> None:
        """Give what was just built the weights that it starts from, where they are not random."""


@runtime_checkable
class Tokenized(Protocol):
    """A model in two parts: words become tokens in the library `tokenizers`, and tokens become logits in a program."""

    core: nn.Module
    """int64 [B, T] -> logits [B, C], for any B: the part that is exported."""
    tokenizer: str
    """In the library's own JSON, with truncation and padding to T: all that `tokens` does to a text."""

    def tokens(self, samples: Tensor) -> Tensor:
        """uint8 [B, *S] -> int64 [B, T]."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """A model part of which never changes in training, so that what it says of a sample is computed once."""

    def remember(self, samples: Tensor) -> None:
        """Compute it ahead for uint8 [B, *S]."""
        ...

    def afresh(self, samples: Tensor) -> Tensor:
        """The answer, uint8 [B, *S] -> [B, C], by all of the computing that a sample costs which nobody has seen."""
        ...


class Objective(Protocol):
    """How a student is pulled toward its teacher: one loss a row; only the training loop reduces.

    What is an nn.Module besides may learn and remember: its parameters go to the optimizer, its buffers into checkpoints.
    """

    alpha: Scheduled
    """total = alpha * weight * distillation + (1 - alpha) * hard-label loss."""
    weight: Scheduled
    needs: frozenset[str]
    """Of the teacher: {'logits'} can be served from stored soft targets, 'features' are asked of it live."""
    student_taps: tuple[str, ...]
    """Tap points of the student whose features it reads."""
    teacher_taps: tuple[str, ...]
    reduction: Literal["rows", "batch"]
    """'batch': a row's loss depends on the other rows, so the whole logical batch is needed."""

    def __call__(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        """-> [N], its own T^2 included, its weight and alpha not.

        *teacher* holds what the objective needs and nothing else: without 'logits' its logits are empty, [N, 0].
        """
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the objective itself learns; empty for most."""
        ...


@runtime_checkable
class ClosedForm(Protocol):
    """An objective that knows its gradient, which spares the training loop the graph that autograd would build.

    For objectives of logits alone, that learn nothing themselves and take their rows one by one.
    """

    def rows_and_gradient(self, student: Signals, teacher: Signals, batch: Batch) -> tuple[Tensor, Tensor]:
        """What calling the objective gives, [N], and the gradient of each row's loss on the student's logits, [N, C].

        Of logits that are outside any graph; both results are new tensors.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelTaps:
    """Where a model can be listened to, and the shape of what is heard there."""

    points: tuple[str, ...]
    """Tap points that the model names itself, from input to output, such as ('stage1', 'stage2', 'embedding')."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of one sample, without the batch: of the points, and of every other submodule by its own name."""


@dataclass(frozen=True, slots=True)
class ObjectiveSpec:
    """What an objective must know to be built."""

    data: DataSpec
    student: ModelTaps
    teacher: ModelTaps | None
    """None for an objective that needs no features: then the teacher is not even loaded."""
    train_labels: NDArray[np.int64]
    """[num rows trained on], in the order of `Batch.place`; UNLABELLED where there is none."""


class ObjectiveParams(PluginParams):
    """An objective: a file in components/objectives/."""

    alpha: Annotated[Scheduled, Within(ge=0, le=1)] = Field(
        0.9, description="share of the distillation part; the rest is the hard-label loss"
    )
    weight: Annotated[Scheduled, Within(ge=0)] = Field(
        1.0, description="factor of the distillation part, for losses of another size than the hard-label loss"
    )

    @property
    def learns(self) -> frozenset[LabelKind]:
        """Labels of which kinds the outputs that it compares may be about."""
        return frozenset({"classes"})

    @property
    def needs(self) -> frozenset[str]:
        """Of the teacher; 'features' means that it runs live beside the student."""
        return frozenset({"logits"})

    def plugin_names(self) -> tuple[str, ...]:
        """Of the plugin files that compute it."""
        return (self.name,)

    def in_words(self) -> str:
        """Such as 'kd (temperature 4, alpha 0.9)'."""
        said = {
            name: getattr(self, name) for name in type(self).model_fields if name not in ("name", "alpha", "weight")
        }
        weight = {} if self.weight == 1 else {"weight": self.weight}
        values = {**said, "alpha": self.alpha, **weight}
        chosen = {name: value for name, value in values.items() if value not in (None, ())}
        return f"{self.name} ({', '.join(f'{name} {in_words(value)}' for name, value in chosen.items())})"

    def build(self, spec: ObjectiveSpec) -> Objective:
        """BadInputError where models or data do not fit it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of merit: what people call it, which way is better, and how it is written."""

    title: str
    better: Direction
    unit: Literal["share", "nats", ""] = ""
    """share: 0..1, written in percent; nothing: a plain number, such as an error in the labels' own unit."""
    of_rows: Literal["share", "mean", "root_mean"] | None = None
    """How it follows from its `row_scores`: the share of those that are 1 (the others are 0), their mean, or its root."""


@dataclass(frozen=True, slots=True)
class Table:
    """Long-form rows for plots and for people."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str | float]]


@dataclass(frozen=True, slots=True)
class Details:
    """What an evaluation tells beside the measures."""

    figures: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able, beside the arms in metrics.json; the report shows those it knows: per_class."""
    tables: Mapping[str, Table] = field(default_factory=dict)
    """Each becomes NAME.csv; the report draws those it knows: confusion, reliability, predictions."""


class Workload(Protocol):
    """A kind of task: what its labels are, its hard-label loss, measures and expectations.

    Outputs are what a model says, [N, C] logits of classes or [N, D] numbers in the labels' own unit. *labels* are as
    in LabelKind; where a method takes them, all N are there.
    """

    labels: ClassVar[LabelKind]
    measures: ClassVar[Mapping[str, Measure]]
    """Every metric, in the order of tables."""
    primary_metric: ClassVar[str]
    """One of the measures that have row scores."""
    fidelity_measures: ClassVar[Mapping[str, Measure]]
    """How near a student is to its teacher, whether or not either is right."""
    columns: ClassVar[Mapping[str, ColumnKind]]
    """What `describe` gives, in this order."""

    def describe(self, samples: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """[N, *S] -> [N] each: what expectations and the watch for drift can see of a sample, on the same table."""
        ...

    def expectations(self, data: DataSpec) -> Sequence[Expectation]:
        """What every data version of this kind must satisfy, on the table with one row a sample."""
        ...

    def hard_label_loss(self, outputs: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:
        """[N, C], [N] or [N, D], [N, D] -> [N]."""
        ...

    def metrics(self, outputs: NDArray[np.float32], labels: NDArray[Any]) -> Mapping[str, float]:
        """A value for each of `measures`."""
        ...

    def row_scores(self, outputs: NDArray[np.float32], labels: NDArray[Any]) -> Mapping[str, NDArray[np.float64]]:
        """[N] each, for paired comparisons: one for each of `measures` with `of_rows`."""
        ...

    def fidelity(self, outputs: NDArray[np.float32], teacher: NDArray[np.float32]) -> Mapping[str, float]:
        """A value for each of `fidelity_measures`."""
        ...

    def details(self, outputs: Mapping[str, NDArray[np.float32]], labels: NDArray[Any], data: DataSpec) -> Details:
        """Of all arms together, *outputs* by the arm's name; one of them is the student."""
        ...

    def in_words(self, sample: NDArray[Any]) -> str:
        """One sample [*S] as people read it in a report; empty where it is not to be read."""
        ...

    def tiny(self, *, seed: int) -> DecodedSamples:
        """A few synthetic rows, so that contract tests run offline in a moment."""
        ...


def directions(workload: Workload) -> Mapping[str, Direction]:
    """Every metric of *workload*, and whether more or less of it is better."""
    return {name: measure.better for name, measure in workload.measures.items()}


class WorkloadParams(PluginParams):
    """A workload: a file in components/workloads/."""

    def build(self, data: DataSpec | None = None) -> Workload:
        """For the labels of *data*; without it a loss that depends on their spread takes them as they are."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one model when the gate decides."""

    model_digest: str
    holdout_digest: str
    """Of the labelled test samples that everything here was measured on."""
    metrics: Mapping[str, float]
    """Measures of the workload and of fidelity, num_parameters, weight_bytes."""
    rows: NDArray[np.float64]
    """[N], the row scores of the gate's metric on the holdout, in its order."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """[N] each: which slice of a column a row belongs to, such as its class."""
    latency_ms: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """By batch size: p50 and p95; empty where none was measured on this machine."""
    siblings: Sequence[float] = ()
    """The gate's metric on the validation split of students that differ in their seed alone, the model's own first."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One bound, and whether the candidate keeps it."""

    bound: str
    kept: bool
    text: str
    """For people; a broken bound says what would have been enough."""
    value: float | None = None
    """The candidate's, where the bound has one finite value."""
    limit: float | None = None
    """What *value* was held against."""


@dataclass(frozen=True, slots=True)
class Case:
    """All that a test of the gate may look at."""

    candidate: Evidence
    champion: Evidence | None
    """None where there is none yet."""
    teacher: Evidence | None
    """None where it is not known any more."""
    metric: str
    """The gate's."""
    measure: Measure
    """Of the gate's metric."""
    directions: Mapping[str, Direction]
    """Of every metric."""
    alpha: float
    """How often a test may pass a candidate that does not deserve it; what this holdout has left for one of them."""


class GateTestParams(PluginParams):
    """A test of the gate: a file in components/gate_tests/."""

    def judge(self, case: Case) -> Iterator[Reason]:
        """A line for every bound, kept or broken. BadInputError for what was not measured."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a step looked up in the outside world, once, before it runs."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able, part of the key: a content hash, a registry version's digest."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able, for the run but outside the key: a commit, a tag."""


class Progress(Protocol):
    """Where a long step says how far it is; the command line draws it, tests ignore it."""

    def start(self, title: str, *, total: int) -> None: ...

    def advance(self, done: int, **values: float) -> None:
        """*done* of the total so far, with the latest named values (losses, accuracy)."""
        ...

    def say(self, message: str) -> None: ...

    def step_line(self, title: str, *, cached: bool, producer: str, seconds: float, digest: str) -> None:
        """A step ended: how, made by which run, in how many seconds, with which result."""
        ...

    def epoch(self, record: Mapping[str, float]) -> None:
        """An epoch of a training ended: its record as in history.json, for whoever may end a hopeless training early."""
        ...

    def check(self) -> None:
        """Raise InterruptedRunError once the user has asked to stop."""
        ...


class NoProgress:
    """Says nothing and is never interrupted."""

    def start(self, title: str, *, total: int) -> None: ...

    def advance(self, done: int, **values: float) -> None: ...

    def say(self, message: str) -> None: ...

    def step_line(self, title: str, *, cached: bool, producer: str, seconds: float, digest: str) -> None: ...

    def epoch(self, record: Mapping[str, float]) -> None: ...

    def check(self) -> None: ...
