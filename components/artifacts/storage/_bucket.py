"""The door of boto3: one prefix of a bucket, every request bounded in time, every small object checked on arrival."""

from __future__ import annotations

import base64
import hashlib
import itertools
import queue
import random
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from components.errors import StoreError

T = TypeVar("T")
Item = TypeVar("Item")

PIECE_BYTES = 8 * 2**20
"""What one request carries at most, up or down."""
NUM_PARTS_MAX = 10_000
NUM_PARALLEL = 8
ATTEMPT_SHARE = 1 / 3
"""Of the deadline: an attempt that takes longer is given up, so that there is always a second one."""
SUSPECT_ATTEMPTS = 3
"""For answers that a byte changed on the way would explain, and a wrong setting as well."""
PAUSE_SECONDS = (0.05, 5.0)
"""First and longest pause between attempts; each is drawn evenly from zero up to it."""
BUSY = {408, 409, 429, 500, 502, 503, 504}
CUT_OR_CHANGED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "RequestTimeout"}
FINAL = {"NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "NotImplemented"}
ABSENT = {"NoSuchKey", "NoSuchUpload", "InvalidRange"}
"""What a store says; a 404 without such a code comes from something in between, which knows nothing of objects."""


class _ChangedOnTheWayError(Exception):
    """What arrived is not what lies there."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A small object as it arrived."""

    body: bytes
    etag: str
    damaged: bool
    """Whether its content is not the one that its writer named, also when asked for again."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing."""

    name: str
    modified: datetime


class Bucket:
    """Objects below one prefix. Every method raises StoreError when the server does not do it within the deadline."""

    def __init__(self, client: Any, bucket: str, prefix: str, *, deadline_seconds: float) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.deadline_seconds = deadline_seconds
        self.where = f"s3://{bucket}/{self._prefix}".rstrip("/")
        self.endpoint = without_password(client.meta.endpoint_url)

    def hurried(self, deadline_seconds: float) -> Bucket:
        """The same place for requests that may fail sooner."""
        return Bucket(self._client, self._bucket, self._prefix.rstrip("/"), deadline_seconds=deadline_seconds)

    def get(self, name: str) -> Stored | None:
        """A small object whole; None if there is none."""
        damaged: list[Stored] = []

        def once() -> Stored | None:
            answer = self._call("get_object", name)
            if answer is None:
                return None
            body, named = answer["Body"].read(), answer["Metadata"].get("sha256")
            stored = Stored(body, answer["ETag"], damaged=named is not None and named != sha256(body))
            if stored.damaged and len(damaged) < SUSPECT_ATTEMPTS:
                damaged.append(stored)
                raise _ChangedOnTheWayError(f"{name} is not what was put there")
            return stored

        return self._ask(f"reading {name}", once)

    def get_piece(self, name: str, start: int, num_bytes: int) -> bytes | None:
        """*num_bytes* of an object from *start*; None if there is no such object or it ends before."""

        def once() -> bytes | None:
            span = {"Range": f"bytes={start}-{start + num_bytes - 1}"} if num_bytes else {}
            answer = self._call("get_object", name, **span)
            if answer is None:
                return None
            body: bytes = answer["Body"].read()
            if answer.get("ContentRange", "").startswith(f"bytes {start}-") and len(body) < num_bytes:
                return None
            if len(body) != num_bytes:
                raise _ChangedOnTheWayError(f"{len(body)} bytes of {name} arrived instead of {num_bytes}")
            return body

        return self._ask(f"reading {name}", once)

    def put_new(self, name: str, body: bytes) -> str | None:
        """Create *name*; its ETag, or None if it is there already. One of many callers at once gets an ETag."""
        return self._put_if(name, body, IfNoneMatch="*")

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        """Put *body* over the object with *etag*; the new ETag, or None if it is another one by now."""
        return self._put_if(name, body, IfMatch=etag)

    def put(self, name: str, body: bytes) -> None:
        """Put an object that nobody else puts with another content."""
        self._put_if(name, body)

    def put_file(self, name: str, path: Path, num_bytes: int) -> None:
        """Put a file, in parts if it is large; nobody else puts *name* with another content."""
        if num_bytes <= PIECE_BYTES:
            self.put(name, path.read_bytes())
        else:
            self._put_parts(name, path, num_bytes)

    def delete(self, name: str, etag: str | None = None) -> bool:
        """Remove an object, if it is the one with *etag*; False if it is gone or another one by now."""
        condition = {"IfMatch": etag} if etag else {}
        return self._ask(f"deleting {name}", lambda: self._call("delete_object", name, **condition)) is not None

    def now(self) -> datetime:
        """The server's clock."""
        headers = self._ask("a first request", partial(self._request, "list_objects_v2", MaxKeys=1))
        return parsedate_to_datetime(headers["ResponseMetadata"]["HTTPHeaders"]["date"])

    def list(self, folder: str) -> Iterator[Listed]:
        """Objects below *folder*, in the order of their names; names are relative to it."""
        for page in self._pages("list_objects_v2", folder, "ContinuationToken"):
            yield from (
                Listed(entry["Key"].removeprefix(f"{self._prefix}{folder}/"), entry["LastModified"])
                for entry in page.get("Contents", ())
            )

    def folders(self, folder: str) -> Iterator[str]:
        """Names of the folders directly below *folder*."""
        for page in self._pages("list_objects_v2", folder, "ContinuationToken", Delimiter="/"):
            for entry in page.get("CommonPrefixes", ()):
                yield entry["Prefix"].removeprefix(f"{self._prefix}{folder}/").rstrip("/")

    def _put_if(self, name: str, body: bytes, **condition: str) -> str | None:
        nonce = secrets.token_hex(16)

        def once() -> str | None:
            answer = self._put(name, body, nonce=nonce, **condition)
            if answer is not None:
                etag: str = answer["ETag"]
                return etag
            # An earlier attempt of ours may have arrived although its answer did not.
            there = self._call("head_object", name)
            return there["ETag"] if there is not None and there["Metadata"].get("nonce") == nonce else None

        return self._ask(f"writing {name}", once)

    def _put(self, name: str, body: bytes, *, nonce: str = "", **condition: str) -> Mapping[str, Any] | None:
        digest = hashlib.sha256(body)
        metadata = {"sha256": digest.hexdigest(), **({"nonce": nonce} if nonce else {})}
        checksum = base64.b64encode(digest.digest()).decode()
        return self._call("put_object", name, Body=body, Metadata=metadata, ChecksumSHA256=checksum, **condition)

    def _put_parts(self, name: str, path: Path, num_bytes: int) -> None:
        size = max(PIECE_BYTES, -(-num_bytes // NUM_PARTS_MAX))
        create = partial(self._call, "create_multipart_upload", name, ChecksumAlgorithm="SHA256")
        upload = (self._ask(f"writing {name}", create) or {})["UploadId"]
        try:
            put_part = partial(self._put_part, name, path, size, upload)
            parts = each(put_part, range(-(-num_bytes // size)))
            self._ask(f"writing {name}", lambda: self._complete(name, upload, parts, num_bytes))
        except BaseException:
            with suppress(StoreError):
                self.hurried(10)._ask("", lambda: self._call("abort_multipart_upload", name, UploadId=upload))
            raise

    def _put_part(self, name: str, path: Path, size: int, upload: str, index: int) -> Mapping[str, Any]:
        with path.open("rb") as stream:
            stream.seek(index * size)
            body = stream.read(size)
        part = {"PartNumber": index + 1, "ChecksumSHA256": base64.b64encode(hashlib.sha256(body).digest()).decode()}
        put = partial(self._call, "upload_part", name, UploadId=upload, Body=body, **part)
        answer = self._ask(f"writing part {index + 1} of {name}", put)
        if answer is None:
            raise StoreError(f"{self.where}: the upload of {name} was aborted by someone else; run again")
        return {**part, "ETag": answer["ETag"]}

    def _complete(self, name: str, upload: str, parts: Sequence[Mapping[str, Any]], num_bytes: int) -> None:
        done = {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
        if self._call("complete_multipart_upload", name, **done) is None:
            # No such upload: an earlier attempt completed it although its answer did not arrive.
            there = self._call("head_object", name)
            if there is None or there["ContentLength"] != num_bytes:
                raise StoreError(f"{self.where}: the upload of {name} was aborted by someone else; run again")

    def abort_uploads(self, folder: str, *, before: datetime) -> None:
        """Give up uploads of large files below *folder* that began before a moment of the server's clock."""
        for page in self._pages("list_multipart_uploads", folder, "KeyMarker"):
            for entry in page.get("Uploads", ()):
                if entry["Initiated"] < before:
                    name = entry["Key"].removeprefix(self._prefix)
                    abort = partial(self._call, "abort_multipart_upload", name, UploadId=entry["UploadId"])
                    self._ask(f"aborting the upload of {name}", abort)

    def _pages(self, operation: str, folder: str, token: str, **parameters: str) -> Iterator[Mapping[str, Any]]:
        asked: dict[str, str] = {"Prefix": f"{self._prefix}{folder}/", **parameters}
        while True:
            page = self._ask(f"listing {folder}", partial(self._request, operation, **asked))
            yield page
            if not page.get("IsTruncated"):
                return
            asked[token] = page[f"Next{token}"]

    def _call(self, operation: str, name: str, **parameters: Any) -> Mapping[str, Any] | None:
        """One attempt; None where the server says that there is no such object, or that a condition does not hold."""
        from botocore.exceptions import ClientError

        try:
            return self._request(operation, Key=self._prefix + name, **parameters)
        except ClientError as error:
            no_body = operation == "head_object" and _status(error) == 404
            if _code(error) in ABSENT or _status(error) == 412 or no_body:
                return None
            raise

    def _request(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = getattr(self._client, operation)(Bucket=self._bucket, **parameters)
        return answer

    def _ask(self, purpose: str, once: Callable[[], T]) -> T:
        """Ask until there is an answer: transient faults are waited out up to the deadline, with growing pauses."""
        end = time.monotonic() + self.deadline_seconds
        for attempt in itertools.count(1):
            left = end - time.monotonic()
            try:
                return bounded(once, min(left, self.deadline_seconds * ATTEMPT_SHARE))
            except StoreError:
                raise
            except Exception as error:
                pause = random.uniform(0, min(PAUSE_SECONDS[1], PAUSE_SECONDS[0] * 2**attempt))  # noqa: S311 no secret
                again = _worth_another_attempt(error)
                hopeless = again == "no" or (again == "few" and attempt >= SUSPECT_ATTEMPTS)
                if hopeless or time.monotonic() + pause >= end:
                    raise self._failed(purpose, attempt, error) from error
                time.sleep(pause)
        raise AssertionError("the loop ends by a return or an error")

    def _failed(self, purpose: str, num_attempts: int, error: Exception) -> StoreError:
        return StoreError(
            f"{self.where} at {self.endpoint}: {purpose} failed after {num_attempts} attempts "
            f"({without_password(f'{type(error).__name__}: {error}')}); {_way_out(error, self._bucket)}"
        )


def connect(bucket: str, prefix: str, *, deadline_seconds: float) -> Bucket:
    """The bucket at the endpoint, and with the credentials, of the vendor's own variables and files.

    Raises StoreError when these contradict each other.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        # One attempt: whoever retries must know that an earlier one may have arrived.
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=min(5.0, deadline_seconds * ATTEMPT_SHARE),
        read_timeout=min(30.0, deadline_seconds * ATTEMPT_SHARE),
        max_pool_connections=2 * NUM_PARALLEL,
        s3={"addressing_style": "path"},
    )
    try:
        client = boto3.session.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise StoreError(
            f"s3://{bucket}: {without_password(str(error))}; look at the AWS_... variables and ~/.aws"
        ) from error
    return Bucket(client, bucket, prefix, deadline_seconds=deadline_seconds)


def each(do: Callable[[Item], T], items: Sequence[Item]) -> list[T]:
    """*do* for all items, several at a time; after the first error no more are begun, and it is raised."""
    with ThreadPoolExecutor(NUM_PARALLEL) as pool:
        futures = [pool.submit(do, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            failed = next((future for future in done if future.exception()), None)
            return [future.result() for future in ((failed,) if failed else futures)]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def bounded(call: Callable[[], T], seconds: float) -> T:
    """The result of *call*, or TimeoutError after *seconds*, also where no timeout of a socket would end it.

    A peer that sends a byte now and then satisfies every socket. The thread that listens to it is left
    behind; it holds nothing but its own buffer.
    """
    answer: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answer.put((call(), None))
        except BaseException as error:  # noqa: BLE001 raised again where it is waited for
            answer.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = answer.get(timeout=max(seconds, 0))
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.1f} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # no error: the call returned it


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def without_password(text: str) -> str:
    """*text* with what stands before the @ of an address masked."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def _worth_another_attempt(error: Exception) -> Literal["yes", "few", "no"]:
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    if isinstance(error, exceptions.ClientError):
        if _code(error) in FINAL:
            return "no"
        return "yes" if _status(error) in BUSY or _code(error) in CUT_OR_CHANGED else "few"
    transient = (
        exceptions.HTTPClientError,
        ResponseParserError,
        exceptions.IncompleteReadError,
        exceptions.FlexibleChecksumError,
        OSError,
        _ChangedOnTheWayError,
    )
    if isinstance(error, transient):
        return "yes"
    # Headers that were changed on the way break the parsing anywhere.
    return "no" if isinstance(error, exceptions.BotoCoreError) else "few"


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _way_out(error: Exception, bucket: str) -> str:
    from botocore import exceptions

    code = _code(error) if isinstance(error, exceptions.ClientError) else ""
    if code == "NoSuchBucket":
        return f"create the bucket {bucket}, or set another POTSTILL_STORE"
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if code in {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
        return "look at the credentials in AWS_... and what they may do in this bucket"
    return "see that AWS_ENDPOINT_URL is right and the server up, and run again: what has arrived there is kept"
