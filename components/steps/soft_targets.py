"""Ask the teacher once: its raw logits on every view of every training sample, whatever T and alpha come later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components import plugins
from components.artifacts.artifact import MEASURED, Artifact, write_json
from components.params import Params, ViewParams
from components.steps.step import Step, StepContext

if TYPE_CHECKING:
    from components.data.packed import PackedData
    from components.soft_targets.header import Identity
    from components.soft_targets.writer import Teacher
    from components.views import ViewBank

BOUNDS = frozenset({"min_entropy_nats", "max_entropy_share"})
"""Read by `check` alone: moving a bound does not ask the teacher again."""


def views_asked(params: Params) -> ViewParams:
    """The views that the teacher speaks about: the student's own, or the clean sample in a study of the mistake."""
    return ViewParams() if params.student.allow_mismatched_views else params.student.views


def identity_of(data: Artifact, teacher: Artifact, params: Params) -> Identity:
    """What soft targets must be of for this data, teacher and views."""
    from components.data.packed import open_packed
    from components.soft_targets.header import Identity

    return Identity(
        teacher_digest=teacher.digest,
        data_digest=data.digest,
        view_spec=views_asked(params).model_dump(mode="json"),
        class_names=open_packed(data).spec.class_names,
    )


def run(ctx: StepContext) -> None:
    """Fill ctx.out with soft_targets.json, logits.bin, rows.npy, quality.json and measured/ledger.json."""
    from components.data.packed import open_packed
    from components.soft_targets.quality import quality
    from components.soft_targets.reader import SoftTargets
    from components.soft_targets.writer import write_soft_targets

    data, chosen = open_packed(ctx.inputs["data"]), ctx.params.soft_targets
    bank = _bank(data, views_asked(ctx.params))
    fast, exact = _teachers(ctx)
    written = write_soft_targets(
        teacher=fast,
        bank=bank,
        rows=data.rows("train"),
        num_views=bank.params.count,
        identity=identity_of(ctx.inputs["data"], ctx.inputs["teacher"], ctx.params),
        params=chosen,
        out=ctx.out,
        work=ctx.work,
        progress=ctx.progress,
    )
    figures = quality(SoftTargets.load(ctx.out), labels=data.labels, teacher=exact, bank=bank, params=chosen)
    write_json(ctx.out / "quality.json", figures)
    write_json(ctx.out / MEASURED / "ledger.json", written.ledger())


def _bank(data: PackedData, views: ViewParams) -> ViewBank:
    """Nothing prepared ahead, since each view is read once."""
    import numpy as np
    import torch

    from components.views import ViewBank

    samples, sample_ids = np.array(data.samples), np.array(data.sample_ids)
    return ViewBank(torch.from_numpy(samples), sample_ids, views, limit_bytes=0)


def _teachers(ctx: StepContext) -> tuple[Teacher, Teacher]:
    """The teacher at the precision asked for, and in fp32 as the truth to compare with."""
    import torch

    from components.artifacts.fingerprint import device_name
    from components.saved_models import load_model

    device = torch.device(device_name(ctx.settings))
    model = load_model(ctx.inputs["teacher"]).to(device)

    def exact(samples: torch.Tensor) -> torch.Tensor:
        return model(samples.to(device))

    def bf16(samples: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return exact(samples)

    return bf16 if ctx.params.soft_targets.precision == "bf16" else exact, exact


def check(artifact: Artifact, params: Params) -> None:
    """SoftTargetsRefusedError where the stored rows are not fit to learn from."""
    from components.soft_targets.quality import refuse_if_poor

    refuse_if_poor(artifact.read_json("quality.json"), params.soft_targets)


def reads(params: Params) -> Mapping[str, Any]:
    return {
        "soft_targets": params.soft_targets.model_dump(mode="json", exclude=set(BOUNDS)),
        "views": views_asked(params).model_dump(mode="json"),
    }


def code_modules(params: Params) -> Sequence[str]:
    """The transforms, and the teacher's forward pass, which its weights alone do not fix."""
    return (
        plugins.module_name("models", params.teacher.model.name),
        *(plugins.module_name("transforms", transform.name) for transform in views_asked(params).transforms),
    )


STEP = Step(
    name="soft_targets",
    title="ask the teacher for soft targets",
    inputs=("data", "teacher"),
    reads=reads,
    run=run,
    libraries=("torch", "numpy"),
    plugins=code_modules,
    check=check,
)
