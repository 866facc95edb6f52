"""A lock between machines, as an object of S3 that its holder renews."""

import json
import os
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from conf.lock import Locked

RENEW_SECONDS = 10.0
LAPSE_SECONDS = 60.0
"""So long after its last renewal a lease may be taken by another; clocks must agree better."""

_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404")


class Lease:
    """Held by one process at a time. Writes are conditional: of two that take it at once, S3 lets
    one through.

    Args:
        path: of the object, ``s3a://bucket/key``.
        clock: seconds since the epoch.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        parts = urlsplit(path)
        self._place = {"Bucket": parts.netloc, "Key": parts.path.lstrip("/")}
        self._path, self._clock = path, clock
        self._s3: Any = boto3.client("s3")
        self._owner = f"{socket.gethostname()}, pid {os.getpid()}, {uuid.uuid4().hex[:8]}"
        self._mark = ""

    def take(self) -> None:
        """Become the holder, where nobody is or the holder has not renewed it in time.

        Raises:
            Locked: another process holds it.
            OSError: S3 does not answer.
        """
        if self._write(IfNoneMatch="*"):
            return
        holder, until, mark = self._read()
        if until > self._clock() or not self._write(IfMatch=mark):
            left = max(0.0, until - self._clock())
            raise Locked(f"{self._path} is held by {holder}, for {left:.0f} s if it died")

    def renew(self) -> None:
        """Hold it for longer.

        Raises:
            Locked: another process has taken it.
            OSError: S3 does not answer.
        """
        if not self._write(IfMatch=self._mark):
            raise Locked(f"{self._path} was taken by another process")

    def release(self) -> None:
        """Let others take it at once; where S3 does not answer, once it has lapsed."""
        try:
            self._write(lasts=0.0, IfMatch=self._mark)
        except OSError:
            return

    def _read(self) -> tuple[str, float, str]:
        try:
            found = self._s3.get_object(**self._place)
            told = json.loads(found["Body"].read())
            return str(told["holder"]), float(told["until"]), str(found["ETag"])
        except (BotoCoreError, ClientError, ValueError, KeyError, TypeError) as error:
            raise OSError(f"cannot read the lease {self._path}: {error}") from error

    def _write(self, lasts: float = LAPSE_SECONDS, **condition: str) -> bool:
        told = {"holder": self._owner, "until": self._clock() + lasts}
        try:
            written = self._s3.put_object(
                **self._place, Body=json.dumps(told).encode(), **condition
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in _LOST:
                return False
            raise OSError(f"cannot write the lease {self._path}: {error}") from error
        except BotoCoreError as error:
            raise OSError(f"cannot write the lease {self._path}: {error}") from error
        self._mark = str(written["ETag"])
        return True
