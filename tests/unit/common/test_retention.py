"""What has been kept for long enough goes, the longest unused first, and nothing that may be in use."""

from pathlib import Path

from common.retention import DAY_MS, FRESH_MS, Kept, expired, look

NOW_MS = 100 * DAY_MS


def kept(*days_and_bytes: tuple[float, int]) -> list[Kept]:
    return [Kept(Path(f"{d:g}"), size, round(NOW_MS - d * DAY_MS)) for d, size in days_and_bytes]


def test_what_is_too_old_goes() -> None:
    found = kept((1, 10), (15, 10), (13, 10))
    assert expired(found, NOW_MS, 14, 0) == [Path("15")]
    assert expired(found, NOW_MS, 0, 0) == []


def test_the_longest_unused_goes_until_the_rest_fits() -> None:
    found = kept((1, 10), (3, 30), (2, 20))
    assert expired(found, NOW_MS, 14, 60) == []
    assert expired(found, NOW_MS, 14, 59) == [Path("3")]
    assert expired(found, NOW_MS, 14, 15) == [Path("3"), Path("2")]


def test_what_was_just_used_stays_however_little_may_be_kept() -> None:
    just_now = FRESH_MS / 2 / DAY_MS
    assert expired(kept((just_now, 1000), (2, 10)), NOW_MS, 1, 1) == [Path("2")]


def test_a_folder_is_as_new_and_as_large_as_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"12345")
    newest = max(path.lstat().st_mtime_ns for path in tmp_path.rglob("*")) // 1_000_000
    assert look(tmp_path) == Kept(tmp_path, 5, newest)
    assert look(tmp_path / "gone") is None
