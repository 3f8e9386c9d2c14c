"""Every error Potstill raises on purpose; the exit code of a command is the error's own."""

from collections.abc import Sequence


class PotstillError(Exception):
    """Something went wrong that the user should read in one message, without a traceback."""

    exit_code = 1


class BadInputError(PotstillError):
    """What the user gave cannot be used; nothing has been changed."""

    exit_code = 2


class RefusedError(PotstillError):
    """A gate said no: everything worked, and the result does not deserve to go on."""

    exit_code = 3


class InterruptedRunError(PotstillError):
    """The user pressed Ctrl-C; what was committed is kept and the same command goes on from there."""

    exit_code = 130


class ParamsError(BadInputError):
    """params.yaml, or an override of it, has problems; the message lists all of them."""


class PluginNotFoundError(BadInputError):
    """A name in params.yaml has no file in its plugin family."""


class DataNotFoundError(BadInputError):
    """The repository, the revision or the path of the data does not exist."""


class DataDamagedError(BadInputError):
    """The data arrived, but some of it cannot be read or is not what DVC recorded."""


class SplitError(BadInputError):
    """The samples cannot be split as asked, for example because a class is missing from a split."""


class WeightsError(BadInputError):
    """A file of weights does not fit the model it was named for."""


class DataRefusedError(RefusedError):
    """A critical expectation failed: this data version may not be trained on."""


class TeacherRefusedError(RefusedError):
    """The teacher is below its own floor: it would pass poor knowledge on."""


class SoftTargetsRefusedError(RefusedError):
    """The soft targets failed their checks, or are not those the student asks for."""


class TrialPrunedError(PotstillError):
    """A student of a sweep was given up before its end."""


class WorkerError(PotstillError):
    """A process that was started to share the work is gone; what it had finished is kept."""


class ServerError(PotstillError):
    """A server that this run needs does not answer or cannot be started."""


class JournalError(ServerError):
    """The promotion journal does not answer, or is not one that this version reads."""


class PromotionConflictError(PotstillError):
    """The champion is another than the one that the candidate was judged against."""


class DriftError(PotstillError):
    """An alias of the registry stands elsewhere than where the journal put it."""


class StoreError(PotstillError):
    """The artifact store cannot be read or written."""


class ArtifactDamagedError(StoreError):
    """A stored file is not the one its manifest names."""


class NondeterminismError(StoreError):
    """One key, one fingerprint, two different results: something that changes numbers is not in the key."""


class FingerprintError(StoreError):
    """A result made on other hardware was found and the settings allow only this machine's own."""


class ExportError(PotstillError):
    """A model cannot be exported, or what was exported does not predict what the live model does."""


class TrainingDivergedError(PotstillError):
    """The loss, or a gradient, stopped being a finite number, or the model ended where one answer serves all samples."""


def some_of(items: Sequence[object], *, limit: int = 5) -> str:
    """List at most *limit* of *items* in one line, and say how many more there are."""
    shown = ", ".join(str(item) for item in items[:limit])
    return f"{shown} and {len(items) - limit} more" if len(items) > limit else shown
