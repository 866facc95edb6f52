from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.outbox import Outbox, OutboxRules, new_mail
from tests.hits import NOON, hit

WINDOW = timedelta(minutes=10)
RULES = OutboxRules(
    window=WINDOW,
    max_hits_in_window=5,
    retry_max=timedelta(minutes=5),
    give_up_after=timedelta(hours=72),
)


@pytest.fixture
def outbox():
    return Outbox(RULES)


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def numbers(mail):
    return [int(item.trans_num, 16) for item in mail.hits]


def one_mail(outbox):
    outbox.add([hit(1)])
    (mail,) = outbox.plan(NOON)
    return mail


def fail(outbox, mail, now):
    mail.attempts += 1
    outbox.not_delivered(mail, "refused", now)


def send(outbox, mail, now):
    mail.attempts += 1
    outbox.delivered(mail, now)
    outbox.forget(mail)


def test_the_hits_of_a_micro_batch_share_a_mail(outbox):
    outbox.add([hit(3, batch=2), hit(1, batch=1), hit(2, batch=2)])
    mails = outbox.plan(NOON)
    assert [numbers(mail) for mail in mails] == [[1], [2, 3]]
    assert not any(mail.is_digest for mail in mails)
    assert outbox.plan(NOON) == []


def test_a_hit_that_waits_or_is_in_a_mail_is_not_taken_again(outbox):
    outbox.add([hit(1), hit(1, batch=5)])
    outbox.add([hit(1, batch=6)])
    (mail,) = outbox.plan(NOON)
    outbox.add([hit(1, batch=7), hit(2)])
    assert numbers(mail) == [1]
    assert [numbers(mail) for mail in outbox.plan(NOON)] == [[2]]


def test_the_message_id_is_made_from_the_hits_whatever_their_order_and_the_time():
    first = new_mail([hit(1), hit(2)], False, at(0))
    again = new_mail([hit(2, batch=9), hit(1)], True, at(50))
    other = new_mail([hit(1), hit(3)], False, at(0))
    assert first.message_id == again.message_id != other.message_id


def test_as_many_hits_as_a_window_may_have_are_no_digest(outbox):
    outbox.add(hit(number, batch=number) for number in range(5))
    assert [mail.is_digest for mail in outbox.plan(NOON)] == [False] * 5


def test_too_many_hits_at_once_are_one_digest(outbox):
    outbox.add(hit(number, batch=number) for number in range(6))
    (digest,) = outbox.plan(NOON)
    assert digest.is_digest
    assert sorted(numbers(digest)) == list(range(6))


def test_what_is_too_much_for_a_window_waits_for_its_end_and_is_one_digest(outbox):
    outbox.add(hit(number, batch=number) for number in range(3))
    for mail in outbox.plan(NOON):
        send(outbox, mail, at(1))
    outbox.add(hit(number, batch=number) for number in range(10, 13))
    assert outbox.plan(at(1)) == []
    outbox.add(hit(number, batch=number) for number in range(13, 16))
    assert outbox.plan(at(600)) == []
    (digest,) = outbox.plan(at(601))
    assert digest.is_digest
    assert sorted(numbers(digest)) == list(range(10, 16))


def test_what_waits_goes_out_as_mails_once_the_window_has_room(outbox):
    outbox.add(hit(number) for number in range(4))
    (mail,) = outbox.plan(NOON)
    send(outbox, mail, NOON)
    outbox.add([hit(10, batch=1), hit(11, batch=2)])
    assert outbox.plan(at(599)) == []
    assert [mail.is_digest for mail in outbox.plan(at(600))] == [False, False]


def test_an_outage_of_the_relay_ends_without_a_flood(outbox):
    planned = []
    for minute in range(600):
        now = NOON + timedelta(minutes=minute)
        outbox.add([hit(minute, batch=minute)])
        planned += outbox.plan(now)
        for mail in outbox.due(now):
            fail(outbox, mail, now)
    mails = [mail for mail in planned if not mail.is_digest]
    digests = [mail for mail in planned if mail.is_digest]
    assert sum(len(mail.hits) for mail in mails) == RULES.max_hits_in_window
    assert len(digests) <= 600 / 10
    waiting = len(outbox.waiting)
    assert sum(len(mail.hits) for mail in planned) + waiting == 600


def test_a_mail_that_is_never_taken_does_not_hold_up_later_ones(outbox):
    outbox.add(hit(number) for number in range(6))
    (stuck,) = outbox.plan(NOON)
    fail(outbox, stuck, NOON)
    outbox.add([hit(10)])
    assert outbox.plan(at(599)) == []
    (later,) = outbox.plan(at(600))
    assert numbers(later) == [10]


def test_each_pause_is_twice_as_long_up_to_the_longest(outbox):
    mail = one_mail(outbox)
    now, pauses = NOON, []
    for _ in range(60):
        fail(outbox, mail, now)
        pauses.append((mail.next_try_at - now).total_seconds())
        now = mail.next_try_at
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256] + [300] * 52


def test_a_mail_is_due_when_its_pause_is_over(outbox):
    mail = one_mail(outbox)
    assert outbox.due(NOON) == [mail]
    fail(outbox, mail, NOON)
    assert mail.last_error == "refused"
    assert outbox.due(at(1.9)) == []
    assert outbox.due(at(2)) == [mail]


def test_the_oldest_mail_is_tried_first(outbox):
    first = one_mail(outbox)
    fail(outbox, first, NOON)
    outbox.add([hit(2, batch=1)])
    (second,) = outbox.plan(at(2))
    assert outbox.due(at(2)) == [first, second]


def test_a_mail_that_was_sent_is_not_due_while_the_ledger_does_not_know(outbox):
    mail = one_mail(outbox)
    fail(outbox, mail, NOON)
    mail.attempts += 1
    outbox.delivered(mail, at(2))
    assert (mail.status, mail.sent_at, mail.last_error) == ("sent", at(2), None)
    assert outbox.due(at(10**6)) == []
    outbox.add([hit(1)])
    assert outbox.plan(at(10**6)) == []


def test_a_mail_is_given_up_after_the_set_time_and_not_before(outbox):
    mail = one_mail(outbox)
    fail(outbox, mail, NOON + RULES.give_up_after)
    assert mail.status == "pending"
    fail(outbox, mail, NOON + RULES.give_up_after + timedelta(seconds=1))
    assert mail.status == "failed"
    assert outbox.due(at(10**9)) == []


def test_what_is_forgotten_is_gone(outbox):
    send(outbox, one_mail(outbox), NOON)
    assert not outbox.mails
    assert not outbox.waiting


additions = st.tuples(st.just("add"), st.lists(st.integers(0, 40), max_size=8), st.integers(0, 3))
ticks = st.tuples(
    st.just("tick"), st.sampled_from([0, 1, 60, 599, 600, 4000]), st.lists(st.booleans())
)


@given(st.lists(additions | ticks, max_size=30))
def test_every_hit_is_in_one_mail_and_no_window_has_too_many(steps):
    outbox, now = Outbox(RULES), NOON
    added, planned, sent = set(), [], []

    def tick(seconds, answers):
        nonlocal now
        now += timedelta(seconds=seconds)
        planned.extend(outbox.plan(now))
        for mail, is_taken in zip(outbox.due(now), answers, strict=False):
            (send if is_taken else fail)(outbox, mail, now)
            if is_taken:
                sent.append(mail)

    for kind, first, second in steps:
        if kind == "tick":
            tick(first, second)
        else:  # The ledger hands out no hit twice once its mail is forgotten.
            gone = {number for mail in sent for number in numbers(mail)}
            fresh = set(first) - gone
            outbox.add(hit(number, batch=second) for number in first if number in fresh)
            added |= fresh
    for _ in range(20):
        tick(700, [True] * 100)

    mailed = Counter(number for mail in sent for number in numbers(mail))
    assert mailed == Counter(added)
    assert Counter(mail.message_id for mail in sent) == Counter(m.message_id for m in planned)
    assert not outbox.waiting
    assert not outbox.mails
    for end in {mail.sent_at for mail in sent}:
        inside = [mail for mail in sent if end - WINDOW < mail.sent_at <= end]
        plain = [mail for mail in inside if not mail.is_digest]
        assert sum(len(mail.hits) for mail in plain) <= RULES.max_hits_in_window
    digests = sorted(mail.planned_at for mail in planned if mail.is_digest)
    assert all(b - a >= WINDOW for a, b in pairwise(digests))
