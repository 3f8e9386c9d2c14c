"""Find a result by its key, or compute it exactly once and commit it so that no kill leaves half of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from components import plugins
from components.artifacts.artifact import (
    MANIFEST,
    MEASURED,
    WORK,
    Artifact,
    FileEntry,
    Manifest,
    fsync,
    is_plain,
    manifest_of,
    payload_digest,
    sha256_of,
    walk,
)
from components.artifacts.disk import explained
from components.artifacts.fingerprint import fingerprint
from components.artifacts.key import Key, differences
from components.artifacts.lock import refuse_to_wait
from components.artifacts.storage import Storage
from components.contracts import NoProgress, Progress
from components.errors import ArtifactDamagedError, FingerprintError, NondeterminismError, StoreError
from components.settings import Settings

LARGE_BYTES = 64 * 2**20
"""From here on, a thread costs less than it saves."""
NUM_FLUSHES = 8
"""Files that are fsynced at a time: a file system that is asked for several writes its journal once for all."""


@dataclass(frozen=True, slots=True)
class Obtained:
    """A result and how it came about."""

    artifact: Artifact
    cached: bool
    producer: str
    """The run that made it: this one, or the one whose result was found."""
    seconds: float
    """That it took now."""


@dataclass(frozen=True, slots=True)
class Miss:
    """Why a key has no result: the fields that differ from the nearest one that has."""

    nearest: str | None
    fields: tuple[str, ...]
    seconds: float | None
    """What the nearest one cost."""


class Store:
    """The only cache. Its URL's scheme names the storage plugin; an unknown scheme is an error."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        scheme = urlparse(settings.store_url).scheme or "file"
        self.storage: Storage = plugins.load("storage", scheme).open_storage(settings)

    def find(self, kind: str, key: str, *, progress: Progress | None = None) -> Artifact | None:
        """The verified result under *key*; a damaged one is moved to quarantine and counts as absent."""
        try:
            whole = self._whole(kind, key)
        except ArtifactDamagedError as error:
            with explained(self.storage.root):
                target = self.storage.quarantine(kind, key)
            (progress or NoProgress()).say(f"{error}; moved to {target} and computed again")
            return None
        if whole is None:
            return None
        folder, manifest = whole
        return Artifact(kind=kind, key=key, digest=manifest.digest, root=folder)

    def obtain(
        self,
        key: Key,
        make: Callable[[Path, Path], Mapping[str, Any]],
        *,
        producer: str,
        progress: Progress,
    ) -> Obtained:
        """The result under *key*, found or made by `make(out, work)`, which returns what it cost.

        Runs that want the same key at once compute it once. Raises StoreError when the disk is full
        or read-only, and whatever *make* raises; neither leaves anything behind but resumable work.
        """
        started = time.monotonic()
        found = self.find(key.kind, key.digest, progress=progress)
        if found is None:
            with explained(self.storage.root), self._alone(key, progress):
                found = self.find(key.kind, key.digest, progress=progress)
                if found is None:
                    made = self._make(key, make, producer=producer)
                    return Obtained(made, cached=False, producer=producer, seconds=time.monotonic() - started)
        with explained(self.storage.root):
            manifest = found.manifest()
        self._discard_finished_work(key)
        self._compare_fingerprint(manifest, progress)
        return Obtained(found, cached=True, producer=manifest.producer, seconds=time.monotonic() - started)

    def commit(self, kind: str, key: str, fields: Mapping[str, Any], make: Callable[[Path], None]) -> Artifact:
        """Publish a small record under a key of the caller's own; if another won, the winner's is returned."""
        with explained(self.storage.root), self._staged(kind, key) as staged:
            make(staged)
            with suppress(NondeterminismError):  # a record says what its writer saw: the first one counts
                return self._publish(staged, Key(kind=kind, fields=fields, digest=key), producer="", cost={})
        found = self.find(kind, key)
        if found is None:
            raise StoreError(f"{kind} {key} vanished right after it was published in {self.storage.where}")
        return found

    def quarantined(self, kind: str, key: str) -> Path | None:
        """The newest damaged copy of the result under *key*; nothing in it has been verified."""
        copies = (self.storage.root / ".quarantine").glob(f"{kind}-{key}-*")
        return max(copies, key=lambda copy: copy.stat().st_mtime_ns, default=None)

    def explain_miss(self, key: Key) -> Miss:
        """The nearest result of the same kind, by the number of differing fields."""
        best: Miss | None = None
        for other in self.storage.keys(key.kind):
            manifest = self.storage.manifest(key.kind, other)
            if manifest is None:
                continue
            fields = differences(key.fields, manifest.fields)
            if best is None or len(fields) < len(best.fields):
                best = Miss(nearest=other, fields=fields, seconds=manifest.cost.get("seconds"))
        return best or Miss(nearest=None, fields=(), seconds=None)

    def _whole(self, kind: str, key: str) -> tuple[Path, Manifest] | None:
        """The nearest copy that is whole; raises ArtifactDamagedError when there are copies and none is."""
        damage: ArtifactDamagedError | None = None
        with explained(self.storage.root):
            for folder in self.storage.copies(kind, key):
                try:
                    return folder, verify(folder, kind, key)
                except ArtifactDamagedError as error:
                    damage = error
        if damage is not None:
            raise damage
        return None

    @contextmanager
    def _alone(self, key: Key, progress: Progress) -> Iterator[None]:
        told = False

        def waiting(holder: str) -> None:
            nonlocal told
            progress.check()
            if not told:
                progress.say(f"process {holder} is computing the same {key.kind}; waiting for its result")
            told = True

        with self.storage.lock(key.kind, key.digest, wait_seconds=self.settings.lock_wait_seconds, waiting=waiting):
            yield

    def _make(self, key: Key, make: Callable[[Path, Path], Mapping[str, Any]], *, producer: str) -> Artifact:
        self.storage.sweep(key.kind)
        work = self.storage.scratch(key.kind, key.digest)
        with self._staged(key.kind, key.digest) as staged:
            cost = make(staged, work)
            made = self._publish(staged, key, producer=producer, cost=cost)
        self.storage.discard(work)
        return made

    def unless_busy(self, kind: str, key: str) -> AbstractContextManager[bool]:
        """The lock on a key; BusyError if another process holds it."""
        return self.storage.lock(kind, key, wait_seconds=self.settings.lock_wait_seconds, waiting=refuse_to_wait)

    def _discard_finished_work(self, key: Key) -> None:
        """A run that was killed between publishing and tidying has left work that nobody will go on with."""
        work = self.storage.root / WORK / key.kind / key.digest
        with suppress(OSError, StoreError):
            if work.is_dir():
                with self.unless_busy(key.kind, key.digest):
                    self.storage.discard(work)

    @contextmanager
    def _staged(self, kind: str, key: str) -> Iterator[Path]:
        """A folder to fill and publish; what is left of it goes, after the disk has been asked why."""
        staged = self.storage.staging(kind, key)
        try:
            with explained(self.storage.root):
                yield staged
        finally:
            self.storage.discard(staged)

    def _publish(self, staged: Path, key: Key, *, producer: str, cost: Mapping[str, Any]) -> Artifact:
        """What is under the key now: *staged*, whose files have just been hashed, or another's, verified."""
        files, measured = inventory(staged)
        manifest = Manifest(
            kind=key.kind,
            key=key.digest,
            fields=key.fields,
            files=files,
            measured=measured,
            digest=payload_digest(files),
            producer=producer,
            fingerprint=fingerprint(self.settings),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            cost={**cost, "bytes": sum(entry.bytes for entry in files)},
        )
        for entry in (*files, *measured):
            (staged / entry.path).chmod(0o444)
        (staged / MANIFEST).write_text(manifest.dump(), encoding="utf-8")
        self._same_as_damaged(manifest)
        if not self.storage.publish(staged, key.kind, key.digest):
            self.storage.discard(staged)
            return self._same_as_winner(manifest)
        return self._published(manifest)

    def _published(self, ours: Manifest) -> Artifact:
        for folder in self.storage.copies(ours.kind, ours.key):
            return Artifact(kind=ours.kind, key=ours.key, digest=ours.digest, root=folder)
        raise StoreError(f"{ours.kind} {ours.key} vanished right after it was published in {self.storage.where}")

    def _same_as_winner(self, ours: Manifest) -> Artifact:
        """Two that computed one key must agree to the bit, unless they ran on different hardware or builds."""
        whole = self._whole(ours.kind, ours.key)
        if whole is None:
            raise StoreError(f"{ours.kind} {ours.key} of another run vanished from {self.storage.where}; run again")
        folder, theirs = whole
        self._must_agree(ours, theirs)
        return Artifact(kind=theirs.kind, key=theirs.key, digest=theirs.digest, root=folder)

    def _same_as_damaged(self, ours: Manifest) -> None:
        """What is made in the place of a damaged copy must be what that was before."""
        copy = self.quarantined(ours.kind, ours.key)
        before = manifest_of(copy) if copy else None
        if before and before.key == ours.key and payload_digest(before.files) == before.digest:
            self._must_agree(ours, before)

    def _must_agree(self, ours: Manifest, theirs: Manifest) -> None:
        if theirs.digest != ours.digest and theirs.fingerprint == ours.fingerprint:
            raise NondeterminismError(
                f"{ours.kind} {ours.key[:12]} came out as {ours.digest[:12]} in run {ours.producer!r} but as "
                f"{theirs.digest[:12]} in run {theirs.producer!r} on the same machine and builds: "
                "something that changes numbers is not in its key"
            )

    def _compare_fingerprint(self, manifest: Manifest, progress: Progress) -> None:
        ours = fingerprint(self.settings)
        differing = [name for name in ours if ours[name] != manifest.fingerprint.get(name)]
        if not differing:
            return
        text = ", ".join(f"{name} {manifest.fingerprint.get(name)} (here {ours[name]})" for name in differing)
        if self.settings.strict_fingerprint:
            raise FingerprintError(
                f"{manifest.kind} {manifest.key[:12]} was made on {text}; POTSTILL_STRICT_FINGERPRINT forbids its use. "
                "Unset it, or use another POTSTILL_STORE"
            )
        progress.say(f"{manifest.kind}: found, made on {text}")


def inventory(folder: Path) -> tuple[tuple[FileEntry, ...], tuple[FileEntry, ...]]:
    """Payload files and measured files of *folder*, with lengths and digests; StoreError if one is no plain file.

    A large result goes to the disk meanwhile, which `Storage.publish` would otherwise wait for.
    """
    paths = [path for path in walk(folder)[0] if path != folder / MANIFEST]
    strange = [path for path in paths if not is_plain(path)]
    if strange:
        raise StoreError(f"{strange[0]} is a link or a device; the files of a result must be plain ones")
    with _flushing(paths):
        sizes, digests = [path.stat().st_size for path in paths], _digests(paths)
    entries = [
        FileEntry(path.relative_to(folder).as_posix(), size, digest)
        for path, size, digest in zip(paths, sizes, digests, strict=True)
    ]
    measured = tuple(entry for entry in entries if entry.path.startswith(f"{MEASURED}/"))
    return tuple(entry for entry in entries if entry not in measured), measured


@contextmanager
def _flushing(paths: Sequence[Path]) -> Iterator[None]:
    """Large files are fsynced by other threads, all at once; small ones are left to whoever publishes them."""
    if sum(path.stat().st_size for path in paths) < LARGE_BYTES:
        yield
        return
    with ThreadPoolExecutor(NUM_FLUSHES) as disk:
        flushed = [disk.submit(fsync, path) for path in paths]
        yield
        for each in flushed:
            each.result()


def _digests(paths: Sequence[Path]) -> list[str]:
    """sha256 of each; of large files several at a time, since hashing leaves the interpreter to others."""
    if len(paths) < 2 or sum(path.stat().st_size for path in paths) < LARGE_BYTES:
        return [sha256_of(path) for path in paths]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(sha256_of, paths))


def verify(folder: Path, kind: str, key: str) -> Manifest:
    """The manifest of *folder*, once every file is the one it names; raises ArtifactDamagedError otherwise.

    OSError where files cannot be read, which says nothing about what they hold.
    """
    try:
        manifest = Manifest.read(folder)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError, TypeError, KeyError) as error:
        raise ArtifactDamagedError(f"{folder}: its manifest cannot be read ({error})") from error
    try:
        found = list(problems(manifest, folder, kind, key))
    except FileNotFoundError as error:
        found = [f"{error.filename} went away while it was read"]
    if found:
        raise ArtifactDamagedError(f"{folder} is damaged: {'; '.join(found[:5])}")
    return manifest


def problems(manifest: Manifest, folder: Path, kind: str, key: str) -> Iterator[str]:
    """What of *folder* is not as *manifest* says, every file hashed."""
    if (manifest.kind, manifest.key) != (kind, key):
        yield f"it is {manifest.kind} {manifest.key[:12]}, not {kind} {key[:12]}"
    if payload_digest(manifest.files) != manifest.digest:
        yield "its digest does not match its list of files"
    listed = {entry.path: entry for entry in (*manifest.files, *manifest.measured)}
    present = {path.relative_to(folder).as_posix(): path for path in walk(folder)[0]}
    plain = {name for name, path in present.items() if is_plain(path)}
    yield from (f"{name} is no plain file" for name in sorted(present.keys() - plain))
    yield from (f"{name} is missing" for name in sorted(listed.keys() - present.keys()))
    yield from (f"{name} does not belong" for name in sorted(plain - listed.keys() - {MANIFEST}))
    whole = []
    for name in sorted(plain & listed.keys()):
        num_bytes = present[name].stat().st_size
        if num_bytes == listed[name].bytes:
            whole.append(name)
        else:
            yield f"{name} has {num_bytes} bytes instead of {listed[name].bytes}"
    digests = _digests([present[name] for name in whole])
    yield from (
        f"{name} has other content"
        for name, digest in zip(whole, digests, strict=True)
        if digest != listed[name].sha256
    )


def write_reference(path: Path, artifact: Artifact) -> None:
    """The small file that stands for an artifact in dvc.yaml."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"kind": artifact.kind, "key": artifact.key, "digest": artifact.digest}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
