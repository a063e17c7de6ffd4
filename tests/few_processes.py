"""A script of which several processes are one run: `train` steps of every model, or `command`, paper/vae_paper.py.

torchrun can start it. `fork` does for it what torchrun does, a hundred times as fast where everything is imported once:
the processes share a store, are told who they are by their environment, and end together; after a death they are
started again where that is allowed.

    python few_processes.py fork COUNT RESTARTS train OUT few MODEL ... then fork COUNT RESTARTS ...
    python few_processes.py fork COUNT RESTARTS command SIGKILL STEP --out RUN ...
"""

import importlib
import os
import signal
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

import vae_paper
from vae_common import data as data_module
from vae_common.config import RunConfig
from vae_common.data import ImageSet, load_dataset
from vae_common.randomness import batches
from vae_measures.held_out import measure
from vae_training import processes, trainer
from vae_training.factory import build_model, build_prior
from vae_training.trainer import RunState, train_step

MODELS = {
    "vae": dict(latent_dim=3),
    "annealed": dict(beta=4.0, anneal="linear"),
    "free bits": dict(latent_dim=6, free_bits=0.097),  # in the second batch of `few`, two shares' means of a
    "capacity": dict(latent_dim=3, capacity=1.336, anneal_epochs=0.01),  # kl lie on either side
    "iwae": dict(latent_dim=3, importance_samples=3),
    "many samples": dict(latent_dim=3, mc_samples=2),
    "mixture": dict(prior="mixture", latent_dim=3, free_nats=1.0),
    "iwae, flow": dict(prior="flow", latent_dim=3, importance_samples=2),
    "mlp": dict(architecture="mlp"),
    "linear": dict(architecture="linear", likelihood="gaussian"),
    "cvae": dict(model="cvae"),
    "ae": dict(model="ae"),
    "vqvae": dict(model="vqvae", codes=16),
    "vqvae by gradient": dict(model="vqvae", codes=16, codebook="gradient"),
    "prior of codes": dict(model="vqvae", codes=16),
}

# --- steps of every model -----------------------------------------------------------------------------------------


def noise_images(count: int) -> ImageSet:
    """Images without two patches alike: of codes that are twins, as empty paper makes them, rounding chooses one."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8), rng.integers(0, 10, count)
    return ImageSet("digits", "train", images, labels, tuple("0123456789"))


def few() -> dict:
    """Batches of 5, 5 and 1."""
    return dict(data=noise_images(11), batch_size=5, dtype=torch.float64, steps=3)


def many() -> dict:
    return dict(data=load_dataset("digits", "train"), batch_size=500, dtype=torch.float32, steps=24)


def take_steps(
    name: str, data: ImageSet, batch_size: int, dtype: torch.dtype, steps: int, compiled=False, device="cpu"
) -> dict:
    """Train a model for some steps: the terms and gradients of each, the state at the end, what is measured then."""
    config = RunConfig(**MODELS[name], binarize="dynamic", batch_size=batch_size).settled()
    model = build_model(config, len(data)).to(device, dtype)
    if name == "prior of codes":
        model = build_prior(config, model).to(device, dtype)
    model.train()
    config = replace(config, compile=compiled)
    state, kept = RunState.start(model, config), {"terms": [], "gradients": []}
    for index in list(batches(len(data), batch_size, config.seed, 1))[:steps]:
        kept["terms"].append(train_step(state, data, index, config, steps))
        gradients = {key: value.grad.cpu().clone() for key, value in model.named_parameters() if value.grad is not None}
        kept["gradients"].append(gradients)
    row = measure(model, data, config.binarize, config.seed, batch_size=4).row(1, 0.0)
    measured = {key: value for key, value in row.items() if isinstance(value, int | float)}
    return {**kept, "state": {key: value.cpu() for key, value in model.state_dict().items()}, "measured": measured}


def train(out: str, what: str, *names: str) -> int:
    """`take_steps` of models in this process, saved as out/RANK.pt."""
    with processes.joined():
        given = {"few": few, "many": many}[what]()
        torch.save({name: take_steps(name, **given) for name in names}, Path(out) / f"{processes.rank()}.pt")
    return 0


# --- the command --------------------------------------------------------------------------------------------------


def command(what: str, step: str, *argv: str) -> int:
    """vae_paper.main on 150 images; in the first attempt, process 1 sends itself that signal after that many steps."""
    digits, parts = load_dataset("digits", "test"), {"train": slice(0, 150), "test": slice(150, 200)}
    original = trainer.train_step

    def train_step(state, *args):
        values = original(state, *args)
        if processes.rank() == 1 and state.step == int(step) and not processes.launch()[1]:
            os.kill(os.getppid() if what == "SIGINT" else os.getpid(), signal.Signals[what])
            time.sleep(what == "SIGINT")  # Ctrl-C is for torchrun, which passes it on
        return values

    data_module._load_drawn = lambda name, split, folder: (digits.factors[parts[split]], digits.images[parts[split]])
    importlib.import_module("vae_commands.train_run").draw_run = lambda *args: None
    trainer.train_step = train_step
    if what == "SIGSTOP":
        processes.TIMEOUT = timedelta(seconds=20)  # those that die are missed at once
    return vae_paper.main(list(argv))


# --- what torchrun does -------------------------------------------------------------------------------------------


def fork(count: str, restarts: str, *argv: str) -> int:
    importlib.import_module("torch._dynamo")  # else each process does, for its Adam
    if argv[0] == "command":
        importlib.import_module("vae_commands.train_run")
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count,
        "TORCHELASTIC_RUN_ID": "a launch", "TORCHELASTIC_USE_AGENT_STORE": True,
    }  # fmt: skip
    for attempt in range(int(restarts) + 1):
        own = [{"RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_RESTART_COUNT": attempt} for rank in range(int(count))]
        if all_succeed([start({**shared, **one}, argv) for one in own]):
            return 0
    return 1


def start(environment: dict, argv: tuple[str, ...]) -> int:
    """The number of a new process that is this script with those arguments."""
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number
    os.environ.update({name: str(value) for name, value in environment.items()})
    status = 1
    try:
        status = run(*argv)
    except SystemExit as stop:
        status = stop.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def all_succeed(running: list[int]) -> bool:
    """Wait for all of them; when one fails, the others are told to end."""
    failed = False
    while running:
        number, status = os.wait()
        running.remove(number)
        if status and not failed:
            failed = True
            for one in running:
                os.kill(one, signal.SIGTERM)
    return not failed


def run(what: str, *argv: str) -> int:
    return {"train": train, "command": command, "fork": fork}[what](*argv)


if __name__ == "__main__":
    words = [*sys.argv[1:], "then"]
    first, others = words[: words.index("then")], words[words.index("then") + 1 : -1]
    sys.exit(run(*first) or (run(*others) if others else 0))
