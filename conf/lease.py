"""A lock between machines, as an object of S3 that its holder renews."""

import json
import os
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from conf.lock import Locked

RENEW_SECONDS = 10.0
LAPSE_SECONDS = 60.0
"""So long after its last renewal a lease may be taken by another; clocks must agree better."""

_NOT_WRITTEN = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404")
_TRIES = 5


class Lease:
    """Held by one process at a time. Writes are conditional: of two that take it at once, S3 lets
    one through.

    Args:
        path: of the object, ``s3a://bucket/key``.
        clock: seconds since the epoch.
        s3: a client of boto3; by default one that the environment describes.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.time, s3: Any = None) -> None:
        parts = urlsplit(path)
        self._place = {"Bucket": parts.netloc, "Key": parts.path.lstrip("/")}
        self._path, self._clock = path, clock
        self._s3 = s3 or boto3.client("s3")
        self._owner = f"{socket.gethostname()}, pid {os.getpid()}, {uuid.uuid4().hex[:8]}"
        self._mark = ""

    def take(self) -> None:
        """Become the holder, where nobody is or the holder has not renewed it in time.

        Raises:
            Locked: another process holds it.
            OSError: S3 does not answer.
        """
        self._hold(may_take=True)

    def renew(self) -> None:
        """Hold it for longer.

        Raises:
            Locked: another process has taken it.
            OSError: S3 does not answer.
        """
        self._hold()

    def release(self) -> None:
        """Let others take it at once; where S3 does not answer, once it has lapsed."""
        with suppress(Locked, OSError):
            self._hold(lasts=0.0)

    def _hold(self, lasts: float = LAPSE_SECONDS, *, may_take: bool = False) -> None:
        for _ in range(_TRIES):
            if self._write(lasts):
                return
            # That need not be another's doing: where an answer is lost, boto3 sends the write
            # again, and it meets itself; or S3 was at work on the object and asks for another try.
            holder, until, mark = self._read()
            if holder not in (self._owner, ""):
                left = until - self._clock()
                if not may_take:
                    raise Locked(f"{self._path} was taken by another process, {holder}")
                if left > 0:
                    raise Locked(f"{self._path} is held by {holder}, for {left:.0f} s if it died")
            self._mark = mark
        raise OSError(f"cannot write the lease {self._path}: others write it at the same time")

    def _read(self) -> tuple[str, float, str]:
        """Holder, until when, and ETag: empty where there is no such object."""
        try:
            found = self._s3.get_object(**self._place)
            told = json.loads(found["Body"].read())
            return str(told["holder"]), float(told["until"]), str(found["ETag"])
        except self._s3.exceptions.NoSuchKey:
            return "", 0.0, ""
        except (BotoCoreError, ClientError, ValueError, KeyError, TypeError) as error:
            raise OSError(f"cannot read the lease {self._path}: {error}") from error

    def _write(self, lasts: float) -> bool:
        told = {"holder": self._owner, "until": self._clock() + lasts}
        condition = {"IfMatch": self._mark} if self._mark else {"IfNoneMatch": "*"}
        try:
            written = self._s3.put_object(
                **self._place, Body=json.dumps(told).encode(), **condition
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in _NOT_WRITTEN:
                return False
            raise OSError(f"cannot write the lease {self._path}: {error}") from error
        except BotoCoreError as error:
            raise OSError(f"cannot write the lease {self._path}: {error}") from error
        self._mark = str(written["ETag"])
        return True
