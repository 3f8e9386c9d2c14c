"""How faithfully a student repeats its teacher, apart from whether either is right.

Stanton et al., "Does knowledge distillation really work?" (NeurIPS 2021), measure both quantities and
show that a student may gain accuracy while its fidelity stays low: so they are reported beside accuracy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.errors import BadInputError
from components.evaluation.metrics import Floats, Logits, log_softmax


def agrees(student: Logits, teacher: Logits) -> NDArray[np.bool_]:
    """[N, C], [N, C] -> [N], whether both predict the same class."""
    _check(student, teacher)
    return np.asarray(np.argmax(student, axis=1) == np.argmax(teacher, axis=1))


def agreement(student: Logits, teacher: Logits) -> float:
    """Share of rows for which both predict the same class (top-1 agreement)."""
    return float(agrees(student, teacher).mean())


def kl_rows(teacher: Logits, student: Logits, *, temperature: float = 1.0) -> Floats:
    """KL(teacher || student) of each row in nats, both softened by the temperature; [N, C], [N, C] -> [N]."""
    _check(student, teacher)
    log_p = log_softmax(teacher, temperature=temperature)
    log_q = log_softmax(student, temperature=temperature)
    # Rounding may leave a few -1e-17 where both are equal; a divergence has no sign.
    return np.asarray(np.maximum((np.exp(log_p) * (log_p - log_q)).sum(axis=1), 0.0), dtype=np.float64)


def mean_kl(teacher: Logits, student: Logits, *, temperature: float = 1.0) -> float:
    """Mean of `kl_rows`."""
    return float(kl_rows(teacher, student, temperature=temperature).mean())


def _check(student: Logits, teacher: Logits) -> None:
    if student.shape != teacher.shape:
        raise BadInputError(
            f"student and teacher must speak about the same rows and classes: {student.shape}, {teacher.shape}"
        )
