"""When subjects expire, and what is announced of it."""

import pytest

from skerry import times
from skerry_policies import subjects

NOW = times.parse("2026-11-21T10:00:00Z")


@pytest.mark.parametrize(
    ("seconds", "sent", "kept"),
    [
        (3_600, "2026-11-21T10:00:01Z", "2026-11-21T11:00:00Z"),
        (3_600, "2026-11-21T11:00:00Z", "2026-11-21T11:00:00Z"),
        (3_600, "2026-11-21T12:30:00+01:00", "2026-11-21T12:00:00Z"),
        (5, "2026-11-21T10:00:01.2Z", "2026-11-21T10:00:05Z"),
        (7, "2026-11-21T10:00:57Z", "2026-11-21T10:01:03Z"),
        (0.25, "2026-11-21T10:00:01.1Z", "2026-11-21T10:00:01.250Z"),
        (86_400, "2026-11-21T10:00:01Z", "2026-11-22T00:00:00Z"),
        (10 * 86_400, "2026-11-11T00:00:00Z", "2026-11-11T00:00:00Z"),
        (0, "2026-11-21T10:00:01.123456Z", "2026-11-21T10:00:01.123456Z"),
    ],
)
def test_expiries_are_rounded_up_as_the_operator_wants_it(seconds, sent, kept):
    facts = {"type": "", "expiry": sent}
    now = min(NOW, times.parse(sent))
    assert subjects.check_one("/", facts, now=now, granularity=seconds, announced=1)["expiry"] == kept


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({}, {"whenDeleted": False}),
        (
            {"beforeExpiry": "90s", "whenDeleted": True, "requestedAcks": {"labels": ["a:b"], "timeout": "5s"}},
            {"beforeExpiry": "120s", "whenDeleted": True, "requestedAcks": {"labels": ["a:b"], "timeout": "5s"}},
        ),
        (
            {"beforeExpiry": "1h", "randomizationInterval": "10ms", "requestedAcks": {}},
            {"beforeExpiry": "1h", "whenDeleted": False, "randomizationInterval": "10ms"},
        ),
    ],
)
def test_announcements_have_a_full_form(sent, kept):
    facts = {"type": "", "announcement": sent}
    assert subjects.check_one("/", facts, now=NOW, granularity=1, announced=60)["announcement"] == kept


@pytest.mark.parametrize("subject", ["anne", ":anne\x01", "nginx:", ""])
def test_subject_ids_have_an_issuer(subject):
    with pytest.raises(subjects.SubjectIdInvalid):
        subjects.check_id(subject)


@pytest.mark.parametrize("subject", ["nginx:anne", "{{ request:subjectId }}", "${request.subjectId}", "a:b:c"])
def test_what_may_be_a_subject_id(subject):
    subjects.check_id(subject)
