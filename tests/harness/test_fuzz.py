"""Valid inputs with some bytes changed: an answer or an error of the project, of every reader."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.fuzz_targets import TARGETS, read_input


def changed(content: bytes, changes: list[tuple[str, float, int, bytes]]) -> bytes:
    """An input after some changes; each place is a share of its length."""
    for kind, share, count, inserted in changes:
        place = int(share * len(content))
        before, part, rest = content[:place], content[place : place + count], content[place:]
        content = {
            "flip": before + bytes(byte ^ 1 << count % 8 for byte in part) + rest,
            "cut": before + rest,
            "end": before,
            "insert": before + inserted + rest,
            "repeat": before + part * count + rest,
        }[kind]
    return content


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "end", "insert", "repeat"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 64),
        st.binary(max_size=8),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("target", TARGETS)
@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_changed_input_is_read_or_refused(target: str, data: st.DataObject) -> None:
    content = changed(data.draw(st.sampled_from(TARGETS[target][1])), data.draw(CHANGES))
    with tempfile.TemporaryDirectory() as directory:
        read_input(target, content, Path(directory))
