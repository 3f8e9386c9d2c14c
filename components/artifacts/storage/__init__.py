"""Where artifacts lie: the scheme of the store's URL is the name of a file here, whose storage fulfils `Storage`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from components.artifacts.artifact import Manifest


class Storage(Protocol):
    """What the store asks of a place; `open_storage(settings)` of the plugin file makes one.

    Folders are local whatever the place is: a remote one keeps copies, and moves files when it publishes and fetches.
    """

    where: str
    """The place, for messages."""
    root: Path
    """The local directory, which can be full or read-only."""
    mark_seconds: float
    """How old a mark of use may be although the artifact was used just now."""

    def copies(self, kind: str, key: str) -> Iterator[Path]:
        """Folders of the published artifact, nearest first; none if there is none.

        The caller verifies each and asks for the next only if it was damaged. Raises ArtifactDamagedError
        when the artifact is damaged in a way that no folder can show.
        """
        ...

    def manifest(self, kind: str, key: str) -> Manifest | None:
        """What the artifact says of itself, unverified, in whatever schema; None if there is none or it cannot be read."""
        ...

    def keys(self, kind: str) -> Iterator[str]:
        """Keys of the published artifacts of *kind*, newest first."""
        ...

    def kinds(self) -> tuple[str, ...]:
        """Kinds of which there is, or was, an artifact."""
        ...

    def touch(self, kind: str, key: str) -> None:
        """Remember that the artifact was used just now; whoever may only read leaves no mark."""
        ...

    def used(self, kind: str) -> Mapping[str, float]:
        """When each artifact of *kind* that has a mark was last used, in seconds since 1970."""
        ...

    def remove(self, kind: str, key: str, *, last_used: float | None) -> bool:
        """Make an artifact absent at once, then remove its files; False if it is gone or was used since *last_used*."""
        ...

    def staging(self, kind: str, key: str) -> Path:
        """A new folder to fill and publish."""
        ...

    def scratch(self, kind: str, key: str) -> Path:
        """The folder for work in progress on this key; it survives a kill."""
        ...

    def publish(self, staged: Path, kind: str, key: str) -> bool:
        """Make *staged*, manifest included, the artifact; False if there is one already. One of many writers wins."""
        ...

    def quarantine(self, kind: str, key: str) -> Path:
        """Make a damaged artifact absent, and keep what there is of it in the folder that is returned."""
        ...

    def discard(self, folder: Path) -> None:
        """Remove a staging or scratch folder."""
        ...

    def sweep(self, kind: str) -> None:
        """Remove what writers that are gone left half done."""
        ...

    def lock(
        self, kind: str, key: str, *, wait_seconds: float, waiting: Callable[[str], None]
    ) -> AbstractContextManager[bool]:
        """Hold the lock on a key, which saves work and nothing else; yields whether it had to wait.

        *waiting* gets the holder about twice a second meanwhile. Raises StoreError after *wait_seconds*.
        """
        ...

    def check(self) -> str:
        """One line on the place once it is known to be fit for a store; raises StoreError otherwise."""
        ...
