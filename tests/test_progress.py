"""What a long run says of itself, on a terminal and in a log."""

import io
import time

from lib.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_with_rate_failures_and_a_note() -> None:
    stream = io.StringIO()
    with Progress(100, stream=stream) as progress:
        progress.note = "1 shards; forward 75%"
        progress.advance(42, failed=2)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("42/100 images, ")
    assert line.endswith(" left, 2 failed; 1 shards; forward 75%")


def test_a_terminal_gets_a_line_that_fits(monkeypatch: object) -> None:
    stream = Terminal()
    with Progress(1_000_000, "queries", stream) as progress:
        progress._bar.dynamic_ncols = lambda _: (60, 20)  # what a terminal of 60 columns reports
        progress.note = "read 1% decode 2% forward 90% write 7% " * 3
        progress.advance(500_000)
    shown = [part for part in stream.getvalue().replace("\n", "\r").split("\r") if part.strip()]
    assert "500,000/1,000,000 queries" in shown[-1]
    assert "##########" in shown[-1] or "█" in shown[-1]
    assert max(map(len, shown)) <= 60


def test_the_rate_of_now_is_that_of_the_last_twenty_seconds() -> None:
    progress = Progress(3_000, stream=io.StringIO())
    start = time.monotonic()
    progress.advance(200)
    assert "7/s now" in progress.line(start + 30)
    progress.advance(1_000)
    assert "39/s now, 39/s overall" in progress.line(start + 30.6)
    progress.advance(200)
    assert "60/s now, 28/s overall" in progress.line(start + 50.1)


def test_without_a_total_only_what_is_done_is_told() -> None:
    stream = io.StringIO()
    with Progress(None, "MB", stream) as progress:
        progress.advance(1_234.4)
    assert stream.getvalue().startswith("1,234 MB, ")


def test_more_than_was_expected_leaves_no_negative_time() -> None:
    stream = io.StringIO()
    with Progress(0, "MB", stream) as progress:  # an archive of less than half a megabyte
        time.sleep(0.02)
        progress.advance(0.4)
    assert ", 00:00 left" in stream.getvalue()
