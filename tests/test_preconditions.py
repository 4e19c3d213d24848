"""ETags and preconditions."""

from __future__ import annotations

import pytest

from skerry import preconditions
from skerry.headers import HeaderInvalid
from skerry.preconditions import NotModified, PolicyPreconditionFailed, PreconditionFailed

TAG = '"rev:5"'


@pytest.mark.parametrize("text", ["*", TAG, f'"rev:4",{TAG}', f' "rev:4" , {TAG} '])
def test_if_match_holds_for_a_tag_that_is_there(text):
    preconditions.check({"if-match": text}, TAG, "modify")


@pytest.mark.parametrize(("text", "etag"), [("*", None), (TAG, None), ('"rev:4"', TAG), (f"W/{TAG}", TAG)])
def test_if_match_fails_for_none_another_or_a_weak_tag(text, etag):
    with pytest.raises(PreconditionFailed) as error:
        preconditions.check({"if-match": text}, etag, "modify")
    assert error.value.status == 412
    assert error.value.headers.get("etag") == etag


@pytest.mark.parametrize(("text", "etag"), [("*", None), (TAG, None), ('"rev:4"', TAG), ('"rev:4",W/"rev:6"', TAG)])
def test_if_none_match_holds_for_none_or_another_tag(text, etag):
    preconditions.check({"if-none-match": text}, etag, "modify")
    preconditions.check({"if-none-match": text}, etag, "retrieve")


@pytest.mark.parametrize("text", ["*", TAG, f"W/{TAG}", f'"rev:4", {TAG}'])
def test_if_none_match_fails_as_412_for_writes_and_304_for_reads(text):
    with pytest.raises(PreconditionFailed):
        preconditions.check({"if-none-match": text}, TAG, "modify")
    with pytest.raises(NotModified) as error:
        preconditions.check({"if-none-match": text}, TAG, "retrieve")
    assert (error.value.status, error.value.headers) == (304, {"etag": TAG})


@pytest.mark.parametrize("text", ["", "rev:5", '"a" "b"', '"a",', "*,*", 'w/"a"'])
def test_what_is_no_list_of_tags_is_refused(text):
    with pytest.raises(HeaderInvalid):
        preconditions.check({"if-match": text}, TAG, "modify")


def test_a_policy_has_its_own_row():
    with pytest.raises(PolicyPreconditionFailed):
        preconditions.check({"if-match": '"x"'}, TAG, "modify", "policy")


def test_tags_of_values_are_stable_and_tell_values_apart():
    assert preconditions.thing_etag(7) == '"rev:7"'
    assert preconditions.value_etag({"a": 1}) == preconditions.value_etag({"a": 1})
    tags = {preconditions.value_etag(value) for value in (None, True, False, 0, 1, 1.0, "1", "", [], {}, {"a": 1}, [1])}
    assert len(tags) == 12
    assert preconditions.value_etag("x") == '"hash:' + preconditions.value_etag("x")[6:22] + '"'


@pytest.mark.parametrize("verb", ["retrieve", "modify"])
def test_if_match_is_looked_at_before_if_none_match(verb):
    with pytest.raises(PreconditionFailed) as error:
        preconditions.check({"if-none-match": TAG, "if-match": '"rev:4"'}, TAG, verb)
    assert error.value.facts["header"] == "if-match"
