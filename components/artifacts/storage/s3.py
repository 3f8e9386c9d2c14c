"""Artifacts in a bucket: files go up freely, the manifest last, by one write that fails if it exists.

    manifests/<kind>/<key>.json        the artifact: whoever creates this object has published it
    files/<kind>/<key>/<sha256>        payload and measured files under the names of their contents
    locks/<kind>-<key>                 who is computing it
    used/<kind>/<key>                  an empty object whose age says when the artifact was last used
    quarantine/<kind>-<key>-<random>.json   manifests of artifacts that were found damaged

Reads go through a local copy, which is compared with the manifest in the bucket and verified each time.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from components.artifacts import lock
from components.artifacts.artifact import MANIFEST, FileEntry, Manifest, sha256_of
from components.artifacts.storage import _conformance, _lease
from components.artifacts.storage._bucket import PIECE_BYTES, SUSPECT_ATTEMPTS, Bucket, Stored, connect, each
from components.artifacts.storage.file import FileStorage
from components.errors import ArtifactDamagedError, BadInputError, StoreError
from components.settings import Settings

FIT = "conformance.json"
HOUSEKEEPING_SECONDS = 10.0
"""Deadline of requests without which nothing goes wrong."""
ABANDONED = timedelta(days=1)
"""Files without a manifest that are older than this have no writer any more."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some bytes of one file, carried by one request."""

    entry: FileEntry
    start: int
    num_bytes: int


class S3Storage:
    """A prefix of a bucket, and the local folder *root* with copies of what was read or published from here."""

    mark_seconds = 24 * 3600.0
    """One request a day for each artifact that this machine uses."""

    def __init__(self, bucket: Bucket, root: Path, *, lock_wait_seconds: float) -> None:
        self.bucket = bucket
        self.root = root
        self.where = bucket.where
        self._local = FileStorage(root)
        self._lock_wait_seconds = lock_wait_seconds
        self._seen: dict[tuple[str, str], Stored] = {}
        self._fit_since = ""

    def copies(self, kind: str, key: str) -> Iterator[Path]:
        """The local copy, then what the bucket has; damage that is still there after fetching again is the bucket's."""
        stored = self.bucket.get(_manifest_name(kind, key))
        if stored is None:
            return
        self._seen[kind, key] = stored
        if stored.damaged:
            raise ArtifactDamagedError(f"{self.where}/{_manifest_name(kind, key)} is not what its writer put there")
        number = None
        folder = self._copy_of(stored, kind, key)
        if folder is not None:
            number = folder.stat().st_ino
            yield folder
        yield self._fetched(stored, kind, key, damaged=number)

    def manifest(self, kind: str, key: str) -> Manifest | None:
        stored = self.bucket.get(_manifest_name(kind, key))
        return None if stored is None else _parsed(stored)

    def keys(self, kind: str) -> Iterator[str]:
        found = sorted(self.bucket.list(f"manifests/{kind}"), key=lambda entry: entry.modified, reverse=True)
        yield from (entry.name.removesuffix(".json") for entry in found)

    def kinds(self) -> tuple[str, ...]:
        return tuple(sorted(self.bucket.folders("manifests")))

    def touch(self, kind: str, key: str) -> None:
        if time.time() - self._local.used(kind).get(key, 0.0) < self.mark_seconds:
            return
        with suppress(StoreError):  # whoever may only read can still use it
            self.bucket.hurried(HOUSEKEEPING_SECONDS).put(f"used/{kind}/{key}", b"")
            self._local.touch(kind, key)

    def used(self, kind: str) -> Mapping[str, float]:
        return {entry.name: entry.modified.timestamp() for entry in self.bucket.list(f"used/{kind}")}

    def remove(self, kind: str, key: str, *, last_used: float | None) -> bool:
        """The manifest goes first, and only the one that was seen; files and local copy after it."""
        stored = self.bucket.get(_manifest_name(kind, key))
        if stored is None or self.used(kind).get(key) != last_used:
            return False
        if not self.bucket.delete(_manifest_name(kind, key), stored.etag):
            return False
        for file in list(self.bucket.list(f"files/{kind}/{key}")):
            self.bucket.delete(f"files/{kind}/{key}/{file.name}")
        self.bucket.delete(f"used/{kind}/{key}")
        self._local.remove(kind, key, last_used=self._local.used(kind).get(key))
        return True

    def staging(self, kind: str, key: str) -> Path:
        return self._local.staging(kind, key)

    def scratch(self, kind: str, key: str) -> Path:
        return self._local.scratch(kind, key)

    def discard(self, folder: Path) -> None:
        self._local.discard(folder)

    def publish(self, staged: Path, kind: str, key: str) -> bool:
        """Upload the files, then create the manifest; the folder becomes the local copy."""
        self._ensure_fit()
        body = (staged / MANIFEST).read_bytes()
        if self.bucket.get(_manifest_name(kind, key)) is not None:
            return False
        self._upload(Manifest.parse(body.decode()), staged)
        etag = self.bucket.put_new(_manifest_name(kind, key), body)
        if etag is None:
            return False
        with self._alone_here(kind, key):
            if self._copy_of(Stored(body, etag, damaged=False), kind, key) is None:
                self._settle(staged, kind, key)
        self.discard(staged)
        return True

    def quarantine(self, kind: str, key: str) -> Path:
        """Move the manifest that was seen to be wrong, and only that one, out of the way; keep what was fetched."""
        seen = self._seen.pop((kind, key), None)
        if seen is not None:
            self.bucket.put(f"quarantine/{kind}-{key}-{secrets.token_hex(4)}.json", seen.body)
            self.bucket.delete(_manifest_name(kind, key), seen.etag)
            if self._local.folder(kind, key) is None:
                staged = self.staging(kind, key)
                (staged / MANIFEST).write_bytes(seen.body)
                self._settle(staged, kind, key)
        return self._local.quarantine(kind, key)

    def sweep(self, kind: str) -> None:
        """Remove local folders whose process is gone, and files in the bucket that no manifest came to name."""
        self._local.sweep(kind)
        with suppress(StoreError):  # whoever may not list or delete can still store
            self._sweep_bucket(self.bucket.hurried(HOUSEKEEPING_SECONDS), kind)

    def lock(
        self, kind: str, key: str, *, wait_seconds: float, waiting: Callable[[str], None]
    ) -> AbstractContextManager[bool]:
        self._ensure_fit()
        return _lease.held(self.bucket, f"locks/{kind}-{key}", wait_seconds=wait_seconds, waiting=waiting)

    def check(self) -> str:
        """Asks the server each time, and within seconds, whether it is there."""
        self.bucket.hurried(HOUSEKEEPING_SECONDS).now()
        self._ensure_fit()
        return f"{self.where} at {self.bucket.endpoint}: one of many writers wins (seen on {self._fit_since})"

    def _ensure_fit(self) -> None:
        self._fit_since = self._fit_since or _conformance.ensure(self.bucket, self.root / FIT)

    def _copy_of(self, stored: Stored, kind: str, key: str) -> Path | None:
        """The local folder, if it is a copy of this very manifest; its files may be damaged."""
        folder = self._local.folder(kind, key)
        return folder if folder is not None and (folder / MANIFEST).read_bytes() == stored.body else None

    def _fetched(self, stored: Stored, kind: str, key: str, *, damaged: int | None) -> Path:
        """A fresh local copy, or the one that another process fetched meanwhile; not the folder with inode *damaged*."""
        with self._alone_here(kind, key):
            folder = self._copy_of(stored, kind, key)
            if folder is not None and folder.stat().st_ino != damaged:
                return folder
            staged = self.staging(kind, key)
            try:
                (staged / MANIFEST).write_bytes(stored.body)
                manifest = _parsed(stored)
                if manifest is not None:
                    self._download(manifest, staged)
                return self._settle(staged, kind, key)
            finally:
                self.discard(staged)

    def _alone_here(self, kind: str, key: str) -> AbstractContextManager[bool]:
        """One process of this machine at a time changes the local copy of a key."""
        path = self.root / ".locks" / f"{kind}-{key}"
        return lock.held(path, wait_seconds=self._lock_wait_seconds, waiting=lambda _: None)

    def _settle(self, staged: Path, kind: str, key: str) -> Path:
        """Put *staged* in the place of the local copy. Not fsynced: what a power cut damages is fetched again."""
        target = self.root / kind / key
        if target.exists():
            aside = self.staging(kind, key)
            target.rename(aside)
            self.discard(aside)
        staged.rename(target)
        return target

    def _upload(self, manifest: Manifest, staged: Path) -> None:
        entries = {entry.sha256: entry for entry in (*manifest.files, *manifest.measured)}.values()

        def put(entry: FileEntry) -> None:
            self.bucket.put_file(_file_name(manifest, entry), staged / entry.path, entry.bytes)

        each(put, [entry for entry in entries if entry.bytes <= PIECE_BYTES])
        for entry in entries:
            if entry.bytes > PIECE_BYTES:  # its parts go up side by side
                put(entry)

    def _download(self, manifest: Manifest, staged: Path) -> None:
        """Fetch all files; one that arrives wrong is fetched again, and stays as it came if that does not help."""
        wrong: Sequence[FileEntry] = (*manifest.files, *manifest.measured)
        for entry in wrong:
            _make_room(staged, entry)
        for _ in range(SUSPECT_ATTEMPTS):
            each(partial(self._bring, manifest, staged), [piece for entry in wrong for piece in _pieces(entry)])
            same = each(lambda entry: sha256_of(staged / entry.path) == entry.sha256, wrong)
            wrong = [entry for entry, is_same in zip(wrong, same, strict=True) if not is_same]
            if not wrong:
                break
        for path in staged.rglob("*"):
            if path.is_file() and path != staged / MANIFEST:
                path.chmod(0o444)

    def _bring(self, manifest: Manifest, staged: Path, piece: _Piece) -> None:
        body = self.bucket.get_piece(_file_name(manifest, piece.entry), piece.start, piece.num_bytes)
        with (staged / piece.entry.path).open("r+b") as stream:
            os.pwrite(stream.fileno(), body or b"", piece.start)

    def _sweep_bucket(self, bucket: Bucket, kind: str) -> None:
        before = bucket.now() - ABANDONED
        published = set(self.keys(kind))
        for key in bucket.folders(f"files/{kind}"):
            if key not in published:
                _remove_abandoned(bucket, kind, key, before)
        bucket.abort_uploads(f"files/{kind}", before=before)


def open_storage(settings: Settings) -> S3Storage:
    """s3://bucket/prefix; endpoint and credentials come from the AWS_... variables and files.

    Raises BadInputError for another kind of address.
    """
    parsed = urlsplit(settings.store_url)
    if "@" in parsed.netloc or ":" in parsed.netloc:
        raise BadInputError(
            "POTSTILL_STORE may hold a bucket and a prefix only, s3://bucket/prefix: "
            "credentials and endpoint belong in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
        )
    if not parsed.netloc or parsed.query or parsed.fragment:
        raise BadInputError(f"POTSTILL_STORE is {settings.store_url!r}, which is not of the form s3://bucket/prefix")
    bucket = connect(parsed.netloc, parsed.path.strip("/"), deadline_seconds=settings.store_deadline_seconds)
    place = hashlib.sha256(f"{bucket.endpoint} {bucket.where}".encode()).hexdigest()[:12]
    root = settings.store_cache / f"{parsed.netloc}-{place}"
    return S3Storage(bucket, root.absolute(), lock_wait_seconds=settings.lock_wait_seconds)


def _manifest_name(kind: str, key: str) -> str:
    return f"manifests/{kind}/{key}.json"


def _file_name(manifest: Manifest, entry: FileEntry) -> str:
    return f"files/{manifest.kind}/{manifest.key}/{entry.sha256}"


def _parsed(stored: Stored) -> Manifest | None:
    try:
        return Manifest.told(stored.body.decode())
    except (ValueError, TypeError, KeyError):
        return None


def _make_room(staged: Path, entry: FileEntry) -> None:
    path = staged / entry.path
    if not path.resolve().is_relative_to(staged.resolve()):
        raise ArtifactDamagedError(f"the manifest names a file outside its folder: {entry.path!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.truncate(entry.bytes)


def _pieces(entry: FileEntry) -> Iterator[_Piece]:
    for start in range(0, entry.bytes, PIECE_BYTES):
        yield _Piece(entry, start, min(PIECE_BYTES, entry.bytes - start))


def _remove_abandoned(bucket: Bucket, kind: str, key: str, before: datetime) -> None:
    """Remove the files of a writer that has not come to publish them for a day by the server's clock."""
    folder = f"files/{kind}/{key}"
    files = list(bucket.list(folder))
    if all(file.modified < before for file in files) and bucket.get(_manifest_name(kind, key)) is None:
        for file in files:
            bucket.delete(f"{folder}/{file.name}")
