"""The examples of a training set as ``validated.csv``: what other trainers read."""

import os
from pathlib import Path

import boto3
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ingest.schema import FIELD_NAMES
from jobs.model import TRUTH

FILE_NAME = "validated.csv"


class NoPlace(ValueError):
    """What was given is neither a folder nor a bucket."""


def write_validated(examples: pd.DataFrame, out: str) -> str:
    """Write ``as_csv`` into the folder ``out``, or under ``s3://bucket/prefix`` with the
    credentials of the environment or the machine (and `AWS_ENDPOINT_URL`); returns the address.

    Raises:
        OSError: the folder cannot be written to.
        botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError: the store did not take
            it.
        NoPlace: ``out`` has another scheme, or no bucket.
    """
    content = as_csv(examples)
    if "://" in out:
        scheme, _, path = out.partition("://")
        bucket, _, prefix = path.strip("/").partition("/")
        if scheme not in ("s3", "s3a") or not bucket:
            raise NoPlace(f"--out: expected a folder or s3://bucket/prefix, found {out!r}")
        key = f"{prefix}/{FILE_NAME}" if prefix else FILE_NAME
        boto3.client("s3").put_object(
            Bucket=bucket, Key=key, Body=content, ContentType="text/csv; charset=utf-8"
        )
        return f"s3://{bucket}/{key}"
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{FILE_NAME}.{os.getpid()}"
    part.write_bytes(content)
    part.replace(folder / FILE_NAME)
    return str(folder / FILE_NAME)


def as_csv(examples: pd.DataFrame) -> bytes:
    """``ingest.schema.FIELD_NAMES`` with `is_fraud` 0 or 1, `event_time` (ISO 8601, UTC), `weight`
    and `origin`; UTF-8, missing values empty. ``ingest.payment_files.read_payments`` reads the same
    values from it, to the bit.

    Args:
        examples: ``training.dataset.Dataset.examples``.
    """
    columns = examples[[*FIELD_NAMES, "event_time", "weight", "origin"]].astype({TRUTH: "int64"})
    table = pa.Table.from_pandas(columns, preserve_index=False)
    place = table.column_names.index("event_time")
    texts = pc.strftime(table["event_time"], "%Y-%m-%dT%H:%M:%SZ")
    table = table.set_column(place, "event_time", texts)
    buffer = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, buffer)
    return bytes(buffer.getvalue())
