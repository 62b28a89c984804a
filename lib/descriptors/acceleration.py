"""A network rewritten for inference: batch norm folded, convolutions fused, bfloat16.

The rewriting works on the network's traced ATen graph, so that it holds for any network: what it
does not know stays as it is. oneDNN's fused convolutions are those that PyTorch's own compiler
emits; used directly they cost no compilation, which takes 20 s in every worker.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
Forward = Callable[[torch.Tensor], torch.Tensor]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is in the hardware (AVX512-BF16 or AMX; Ampere and later)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def tolerates_bfloat16(network: nn.Module) -> bool:
    """Whether descriptors keep a cosine of 0.999 to float32's when computed in bfloat16.

    Depthwise convolutions do not: they sum few products, so that the errors of their weights do
    not average out (efficientnet_lite0 falls to 0.987 on photographs).
    """
    return not any(
        isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
        for layer in network.modules()
    )


@torch.no_grad()
def accelerate(network: nn.Module, example: torch.Tensor, bfloat16: bool) -> Forward:
    """The network for inputs of exactly the shape, device and layout of `example` (float32).

    Computes in bfloat16 or float32, and gives its output in that type.
    """
    network = network.to(example.device).to(memory_format=torch.channels_last)
    graph = make_fx(torch.func.functionalize(lambda images: network(images)))(example)
    graph.graph.eliminate_dead_code()
    _fold_batch_norm(graph)
    on_cpu = example.device.type == "cpu"
    if bfloat16:
        _to_bfloat16(graph)
        example = example.bfloat16()
        if on_cpu and torch.backends.mkldnn.is_available():
            _fuse_convolutions(graph, example)
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
        # In double precision, so that folding itself changes nothing that float32 can show.
        weight = _constant(graph, convolution.args[1]).double()
        bias = _constant(graph, convolution.args[2])
        gamma, beta, mean, variance = (_constant(graph, arg) for arg in norm.args[1:5])
        scale = torch.rsqrt(variance.double() + norm.args[7])
        scale = scale if gamma is None else scale * gamma.double()
        shift = -mean.double() * scale if bias is None else (bias.double() - mean.double()) * scale
        shift = shift if beta is None else shift + beta.double()
        folded = (weight * scale.view(-1, 1, 1, 1)).float()
        arguments = list(convolution.args)
        with graph.graph.inserting_before(convolution):
            arguments[1] = _new_constant(
                graph, folded.contiguous(memory_format=torch.channels_last)
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


def _fuse_convolutions(graph: fx.GraphModule, example: torch.Tensor) -> None:
    """Let oneDNN add a residual and apply the activation while a convolution's result is hot."""
    shapes = _input_shapes(graph, example)
    order = {node: index for index, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        if node.target is not aten.convolution.default or node.args[6] or node not in shapes:
            continue
        last, other = _residual(node, order)
        activation, scalars, last = _activation(last)
        source, weight, bias, stride, padding, dilation, _, _, groups = node.args
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            _constant(graph, weight), padding, stride, dilation, groups, list(shapes[node])
        )
        arguments: tuple[Any, ...]
        with graph.graph.inserting_before(last):
            packed_node = _new_constant(graph, packed)
            settings = (padding, stride, dilation, groups)
            if other is None:
                operation = torch.ops.mkldnn._convolution_pointwise.default
                arguments = (source, packed_node, bias, *settings, activation, scalars, "")
            else:
                operation = torch.ops.mkldnn._convolution_pointwise.binary
                unary = activation if activation != "none" else None
                arguments = (
                    *(source, other, packed_node, bias, *settings),
                    *("add", 1.0, unary, scalars, ""),
                )
            fused = graph.graph.call_function(operation, arguments)
        order[fused] = order[last]
        last.replace_all_uses_with(fused)
    graph.graph.eliminate_dead_code()


def _residual(node: fx.Node, order: dict[fx.Node, int]) -> tuple[fx.Node, fx.Node | None]:
    """The addition that follows a convolution and what it adds, if it can be fused."""
    following = next(iter(node.users))
    if len(node.users) != 1 or following.target is not aten.add.Tensor or following.kwargs:
        return node, None
    others = [argument for argument in following.args if argument is not node]
    if len(others) != 1 or not isinstance(others[0], fx.Node):
        return node, None
    # Of two convolutions that are added the later one takes the sum.
    fusable = order[others[0]] < order[node] and others[0].op == "call_function"
    return (following, others[0]) if fusable else (node, None)


def _activation(node: fx.Node) -> tuple[str, list[float], fx.Node]:
    """oneDNN's name and values of the activation that follows a node, and the last node."""
    following = next(iter(node.users))
    if len(node.users) == 1:
        if following.target is aten.relu.default:
            return "relu", [], following
        if following.target is aten.hardtanh.default and len(following.args) == 3:
            return "hardtanh", [float(str(value)) for value in following.args[1:]], following
    return "none", [], node


def _input_shapes(graph: fx.GraphModule, example: torch.Tensor) -> dict[fx.Node, torch.Size]:
    shapes: dict[fx.Node, torch.Size] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            if n.target is aten.convolution.default:
                shapes[n] = self.fetch_args_kwargs_from_env(n)[0][0].shape
            return super().run_node(n)

    Recorder(graph).run(example)
    return shapes


def _constant(graph: fx.GraphModule, node: fx.Node | None) -> Any:
    """The tensor that a node of the graph holds; None for no node."""
    return None if node is None else getattr(graph, str(node.target)).detach()


def _new_constant(graph: fx.GraphModule, value: torch.Tensor) -> fx.Node:
    name = f"constant_{len(list(graph.buffers()))}"
    _set(graph, name, value)
    return graph.graph.get_attr(name)


def _set(graph: fx.GraphModule, name: str, value: torch.Tensor) -> None:
    if name in dict(graph.named_parameters()):
        delattr(graph, name)
    graph.register_buffer(name, value)
