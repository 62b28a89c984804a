"""A network rewritten for inference in PyTorch: batch norm folded, bfloat16.

The rewriting works on the network's traced ATen graph, so that it holds for any network: what it
does not know stays as it is, and no worker waits for a compiler.
"""

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.fusion import fuse_conv_bn_weights

aten = torch.ops.aten


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is in the hardware (AVX512-BF16 or AMX; Ampere and later)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@torch.no_grad()
def accelerate(network: nn.Module, example: torch.Tensor, bfloat16: bool) -> fx.GraphModule:
    """The network for inputs of the shape, device and layout of `example` (float32).

    Computes in bfloat16 or float32, and gives its output in that type.
    """
    network = network.to(example.device).to(memory_format=torch.channels_last)
    graph = make_fx(torch.func.functionalize(lambda images: network(images)))(example)
    graph.graph.eliminate_dead_code()
    _fold_batch_norm(graph)
    if bfloat16:
        _to_bfloat16(graph)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _fold_batch_norm(graph: fx.GraphModule) -> None:
    """Scale each convolution's weights by the batch norm that follows; its shift is their bias."""
    for norm in list(graph.graph.nodes):
        if norm.target not in (aten.native_batch_norm.default, aten.cudnn_batch_norm.default):
            continue
        convolution = norm.args[0]
        if convolution.target is not aten.convolution.default or len(convolution.users) > 1:
            continue
        if convolution.args[6]:  # transposed
            continue
        weight, bias = (_constant(graph, node) for node in convolution.args[1:3])
        gamma, beta, mean, variance = (_constant(graph, node) for node in norm.args[1:5])
        folded, shift = fuse_conv_bn_weights(
            weight, bias, mean, variance, norm.args[7], gamma, beta
        )
        arguments = list(convolution.args)
        with graph.graph.inserting_before(convolution):
            arguments[1] = _new_constant(
                graph, folded.float().contiguous(memory_format=torch.channels_last)
            )
            arguments[2] = _new_constant(graph, shift.float())
        convolution.args = tuple(arguments)
        for output in list(norm.users):
            if output.target is operator.getitem and output.args[1] == 0:
                output.replace_all_uses_with(convolution)
    graph.graph.eliminate_dead_code()


def _to_bfloat16(graph: fx.GraphModule) -> None:
    for name, value in list(graph.named_parameters()) + list(graph.named_buffers()):
        if value.dtype == torch.float32:
            _set(graph, name, value.detach().bfloat16())


def _constant(graph: fx.GraphModule, node: fx.Node | None) -> Any:
    """The tensor that a node of the graph holds, in double precision; None for no node.

    Folding itself then changes nothing that float32 can show.
    """
    return None if node is None else getattr(graph, str(node.target)).detach().double()


def _new_constant(graph: fx.GraphModule, value: torch.Tensor) -> fx.Node:
    name = f"constant_{len(list(graph.buffers()))}"
    _set(graph, name, value)
    return graph.graph.get_attr(name)


def _set(graph: fx.GraphModule, name: str, value: torch.Tensor) -> None:
    if name in dict(graph.named_parameters()):
        delattr(graph, name)
    graph.register_buffer(name, value)
