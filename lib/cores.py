"""The cores of this machine that are this process's."""

import os
from functools import cache
from pathlib import Path


@cache
def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use: those it is bound to, at most its container's quota.

    `os.cpu_count()` counts the machine's, whatever a container may use of them.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min(bound or 1, _quota(cgroup))))


def _quota(cgroup: Path) -> float:
    """Cores' worth of time by version 2 of cgroups, else by version 1; infinite without a limit."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            limit, period = " ".join((cgroup / file).read_text() for file in files).split()
            if float(limit) > 0:
                return float(limit) / float(period)
        except (OSError, ValueError):  # not there, or "max"
            continue
    return float("inf")
