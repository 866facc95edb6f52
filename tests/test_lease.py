"""The lock on S3: one holder, whatever becomes of the answers to its writes."""

import boto3
import pytest
from botocore.exceptions import ClientError

from conf.lease import LAPSE_SECONDS, Lease
from conf.lock import Locked


class Client:
    """boto3's, with trouble at the next write: a function of what writes."""

    def __init__(self):
        self._s3 = boto3.client("s3")
        self.exceptions, self.get_object = self._s3.exceptions, self._s3.get_object
        self.trouble = []

    def put_object(self, **request):
        def write():
            return self._s3.put_object(**request)

        return self.trouble.pop()(write) if self.trouble else write()


def answer_lost(write):
    """As boto3 goes about it: it sends the same request again."""
    write()
    return write()


def conflict(write):
    raise refused("ConditionalRequestConflict")


def unanswered(write):
    write()
    raise refused("SlowDown")


def refused(code):
    return ClientError({"Error": {"Code": code}}, "PutObject")


@pytest.fixture
def now():
    return [1000.0]


@pytest.fixture
def lease(bucket, now):
    """Makes leases of one object, each with its client."""

    def made():
        client = Client()
        return Lease(f"s3a://{bucket}/l", lambda: now[0], client), client

    return made


def test_it_is_held_by_one_and_lapses(lease, now):
    (first, _), (second, _) = lease(), lease()
    first.take()
    for _ in range(2):
        with pytest.raises(Locked, match="for 60 s if it died"):
            second.take()
    now[0] += LAPSE_SECONDS - 1
    first.renew()
    now[0] += LAPSE_SECONDS - 1
    with pytest.raises(Locked):
        second.take()
    now[0] += 1
    second.take()
    with pytest.raises(Locked, match="taken by another"):
        first.renew()
    first.release()  # of what is another's by now: nothing
    second.renew()
    second.release()
    first.take()


@pytest.mark.parametrize("trouble", [answer_lost, conflict])
def test_a_write_that_met_itself_or_asks_for_another_try_is_no_theft(lease, now, trouble):
    (first, s3), (second, other) = lease(), lease()
    for step in (first.take, first.renew, first.renew):
        s3.trouble = [trouble]
        step()
        now[0] += LAPSE_SECONDS - 1
        with pytest.raises(Locked):
            second.take()
    s3.trouble = [trouble]
    first.release()
    other.trouble = [trouble]
    second.take()  # of what another held
    second.renew()
    with pytest.raises(Locked, match="taken by another"):
        first.renew()


def test_a_renewal_that_landed_without_an_answer_is_gone_on_from(lease, now):
    (first, s3), (second, _) = lease(), lease()
    first.take()
    s3.trouble = [unanswered]
    with pytest.raises(OSError, match="SlowDown"):
        first.renew()
    now[0] += LAPSE_SECONDS
    first.renew()
    now[0] += 1
    with pytest.raises(Locked, match="for 59 s"):
        second.take()


def test_conflict_after_conflict_is_told(lease):
    first, s3 = lease()
    first.take()
    s3.trouble = [conflict] * 20
    with pytest.raises(OSError, match="others write it at the same time"):
        first.renew()


def test_an_object_that_was_removed_is_made_again(lease, bucket):
    (first, _), (second, _) = lease(), lease()
    first.take()
    boto3.client("s3").delete_object(Bucket=bucket, Key="l")
    first.renew()
    with pytest.raises(Locked):
        second.take()
