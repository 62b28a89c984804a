"""How far a long run is: a bar on a terminal, a line every so often in a log."""

import sys
import time
from collections import deque
from typing import Self, TextIO

from tqdm import tqdm

STAGES = ("read", "decode", "forward", "write")  # of extraction, in the order of the data
_BAR_EVERY_S = 0.5
_LINE_EVERY_S = 30.0
_RECENT_S = 20.0


class Progress:
    """Counts what is finished and shows rate, time left and failures; a `with` block closes it.

    total: things to do, None where not known yet. note: what else the line says.
    """

    def __init__(
        self, total: int | None, unit: str = "images", stream: TextIO | None = None
    ) -> None:
        self.total, self.unit = total, unit
        self.done = 0.0
        self.failed = 0
        self.note = ""
        self._stream = stream or sys.stderr
        self._on_terminal = self._stream.isatty()
        self._start = self._shown = time.monotonic()
        self._recent = deque([(self._start, 0.0)])
        self._bar = tqdm(
            total=total,
            file=self._stream,
            bar_format="[{bar:20}] {desc}" if total else "{desc}",
            dynamic_ncols=True,
            mininterval=_BAR_EVERY_S,
            disable=not self._on_terminal,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self, count: float, failed: int = 0) -> None:
        """Count `count` more things as finished, `failed` of them in vain."""
        self.done += count
        self.failed += failed
        self.show()

    def show(self, instead: str = "") -> None:
        """Show the state, or what is said instead, if it is time to; call it often."""
        now = time.monotonic()
        if now - self._shown >= (_BAR_EVERY_S if self._on_terminal else _LINE_EVERY_S):
            self._write(instead or self.line(now))
            self._shown = now

    def close(self) -> None:
        """Show the final state."""
        if self._on_terminal or self.done:
            self._write(self.line(time.monotonic()))
        self._bar.close()

    def line(self, now: float) -> str:
        """The state at a time of the monotonic clock, as one line."""
        self._recent.append((now, self.done))
        # What stays reaches back at least _RECENT_S: things that end together are no rate.
        while now - self._recent[1][0] >= _RECENT_S:
            self._recent.popleft()
        then, before = self._recent[0]
        current = (self.done - before) / max(now - then, 1e-9)
        overall = self.done / max(now - self._start, 1e-9)
        of = "" if self.total is None else f"/{self.total:,}"
        parts = [f"{self.done:,.0f}{of} {self.unit}"]
        parts.append(f"{current:,.0f}/s now, {overall:,.0f}/s overall")
        if self.total is not None:
            rest = max(0.0, self.total - self.done)
            left = tqdm.format_interval(rest / overall) if self.done else "?"
            parts.append(f"{left} left")
        parts += [f"{self.failed:,} failed"] * bool(self.failed)
        return ", ".join(parts) + (f"; {self.note}" if self.note else "")

    def _write(self, text: str) -> None:
        if self._on_terminal:
            self._bar.n = min(self.done, self.total or self.done)
            self._bar.set_description_str(text)
        else:
            self._stream.write(f"{text}\n")
            self._stream.flush()
