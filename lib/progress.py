"""How far a long run is: a bar on a terminal, a line every so often in a log."""

import sys
import time
from collections import deque
from typing import TextIO

STAGES = ("read", "decode", "forward", "write")  # of extraction, in the order of the data
_BAR_EVERY_S = 0.5
_LINE_EVERY_S = 30.0
_RECENT_S = 20.0
_BAR_WIDTH = 20


class Progress:
    """Counts what is finished and shows rate, time left, failures and each stage's share."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self.shards = 0
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._stream = stream or sys.stderr
        self._bar = self._stream.isatty()
        self._start = self._shown = time.monotonic()
        self._recent = deque([(self._start, 0)])

    def shard_done(self, described: int, failed: int, seconds: dict[str, float]) -> None:
        """Count a finished shard."""
        self.done += described + failed
        self.failed += failed
        self.shards += 1
        for stage, spent in seconds.items():
            self.seconds[stage] += spent

    def show(self) -> None:
        """Show the state if it is time to; call it often."""
        now = time.monotonic()
        if now - self._shown >= (_BAR_EVERY_S if self._bar else _LINE_EVERY_S):
            self._write(now)

    def close(self) -> None:
        """Show the final state."""
        if self._bar or self.done:
            self._write(time.monotonic())
        if self._bar:
            self._stream.write("\n")

    def line(self, now: float) -> str:
        """The state at a time of the monotonic clock, as one line."""
        self._recent.append((now, self.done))
        # What stays reaches back at least _RECENT_S: shards that end together are no rate.
        while now - self._recent[1][0] >= _RECENT_S:
            self._recent.popleft()
        then, before = self._recent[0]
        current = (self.done - before) / max(now - then, 1e-9)
        overall = self.done / max(now - self._start, 1e-9)
        left = _duration((self.total - self.done) / overall) if self.done else "?"
        busy = sum(self.seconds.values()) or 1.0
        shares = " ".join(f"{stage} {self.seconds[stage] / busy:.0%}" for stage in STAGES)
        return (
            f"{self.done:,}/{self.total:,} images, {current:.0f}/s now, {overall:.0f}/s overall, "
            f"{left} left, {self.failed:,} failed, {self.shards:,} shards; {shares}"
        )

    def _write(self, now: float) -> None:
        self._shown = now
        text = self.line(now)
        if self._bar:
            filled = _BAR_WIDTH * self.done // max(self.total, 1)
            self._stream.write(f"\r\033[K[{'#' * filled:{_BAR_WIDTH}}] {text}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
