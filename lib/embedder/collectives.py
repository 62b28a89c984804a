"""Sums and gathers over the workers of a training run; with one worker, each is the identity."""

import torch
import torch.distributed as dist


def world() -> tuple[int, int]:
    """Rank of this worker and the number of workers."""
    if not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def sum_over_workers(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all workers, in place."""
    if world()[1] > 1:
        dist.all_reduce(tensor)
    return tensor


def least_over_workers(number: int, device: torch.device) -> int:
    """The least of the workers' numbers."""
    tensor = torch.tensor(number, device=device)
    if world()[1] > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
    return int(tensor)


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """All workers' rows, in the order of their ranks; every worker gives the same number."""
    size = world()[1]
    if size == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(size)]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
