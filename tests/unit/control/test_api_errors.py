"""What callers are told when something fails."""

import json

from common.errors import DATABASE_UNAVAILABLE, TooManyRequests, Unavailable
from control.api.errors import error_response


def test_callers_do_not_learn_where_the_database_is() -> None:
    answer = error_response(
        Unavailable("the database postgresql://ops@db.internal/x is down", DATABASE_UNAVAILABLE)
    )
    error = json.loads(bytes(answer.body))["error"]
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "db.internal" not in error["message"]
    assert error["code"] == DATABASE_UNAVAILABLE


def test_whoever_asks_too_often_learns_when_to_come_back() -> None:
    answer = error_response(TooManyRequests("too many watches", retry_after_seconds=7))
    error = json.loads(bytes(answer.body))["error"]
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
