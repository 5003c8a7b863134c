"""Several processes that learn one concept together, each on its own device, as ``accelerate launch`` starts them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import get_int_from_env, reduce
from torch import Tensor, nn

from d2plan.errors import InputError

# What torchrun and the kinds of MPI say.
_COUNTS = ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"]
_RANKS = ["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK"]


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0; number 0 writes the files.
        count: how many there are.
        device: what this one computes on, such as "cuda:1".
    """

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks to people."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Average over all processes; each must call this, and gets the same.

        Args:
            values: any shape, the same everywhere.

        Returns:
            The mean, the same shape.
        """
        return values if self.count == 1 else reduce(values, reduction="mean")

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.count > 1:
            PartialState().wait_for_everyone()

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the mean gradient of all, in one exchange.

        Args:
            parameters: the same ones in the same order everywhere; those without a gradient are left out.
        """
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        whole = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, whole.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def open_processes(device: str) -> Processes:
    """Find out whether this process was started together with others, and join them.

    Args:
        device: what the person asked for; "cpu" keeps every process there, "cuda" gives each its own.

    Returns:
        This process; alone where nobody started several.

    Raises:
        InputError: it is no device, or one of several is named though there are several processes, or accelerate was
            asked for several and started one.
    """
    if get_int_from_env(_COUNTS, 1) <= 1:
        if "MASTER_PORT" in os.environ and "ACCELERATE_MIXED_PRECISION" in os.environ:
            # Without MPI, `accelerate launch --cpu --num_processes 2` starts one process and says nothing.
            raise InputError(
                "accelerate started one process of several; say accelerate launch --multi_gpu, on CPUs too."
            )
        return Processes(device=device)
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise InputError(f'device: "{device}" is none; say cpu or cuda.') from error
    if kind.index is not None:
        raise InputError(f'device: "{device}" is one, but several processes were started; say {kind.type}.')
    state = PartialState(cpu=kind.type == "cpu")
    return Processes(state.process_index, state.num_processes, str(state.device))


def leads() -> bool:
    """Tell whether this process talks to people, without joining the others."""
    return get_int_from_env(_RANKS, 0) == 0
