"""What `potstill doctor` says of a store in a bucket."""

import time

import pytest

from flows.doctor import diagnose

pytestmark = pytest.mark.service


def store_check(settings, tmp_path):
    (check,) = (check for check in diagnose(settings, tmp_path / "params.yaml") if check.name == "store")
    return check


def test_a_store_that_answers_is_ok_and_where_it_is_stands_there(s3_settings, seaweed, tmp_path):
    """With the endpoint and what was found, and without a credential."""
    check = store_check(s3_settings, tmp_path)
    assert (check.level, check.hint) == ("ok", "")
    assert s3_settings.store in check.text
    assert seaweed in check.text
    assert "tests" not in check.text.replace(str(tmp_path), "")


def test_a_store_that_does_not_answer_is_a_failure_within_seconds(s3_settings, proxy, tmp_path):
    """Although it answered before, and that is remembered."""
    assert store_check(s3_settings, tmp_path).level == "ok"
    proxy.always("stall")
    began = time.monotonic()
    check = store_check(s3_settings, tmp_path)
    assert check.level == "fail"
    assert "AWS_ENDPOINT_URL" in check.text
    assert time.monotonic() - began < 15


def test_a_store_that_lets_everyone_win_is_a_failure(s3_settings, proxy, tmp_path):
    """With the reason."""
    proxy.always("win")
    check = store_check(s3_settings, tmp_path)
    assert check.level == "fail"
    assert "conditional writes" in check.text


def test_a_bad_address_is_a_failure(s3_settings, tmp_path):
    """And no traceback."""
    check = store_check(s3_settings.model_copy(update={"store": "s3://"}), tmp_path)
    assert check.level == "fail"
    assert "s3://bucket/prefix" in check.text
