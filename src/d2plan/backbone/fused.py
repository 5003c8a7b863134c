"""Fused attention together with the logarithm of each pixel's softmax sum, from which single columns follow.

torch's public call gives the output alone. Its kernels know the sums too, but hand them out by private names only;
those names are used here and nowhere else, and where they are missing or refuse the caller computes what it needs.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend

Kernel = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def attend_with_sums(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor | None]:
    """Run attention in the kernel that torch would choose, and ask it for its sums.

    Args:
        query: ``[b, heads, q, d]``.
        key: ``[b, heads, n, d]``.
        value: ``[b, heads, n, d]``.

    Returns:
        The output ``[b, heads, q, d]``, bit for bit that of ``scaled_dot_product_attention``, and log sum exp of the
        scaled scores, ``[b, heads, q]`` float32; None for it where no kernel tells, as always with gradient.
    """
    kernel = None if _needs_gradient(query, key, value) else _find_kernel(query, key, value)
    if kernel is not None:
        try:
            output, sums = kernel(query, key, value)
            sums = sums.reshape(*query.shape[:2], -1)[..., : query.shape[2]]
            if output.shape == query.shape and sums.shape == query.shape[:3]:
                return output, sums.float()
        except (RuntimeError, TypeError):
            # A kernel of another version of torch, or one that does not take these sizes: the public call does.
            pass
    return functional.scaled_dot_product_attention(query, key, value), None


def _needs_gradient(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _find_kernel(query: Tensor, key: Tensor, value: Tensor) -> Kernel | None:
    choose = getattr(torch, "_fused_sdp_choice", None)
    if choose is None:
        return None
    try:
        backend = choose(query, key, value)
    except (RuntimeError, TypeError):
        return None
    if query.device.type == "cpu":
        return _on_cpu if backend == SDPBackend.FLASH_ATTENTION.value else None
    if query.device.type != "cuda":
        return None
    return {
        SDPBackend.FLASH_ATTENTION.value: _flash if query.shape[-1] % 8 == 0 else None,
        SDPBackend.EFFICIENT_ATTENTION.value: _efficient,
        SDPBackend.CUDNN_ATTENTION.value: _cudnn,
    }.get(backend)


def _on_cpu(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return _call_private("_scaled_dot_product_flash_attention_for_cpu", query, key, value)


def _flash(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return _call_private("_scaled_dot_product_flash_attention", query, key, value)


def _efficient(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return _call_private("_scaled_dot_product_efficient_attention", query, key, value, None, True)


def _cudnn(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return _call_private("_scaled_dot_product_cudnn_attention", query, key, value, None, True)


def _call_private(name: str, *arguments: object) -> tuple[Tensor, Tensor]:
    kernel = getattr(torch.ops.aten, name, None)
    if kernel is None:
        raise RuntimeError(f"this torch has no {name}")
    output, sums, *_ = kernel(*arguments)
    return output, sums
