"""Which modules compute a teacher's answers, for the keys of the steps that ask it; names only, nothing is imported."""

from __future__ import annotations

from components import plugins
from components.contracts import ModelParams
from components.functions import module_of
from components.params import BlackBoxTeacher, EnsembleTeacher, MlflowTeacher, Params, TeacherParams

ENSEMBLE = "components.models._ensemble"
BLACK_BOX = "components.models._black_box"


def modules_of(model: ModelParams) -> tuple[str, ...]:
    """The plugin file, and what it calls of the user's own."""
    return (plugins.module_name("models", model.name), *model.modules())


def forward_modules(params: Params) -> tuple[str, ...]:
    """The forward pass of the teacher, which its weights alone do not fix."""
    teacher = params.teacher
    together = (ENSEMBLE,) if isinstance(teacher.source, EnsembleTeacher) else ()
    return tuple(dict.fromkeys((*together, *(name for member in teacher.members for name in _forward(member)))))


def _forward(teacher: TeacherParams) -> tuple[str, ...]:
    source = teacher.source
    if isinstance(source, MlflowTeacher):
        return ()
    if isinstance(source, BlackBoxTeacher):
        return (BLACK_BOX, module_of(source.function)) if source.function else (BLACK_BOX,)
    return modules_of(teacher.model)
