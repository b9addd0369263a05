"""What callers are told when something fails."""

import json

from common.errors import DATABASE_UNAVAILABLE, Unavailable
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
