"""Half of a batch in each of two processes, which import no more than this needs."""

import torch

from lib.embedder.losses import in_batch_loss


def gradient_of_two(rank: int, directory: str) -> None:
    """Write the gradient of a batch of which each of two workers has half."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{directory}/meeting", rank=rank, world_size=2
    )
    inputs, texts = batch()
    layer = torch.nn.Linear(6, 4, bias=False)
    torch.nn.init.constant_(layer.weight, 0.3)
    part = slice(rank * 4, rank * 4 + 4)
    in_batch_loss(layer(inputs[part]), texts[part]).backward()
    assert layer.weight.grad is not None
    torch.distributed.all_reduce(layer.weight.grad)
    if rank == 0:
        torch.save(layer.weight.grad, f"{directory}/gradient.pt")
    torch.distributed.destroy_process_group()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (8, 6) and unit texts (8, 4), float32."""
    generator = torch.Generator().manual_seed(0)
    inputs, texts = torch.randn(8, 6, generator=generator), torch.randn(8, 4, generator=generator)
    return inputs, torch.nn.functional.normalize(texts, dim=1)
