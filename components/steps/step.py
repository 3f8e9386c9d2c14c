"""What a step is; the Prefect task and the dvc.yaml stage both run the same one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.artifact import Artifact
from components.contracts import Progress, Resolved
from components.params import Params
from components.settings import Settings

if TYPE_CHECKING:
    from components.artifacts.key import Key
    from components.artifacts.store import Store


@dataclass(frozen=True, slots=True)
class World:
    """What a step may look up before it runs."""

    params: Params
    settings: Settings
    inputs: Mapping[str, Artifact]
    store: Store


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step gets to run with."""

    params: Params
    settings: Settings
    inputs: Mapping[str, Artifact]
    resolved: Resolved
    out: Path
    """Empty directory to fill; what lands under out/measured stays outside the digest."""
    work: Path
    """Scratch that survives a kill and is the same for the same key: checkpoints live here."""
    progress: Progress
    key: Key | None = None
    """Of the result that is made."""
    store: Store | None = None
    """To look for results that can be made use of; none of them may change a bit of this one."""

    @property
    def salvage(self) -> Path | None:
        """A damaged copy of the very result that is made, if there is one; its files are whatever they are."""
        return self.store.quarantined(self.key.kind, self.key.digest) if self.store and self.key else None


def nothing_to_resolve(_: World) -> Resolved:
    return Resolved()


def nothing_to_check(_artifact: Artifact, _params: Params) -> None:
    return None


def nothing_to_say(_: Params) -> str:
    return ""


def never_idle(_: Params) -> bool:
    return False


def no_plugins(_: Params) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Step:
    """One pure function of its inputs and parameters, with all that goes into its key."""

    name: str
    title: str
    """For people: 'train the teacher'."""
    inputs: tuple[str, ...]
    """Names of the steps whose artifacts it reads."""
    reads: Callable[[Params], Mapping[str, Any]]
    """The parameters that this step reads, JSON-able; nothing else of params.yaml is in its key."""
    run: Callable[[StepContext], None]
    libraries: tuple[str, ...] = ()
    """Distributions whose versions can change a number."""
    plugins: Callable[[Params], Sequence[str]] = no_plugins
    """Modules of the chosen plugin files, whose code counts."""
    resolve: Callable[[World], Resolved] = nothing_to_resolve
    check: Callable[[Artifact, Params], None] = nothing_to_check
    """The step's own gate, run on its result also when that was cached; raises a RefusedError."""
    notice: Callable[[Params], str] = nothing_to_say
    """What a plan says of a step that would be computed, and the step itself once it is; mostly nothing."""
    idle: Callable[[Params], bool] = never_idle
    """Whether there is nothing to do under these parameters: then it is there for the steps behind it, and not shown."""
    judge: str = ""
    """Module whose `judge(artifact, world)` is a further gate; named, not imported, so that it is in no key."""
