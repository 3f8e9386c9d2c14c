"""Ask the teacher once: its raw logits on every view of every sample that the student sees, whatever T and alpha come."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from components import plugins
from components.artifacts.artifact import MEASURED, Artifact, write_json
from components.contracts import Progress
from components.errors import BadInputError
from components.params import Params, SoftTargetParams, ViewParams
from components.settings import Settings
from components.steps.speakers import fold_digest, folds_of, speakers, speakers_digest
from components.steps.step import Step, StepContext
from components.steps.teacher_code import forward_modules
from components.steps.training_rows import as_resolved, resolve_rows, students_set

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from components.data.packed import PackedData
    from components.data.training_set import TrainingSet
    from components.soft_targets.earlier import Earlier
    from components.soft_targets.header import Identity
    from components.soft_targets.teacher_pass import Panel, Teacher, TeacherPass
    from components.soft_targets.writer import Workers
    from components.views import ViewBank

BOUNDS = frozenset({"min_entropy_nats", "max_entropy_share"})
"""Read by the judge alone: moving a bound does not ask the teacher again."""

IMAGE_DIMENSIONS = 4
"""A batch of channels, height and width."""


def views_asked(params: Params) -> ViewParams:
    """The views that the teacher speaks about: the student's own, or the clean sample in a study of the mistake."""
    return ViewParams() if params.student.allow_mismatched_views else params.student.views


def identity_of(inputs: Mapping[str, Artifact], params: Params) -> Identity:
    """What soft targets must be of for this data, teacher, folds and views."""
    from components.data.packed import open_packed
    from components.soft_targets.header import Identity

    spec = open_packed(inputs["data"]).spec
    return Identity(
        teacher_digest=inputs["teacher"].digest,
        fold_teachers_digest=fold_digest(inputs),
        data_digest=inputs["data"].digest,
        view_spec=views_asked(params).model_dump(mode="json"),
        class_names=spec.output_names,
        labels=spec.label_kind,
    )


def run(ctx: StepContext) -> None:
    """Fill ctx.out with soft_targets.json, logits.bin, rows.npy, sample_ids.npy, view_pixels.json and figures of quality.

    What making them took lies in measured/ledger.json.
    """
    from components.artifacts.fingerprint import fingerprint
    from components.data.packed import open_packed
    from components.saved_models import says
    from components.soft_targets.header import QUALITY, QUALITY_ROWS
    from components.soft_targets.pixels import VIEW_PIXELS, view_pixels
    from components.soft_targets.quality import quality
    from components.soft_targets.reader import SoftTargets
    from components.soft_targets.writer import write_soft_targets

    chosen, machine = ctx.params.soft_targets, fingerprint(ctx.settings)
    fast, exact = teachers(ctx.inputs, chosen, ctx.settings)
    taught = as_resolved(students_set(ctx.inputs["data"], ctx.params), ctx)
    asked = teacher_pass(ctx.inputs, ctx.params, taught, teacher=fast, progress=ctx.progress, fingerprint=machine)
    with _workers(ctx, machine) as workers:
        written = write_soft_targets(
            teacher=fast,
            exact=exact,
            bank=asked.bank,
            rows=asked.rows,
            num_views=asked.num_views,
            identity=asked.identity,
            params=chosen,
            out=ctx.out,
            work=ctx.work,
            progress=ctx.progress,
            earlier=_earlier(ctx, asked, machine),
            workers=workers,
            teacher_model=speakers_digest(ctx.inputs),
            says=says(ctx.inputs["teacher"]),
            fingerprint=machine,
        )
    write_json(ctx.out / VIEW_PIXELS, view_pixels(asked.bank, asked.rows, asked.num_views))
    labels = open_packed(ctx.inputs["data"]).labels
    figures, sampled = quality(SoftTargets.load(ctx.out), labels=labels, teacher=exact, bank=asked.bank, params=chosen)
    write_json(ctx.out / QUALITY, figures)
    write_json(ctx.out / QUALITY_ROWS, sampled)
    write_json(ctx.out / MEASURED / "ledger.json", written.ledger())


def teacher_pass(
    inputs: Mapping[str, Artifact],
    params: Params,
    taught: TrainingSet,
    *,
    teacher: Teacher | Panel,
    progress: Progress,
    fingerprint: Mapping[str, Any],
) -> TeacherPass:
    """What the teacher is asked: every view of every sample that the student is *taught*."""
    from components.data.packed import open_packed
    from components.soft_targets.teacher_pass import TeacherPass

    data, views = open_packed(inputs["data"]), views_asked(params)
    folds = folds_of(inputs)
    return TeacherPass(
        teacher=teacher,
        bank=bank_of(data, taught.rows, views, folds),
        rows=taught.rows,
        num_views=views.count,
        identity=identity_of(inputs, params),
        params=params.soft_targets,
        progress=progress,
        fingerprint=fingerprint,
    )


def bank_of(data: PackedData, rows: NDArray[np.int64], views: ViewParams, folds: NDArray[np.int64] | None) -> ViewBank:
    """Nothing prepared ahead, since each view is read once."""
    import torch

    from components.steps.banks import training_bank

    return training_bank(data, rows, views, device=torch.device("cpu"), limit_bytes=0, folds=folds)


def teachers(inputs: Mapping[str, Artifact], params: SoftTargetParams, settings: Settings) -> tuple[Panel, Panel]:
    """All who speak as they are asked, and in fp32 and the plain memory format as the truth to compare with."""
    from components.soft_targets.teacher_pass import Panel

    speaking, of_row = speakers(inputs)
    fast, exact = zip(*(_ways_to_ask(teacher, params, settings) for teacher in speaking), strict=True)
    return Panel(fast, of_row), Panel(exact, of_row)


def _ways_to_ask(teacher: Artifact, params: SoftTargetParams, settings: Settings) -> tuple[Teacher, Teacher]:
    import torch

    from components.artifacts.fingerprint import device_name
    from components.saved_models import load_model

    device = torch.device(device_name(settings))
    model = load_model(teacher).to(device)

    def exact(samples: torch.Tensor) -> torch.Tensor:
        return model(samples.to(device))

    fast = _channels_last(load_model(teacher).to(device)) if params.memory_format == "channels_last" else exact

    def bf16(samples: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return fast(samples)

    return bf16 if params.precision == "bf16" else fast, exact


def _channels_last(model: nn.Module) -> Teacher:
    """For samples with channels, height and width; BadInputError for others."""
    import torch

    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = next(itertools.chain(model.parameters(), model.buffers())).device

    def ask(samples: torch.Tensor) -> torch.Tensor:
        if samples.ndim != IMAGE_DIMENSIONS:
            raise BadInputError(
                f"soft_targets.memory_format channels_last is for images, and samples are {list(samples.shape[1:])}; "
                "use contiguous"
            )
        return model(samples.to(device).contiguous(memory_format=torch.channels_last))

    return ask


@contextmanager
def _workers(ctx: StepContext, fingerprint: Mapping[str, Any]) -> Iterator[Workers | None]:
    """The processes that the settings ask for; none where this one is to do it alone."""
    from components.soft_targets.fleet import Fleet
    from components.steps.soft_targets_worker import MODULE, job_of

    count = ctx.settings.generation_processes
    if count == 1:
        yield None
        return
    job = job_of(ctx.params, ctx.settings, ctx.inputs, fingerprint)
    with Fleet(MODULE, job, count=count, logs=ctx.work / "processes", progress=ctx.progress) as fleet:
        yield fleet


def _earlier(ctx: StepContext, asked: TeacherPass, fingerprint: Mapping[str, Any]) -> list[Earlier]:
    """A damaged copy of this very result, and the soft targets of another version of the data."""
    from components.soft_targets.earlier import donor, salvaged

    if ctx.key is None or ctx.store is None:
        return []
    copy = ctx.salvage
    found = [salvaged(copy, ctx.key.digest, fingerprint)] if copy else []
    # The partners of a mixed view are drawn from all samples there are, so that it is another view in another version.
    if not asked.bank.mixes:
        another = donor(
            ctx.store,
            ctx.key,
            teacher_model=speakers_digest(ctx.inputs),
            class_names=asked.identity.class_names,
            sample_ids=asked.bank.sample_ids[asked.rows],
            fingerprint=fingerprint,
        )
        found.append(another)
    return [each for each in found if each is not None]


def reads(params: Params) -> Mapping[str, Any]:
    return {
        "soft_targets": params.soft_targets.model_dump(mode="json", exclude=set(BOUNDS)),
        "views": views_asked(params).model_dump(mode="json"),
    }


def code_modules(params: Params) -> Sequence[str]:
    """The transforms, and the teacher's forward pass, which its weights alone do not fix."""
    return (
        *forward_modules(params),
        *(plugins.module_name("transforms", transform.name) for transform in views_asked(params).transforms),
    )


STEP = Step(
    name="soft_targets",
    title="ask the teacher for soft targets",
    inputs=("data", "teacher", "fold_teachers"),
    reads=reads,
    run=run,
    libraries=("torch", "numpy"),
    plugins=code_modules,
    resolve=resolve_rows,
    judge="components.steps.soft_targets_gate",
)
