"""Landing as objects of S3: ``landing.path = "s3a://bucket/prefix"``."""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

LEASE = "_ingest.lock"
"""Beside the landed objects: whoever holds it lands. No reader takes what begins with ``_``."""

_NAME = re.compile(r"payments-(\d{20})\.jsonl")


class S3Landing:
    """JSON-lines objects under a prefix, one an answer, as ``ingest.landing.FileLanding`` has them
    in a folder. An object appears whole, and none is written twice, whoever else lands there.

    Only one process may land under a prefix (``LEASE``).

    S3 tells times to the second, and names in order: Spark takes objects of one second by name,
    which is the order of their positions.

    Credentials, region and another endpoint come from the environment or the machine's own role
    (``AWS_ACCESS_KEY_ID``, ``AWS_REGION``, ``AWS_ENDPOINT_URL`` …), never from a file of settings.
    """

    def __init__(self, path: str) -> None:
        """Connect to nothing yet.

        Args:
            path: ``s3a://bucket/prefix``.
        """
        parts = urlsplit(path)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/") + "/"
        self._s3: Any = boto3.client("s3")

    def next_position(self) -> int:
        """The position behind the last row under the prefix; 0 where there is none.

        Raises:
            OSError: the prefix cannot be listed or read.
        """
        try:
            last = max(self._names(), default=None)
            if last is None:
                return 0
            body = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + last)["Body"]
            rows: int = sum(chunk.count(b"\n") for chunk in body.iter_chunks())
            return int(last[9:29]) + rows
        except (BotoCoreError, ClientError) as error:
            raise OSError(f"cannot read s3://{self._bucket}/{self._prefix}: {error}") from error

    def _names(self) -> Iterator[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        )
        for page in pages:
            for item in page.get("Contents", ()):
                name = item["Key"].removeprefix(self._prefix)
                if _NAME.fullmatch(name):
                    yield name

    def land(self, lines: Sequence[str], first_position: int) -> str:
        """Land ``lines`` as ``payments-<first position, 20 digits>.jsonl``; returns that name.

        Raises:
            FileExistsError: the object is there already, with other rows.
            OSError: nothing was landed, as far as S3 told: the bucket is away, say.
        """
        name = f"payments-{first_position:020d}.jsonl"
        body = "".join(f"{line}\n" for line in lines).encode()
        try:
            if not self._put(name, body) and self._get(name) != body:
                raise FileExistsError(f"s3://{self._bucket}/{self._prefix}{name} has other rows")
        except (BotoCoreError, ClientError) as error:
            raise OSError(f"s3://{self._bucket}/{self._prefix}{name}: {error}") from error
        return name

    def _put(self, name: str, body: bytes) -> bool:
        """False where the object is there; it may be this one, where the answer to it was lost."""
        try:
            self._s3.put_object(
                Bucket=self._bucket, Key=self._prefix + name, Body=body, IfNoneMatch="*"
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
            return False
        return True

    def _get(self, name: str) -> bytes:
        body: bytes = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name)[
            "Body"
        ].read()
        return body
