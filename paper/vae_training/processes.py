"""Several processes that are one run: the same numbers as one process, computed in parts.

`torchrun --standalone --nproc-per-node 4 COMMAND ...` starts the command four times. Each process draws the whole
batch, its order and its noise, from the seed, as one process would; it computes its share of it; sums over the
processes give what one process would have had, up to rounding. In a single process every function here does nothing, or
does its work alone.

What is collective must be called by all processes, in the same order; one that is missing keeps the others waiting.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vae_common.errors import UsageError, UserError

T = TypeVar("T")
TOLD_IN_ONE_LINE = (UserError, OSError, KeyboardInterrupt)  # by cli.run
TIMEOUT = timedelta(minutes=10)  # longer than one process ever works while the others wait, as for a download
LOST = (
    "a process of this run died, no longer answers or was told to end; --resume RUN goes on from the last checkpoint, "
    "with any number of processes."
)

# --- joining ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Within this block the processes that torchrun started are one group; a command started alone joins nothing.

    Only the writer prints; the process that first meets an error reports it, and the others end silently.
    One that dies, or keeps the others waiting for TIMEOUT, ends them all.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    store, rank, world = next(dist.rendezvous("env://", timeout=TIMEOUT))
    store = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)  # it outlives a restart
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
    signal.signal(signal.SIGTERM, _end)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
            if not is_writer():
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        told = _told_once(error, store)
        if told is error:
            raise
        raise told from error
    dist.destroy_process_group()


def _end(number, frame):
    """torchrun sends SIGTERM to those that are left when a process has died."""
    raise UsageError(LOST)


def _told_once(error: BaseException, store: dist.Store) -> BaseException:
    """What this process ends with: of all that fail together, only the first to come here gives a reason."""
    try:
        first = store.add("told", 1) == 1
    except RuntimeError:  # the store is gone too
        first = True
    if isinstance(error, RuntimeError) and _is_loss(error):
        error = UsageError(LOST)
    if first or not isinstance(error, TOLD_IN_ONE_LINE):
        return error
    return SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2)


def _is_loss(error: RuntimeError) -> bool:
    """Whether this is what gloo and nccl say of a process that is gone, or of one that let them wait too long."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        word in text for word in ("gloo", "nccl", "connection", "timed out")
    )


def own_device(device: torch.device) -> torch.device:
    """The device of this process, on CUDA a GPU of its own. Raises UsageError for one that cannot be shared."""
    if count() == 1 or device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise UsageError(f"--device {device}: {count()} processes cannot share it; use --device cuda or cpu.")
    here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if here > gpus:
        raise UsageError(f"torchrun started {here} processes here and torch finds {gpus} GPU(s); start one for each.")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return torch.device("cuda", torch.cuda.current_device())


def launch() -> tuple[str | None, bool]:
    """The name that torchrun gave this launch (--rdzv-id; --standalone makes one up), None without torchrun; and
    whether it started the processes again (--max-restarts) after one of them had died."""
    if not dist.is_torchelastic_launched():
        return None, False
    return os.environ["TORCHELASTIC_RUN_ID"], int(os.environ["TORCHELASTIC_RESTART_COUNT"]) > 0


# --- who computes what --------------------------------------------------------------------------------------------


def count() -> int:
    """How many processes this run has; 1 unless `joined`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, 0 .. count() - 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_writer() -> bool:
    """Whether this is the one process that writes files and prints."""
    return rank() == 0


def share(items: int) -> slice:
    """The part of range(items) that is this process's: in the order of the ranks, with lengths that differ by at most
    one; empty for some where there are more processes than items. Not collective."""
    return slice(rank() * items // count(), (rank() + 1) * items // count())


# --- what passes between them; all collective ---------------------------------------------------------------------


def barrier() -> None:
    """Wait until all processes are here."""
    if count() > 1:
        dist.barrier()


def total(values: np.typing.ArrayLike) -> np.ndarray:
    """The sum over the processes of an array that has the same shape in each; float64."""
    values = np.array(values, dtype=np.float64)
    if count() > 1:
        dist.all_reduce(torch.from_numpy(values))  # in place
    return values


def mean(terms: dict[str, float]) -> dict[str, float]:
    """The mean over the processes of each of these numbers."""
    if count() == 1:
        return terms
    return dict(zip(terms, (total(list(terms.values())) / count()).tolist(), strict=True))


def anywhere(flag: bool) -> bool:
    """Whether the flag is true in any process."""
    return flag if count() == 1 else bool(total(flag) > 0)


def gather(parts: list[T]) -> list[T]:
    """The lists of all processes one after the other, in the order of the ranks; each may have its own length."""
    if count() == 1:
        return parts
    lists = [None] * count()
    dist.all_gather_object(lists, parts)
    return [part for one in lists for part in one]


def from_writer(make: Callable[[], T]) -> T:
    """What make() returns, or raises, in the writer; the others do not call it."""
    if count() == 1:
        return make()
    made = [None, None]
    if is_writer():
        try:
            made[0] = make()
        except Exception as error:
            made[1] = error
    dist.broadcast_object_list(made, src=0)
    if made[1] is not None:
        raise made[1]
    return made[0]


def writer_first(make: Callable[[], T]) -> T:
    """make() in each process; the others start when the writer is done, and find the files that it has cached."""
    made = []
    from_writer(lambda: made.append(make()))
    return made[0] if made else make()


# --- one batch in several processes -------------------------------------------------------------------------------
#
# The loss of a batch is a mean over its images, so the gradient is the mean of theirs, and processes may compute parts
# of it. Two kinds of numbers are no mean over images: what is nonlinear in the mean (the floor of free bits, |kl - C|,
# a perplexity), and a state that the batch changes (running means). Those models are given `batch_mean`, `batch_rows`.

# Of the batch under way: this process's share, and how many images it has in all.
_batch: tuple[slice, int] | None = None


class SharedObjective(nn.Module):
    """model.objective of a whole batch, computed for this process's share: what DistributedDataParallel wraps.

    objective(x, y, eps, step), with the batch's B images, gives terms whose mean over the processes is the batch's
    term: each is the share's mean times (images of the share) count() / B. DistributedDataParallel takes the mean of
    the gradients, which is then the gradient of the batch. A process without a share computes an image of weight 0.
    """

    def __init__(self, model: nn.Module, objective: Callable[..., dict[str, Tensor]]):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x: Tensor, y: Tensor, eps: Tensor, step: int) -> dict[str, Tensor]:
        """The terms of this process's share of the batch x (B, 1, 28, 28), y (B,), eps (B, ...), scaled as above."""
        global _batch
        mine = share(len(x))
        length = mine.stop - mine.start
        some = mine if length else slice(0, 1)
        _batch = mine, len(x)
        try:
            terms = self.objective(x[some], y[some], eps[some], step)
        finally:
            _batch = None
        return {name: term.double() * (length * count() / len(x)) for name, term in terms.items()}


def shared(model: nn.Module, objective: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """`objective` itself, or with several processes one that shares each batch and sums its gradients."""
    if count() == 1:
        return objective
    # Every step has the same graph: it need not be searched for weights without a gradient (an autoencoder's logvar).
    return DistributedDataParallel(SharedObjective(model, objective), static_graph=True)


class _Sum(torch.autograd.Function):
    """The sum over the processes. Each one's value enters the result of all, so gradients are summed likewise."""

    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        value = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _Sum.forward(ctx, grad)


def batch_mean(mean: Tensor) -> Tensor:
    """The mean of this process's share of the batch under way -> the mean of the whole batch, with its gradient."""
    if _batch is None:
        return mean
    mine, images = _batch
    return _Sum.apply(mean * ((mine.stop - mine.start) / images))


def batch_rows(rows: Tensor) -> Tensor:
    """One row (b, ...) for each image of this process's share -> the rows (B, ...) of the whole batch, in its order."""
    if _batch is None:
        return rows
    mine, images = _batch
    whole = rows.new_zeros(images, *rows.shape[1:])
    whole[mine] = rows[: mine.stop - mine.start]
    dist.all_reduce(whole)
    return whole
