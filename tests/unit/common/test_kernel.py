"""Clock, ids, units and the error table."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import SystemClock, VirtualClock, parse_rfc3339, rfc3339
from common.errors import (
    ComputilityError,
    Conflict,
    ContextExceeded,
    EngineFailed,
    Forbidden,
    IdempotencyMismatch,
    InvalidInput,
    NotFound,
    Problem,
    SetupError,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    mapping_of,
    openai_body,
)
from common.ids import derived_id, new_id, new_secret, secret_digest
from common.units import format_bytes, format_credits, parse_bytes


class TestClock:
    def test_a_virtual_clock_moves_only_when_told(self) -> None:
        clock = VirtualClock(1000)
        clock.advance(1.5)
        assert (clock.now_ms(), clock.monotonic_seconds()) == (2500, 2.5)
        with pytest.raises(ValueError, match="backwards"):
            clock.advance(-1)

    def test_the_machine_s_clock_counts_milliseconds_of_this_century(self) -> None:
        assert 1_700_000_000_000 < SystemClock().now_ms() < 4_000_000_000_000

    def test_times_are_written_in_utc_with_milliseconds(self) -> None:
        assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
        assert parse_rfc3339("2026-01-01T02:00:00+02:00") == parse_rfc3339("2026-01-01T00:00:00Z")

    @given(st.integers(0, 10**14))
    def test_what_is_written_can_be_read(self, ms: int) -> None:
        assert parse_rfc3339(rfc3339(ms)) == ms

    def test_a_time_without_zone_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no time zone"):
            parse_rfc3339("2026-01-01T00:00:00")
        with pytest.raises(ValueError, match="'tomorrow' is no moment"):
            parse_rfc3339("tomorrow")


class TestIds:
    def test_ids_sort_by_the_time_of_making(self) -> None:
        clock = VirtualClock()
        made = []
        for _ in range(50):
            made.append(new_id("use", clock))
            clock.advance(0.001)
        assert made == sorted(made)
        assert all(re.fullmatch(r"use-[0-9a-hjkmnp-tv-z]{26}", id_) for id_ in made)

    def test_ids_of_the_same_moment_differ(self) -> None:
        clock = VirtualClock()
        assert len({new_id("use", clock) for _ in range(1000)}) == 1000

    def test_the_same_parts_give_the_same_id(self) -> None:
        assert derived_id("dev", "w", 1) == derived_id("dev", "w", 1)
        assert (
            len({derived_id("dev", *parts) for parts in (("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"))})
            == 4
        )

    def test_a_secret_is_long_and_its_digest_is_stable(self) -> None:
        first, second = new_secret("ck"), new_secret("ck")
        assert first.startswith("ck-")
        assert len(first) > 40
        assert first != second
        assert secret_digest(first) == secret_digest(first) != secret_digest(second)


class TestUnits:
    @pytest.mark.parametrize(
        ("text", "count"),
        [("0", 0), (17, 17), ("512Mi", 512 * 2**20), ("80Gi", 80 * 2**30), ("2k", 2000), ("1T", 10**12)],
    )
    def test_byte_quantities(self, text: str | int, count: int) -> None:
        assert parse_bytes(text) == count

    @pytest.mark.parametrize("text", ["", "-1", "1.5Gi", "10 GB", "1gi", "Gi"])
    def test_other_texts_are_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="512Mi"):
            parse_bytes(text)

    def test_bytes_for_people(self) -> None:
        assert [format_bytes(n) for n in (5, 1024, 80 * 2**30, 3 * 2**40)] == [
            "5 B",
            "1.0 KiB",
            "80.0 GiB",
            "3.0 TiB",
        ]

    @given(st.integers(-(10**18), 10**18))
    def test_credits_lose_nothing(self, microcredits: int) -> None:
        text = format_credits(microcredits)
        assert re.fullmatch(r"-?\d+\.\d{6}", text)
        assert int(text.replace(".", "")) == microcredits


class TestErrors:
    @pytest.mark.parametrize(
        ("kind", "status", "exit_code"),
        [
            (InvalidInput, 400, 2),
            (ContextExceeded, 400, 2),
            (Unauthenticated, 401, 3),
            (Forbidden, 403, 3),
            (NotFound, 404, 4),
            (Conflict, 409, 5),
            (IdempotencyMismatch, 422, 5),
            (TooLarge, 413, 2),
            (TooManyRequests, 429, 6),
            (EngineFailed, 502, 6),
            (Unavailable, 503, 6),
            (SetupError, 500, 7),
        ],
    )
    def test_each_error_has_its_status_and_exit_code(
        self, kind: type[ComputilityError], status: int, exit_code: int
    ) -> None:
        row = mapping_of(kind("it went wrong"))
        assert (row.http_status, row.exit_code) == (status, exit_code)

    def test_an_unknown_error_is_an_internal_one(self) -> None:
        assert mapping_of(KeyError("x")).http_status == 500
        assert mapping_of(KeyError("x")).code == "internal_error"

    def test_the_body_that_openai_clients_read(self) -> None:
        error = InvalidInput("two lines are wrong", param="file", problems=(Problem("line 3", "not JSON"),))
        assert openai_body(error) == {
            "error": {
                "message": "two lines are wrong",
                "type": "invalid_request_error",
                "param": "file",
                "code": "invalid_value",
                "problems": [{"path": "line 3", "message": "not JSON", "code": "invalid"}],
            }
        }
        assert openai_body(ContextExceeded("too long"))["error"] == {
            "message": "too long",
            "type": "invalid_request_error",
            "param": None,
            "code": "context_length_exceeded",
        }

    def test_a_code_of_its_own_is_kept(self) -> None:
        assert NotFound("no such model", code="model_not_found").code == "model_not_found"
        assert str(NotFound("no such model")) == "no such model"
