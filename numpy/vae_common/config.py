"""Every setting of a run, declared once: its default, its bounds, its help, and which commands have it.

From a declaration come the flag of the command line (cli.py), the check of a config.json (run_folder.py), and the
attribute that functions are given. A setting added here is a flag, is saved with the run, and is checked when the run
is read again.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from vae_common.data import BINARIZE, CLASS_NAMES, DATASETS, ImageSet, load_dataset
from vae_common.errors import UsageError
from vae_common.spec import MAX_LATENT_DIM
from vae_common.weights import SHIPPED, trained_on

# --- kinds of values ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of value: how text becomes one, and whether a value, of a config.json for instance, is one of them."""

    convert: Callable[[str], Any]
    allows: Callable[[Any], bool]
    wanted: str
    choices: tuple[str, ...] | None = None

    def __call__(self, text: str) -> Any:
        """The value that `text` names; what argparse calls. Raises ArgumentTypeError when it is not allowed."""
        try:
            value = self.convert(text)
        except ValueError:
            value = None
        if not self.allows(value):
            raise argparse.ArgumentTypeError(f"expected {self.wanted}, got {text!r}")
        return value


def whole(low: int, high: int | None = None) -> Kind:
    """Integers from `low` to `high`."""
    wanted = f"an integer from {low} to {high}" if high is not None else f"an integer of at least {low}"
    return Kind(int, lambda value: type(value) is int and low <= value and (high is None or value <= high), wanted)


def number(low: float, high: float = math.inf, *, above: bool = False) -> Kind:
    """Finite numbers of at least `low`, or above it, and at most `high`."""
    wanted = f"a finite number {'above' if above else 'of at least'} {low:g}"
    wanted += f" and at most {high:g}" if high < math.inf else ""

    def allows(value: object) -> bool:
        finite = type(value) in (int, float) and abs(value) <= sys.float_info.max  # an int may be larger
        fits = finite and low <= value <= high
        return fits and not (above and value == low)

    return Kind(float, allows, wanted)


def widths(most: int, high: int, low: int = 1, example: str = "512,64") -> Kind:
    """One to `most` integers from `low` to `high` in a row, typed with commas between them."""
    each = whole(low, high)
    return Kind(
        lambda text: tuple(map(int, text.split(","))),
        lambda value: isinstance(value, tuple | list) and 1 <= len(value) <= most and all(map(each.allows, value)),
        f"at most {most} integers from {low} to {high} with commas between, such as {example}",
    )


def one_of(*choices: str) -> Kind:
    """One of these words."""
    return Kind(str, lambda value: isinstance(value, str) and value in choices, " or ".join(choices), choices)


TEXT = Kind(str, lambda value: isinstance(value, str), "text")
SWITCH = Kind(bool, lambda value: isinstance(value, bool), "true or false")

# --- settings -----------------------------------------------------------------------------------------------------

TRAINING = ("lowlevel", "paper", "quadrants", "rate_distortion")  # the commands that train
EVERY = ("numpy", *TRAINING)
LEVELS = ("numpy", "lowlevel", "paper")
PAPER = ("paper",)
RUNS = ("paper", "rate_distortion")  # whose runs are read again


def setting(default: Any, kind: Kind, commands: tuple[str, ...], help: str, metavar: str | None = None, **more) -> Any:
    """A field of RunConfig. more: `alias`, another name of the flag; `nargs`, for a list of values; `typed`, False for
    what has no flag; `new`, where earlier versions wrote no such key, and did what the default says."""
    declared = dict(default=default, kind=kind, commands=commands, help=help, metavar=metavar, **more)
    return field(default=default, metadata=declared)


@dataclass(frozen=True)
class RunConfig:
    """The settings of one run. What is None is not set, or follows from the others: see `settled`."""

    dataset: str | None = setting(
        None, one_of(*DATASETS), EVERY, "data set (default digits: drawn here, no download; or that of shipped weights)"
    )
    data_dir: str | None = setting(
        None, TEXT, EVERY, "where data lies or is put, or your folder (default: the user's cache folder)", "DIR"
    )
    invert: bool = setting(False, SWITCH, EVERY, "make dark light: for pictures that are dark on light", new=True)
    class_names: tuple[str, ...] = setting(
        (), TEXT, RUNS, "what the data calls its classes", nargs="*", new=True, typed=False
    )
    weights: str | None = setting(
        None, TEXT, LEVELS, f"a weights.safetensors to start from, or shipped weights: {', '.join(SHIPPED)}", "FILE"
    )
    latent_dim: int | None = setting(None, whole(1, MAX_LATENT_DIM), EVERY, "latent dimensions (default 20)", "Z")
    batch_size: int = setting(64, whole(1, 10**6), EVERY, "images per step (default 64)", "B")
    validation: int = setting(
        0, whole(0, 10**7), ("lowlevel", "paper"),
        "hold out the last N training images, to measure on after each epoch; the test split then waits for the end",
        "N", new=True,
    )  # fmt: skip
    epochs: int = setting(10, whole(1, 10**6), TRAINING, "passes over the images (default 10)", "N")
    lr: float = setting(2e-3, number(0, 1000, above=True), TRAINING, "peak learning rate (default 2e-3)")
    seed: int = setting(0, whole(0, 2**32 - 1), EVERY, "fixes weights, order and noise (default 0)")
    device: str = setting(
        "auto", TEXT, TRAINING, "cpu, cuda, cuda:1, mps, or auto: cuda where there is one (default auto)"
    )
    likelihood: str = setting(
        "bernoulli",
        one_of("bernoulli", "gaussian"),
        (*LEVELS, "rate_distortion"),
        "p(x|z) of a pixel (default bernoulli)",
    )
    binarize: str = setting(
        "none", one_of(*BINARIZE), EVERY, "none keeps grey pixels; threshold, dynamic make them 0 or 1"
    )
    out: str | None = setting(
        None, TEXT, EVERY, "run folder to write (default runs/<level>, an earlier one is moved aside)", "RUN"
    )
    overwrite: bool = setting(False, SWITCH, EVERY, "write into --out even if it holds an earlier run")
    model: str = setting("vae", one_of("vae", "ae", "cvae", "vqvae"), PAPER, "which model (default vae)")
    architecture: str = setting(
        "conv", one_of("conv", "wide", "mlp", "linear", "masked"), PAPER,
        "encoder and decoder (default conv; wide: a decoder of twice the width; masked: the decoder also sees the "
        "pixels before each one)", alias="trunk",
    )  # fmt: skip
    hidden: tuple[int, ...] = setting(
        (500, 500), widths(4, 2048), PAPER,
        "widths of the hidden layers of --architecture mlp, from the image on; its decoder has them in reverse "
        "(default 500,500)", "W,W", new=True,
    )  # fmt: skip
    activation: str = setting(
        "tanh", one_of("tanh", "relu"), PAPER, "after each hidden layer of --architecture mlp (default tanh)", new=True
    )
    beta: float | None = setting(None, number(0), PAPER, "weight of the KL (default 1, with --capacity 10)", "W")
    anneal: str = setting(
        "none", one_of("none", "linear", "sigmoid", "cyclical"), PAPER, "how beta rises from 0 (default none)"
    )
    anneal_epochs: float | None = setting(
        None, number(0, above=True), PAPER,
        "epochs of one ramp of beta or C (default half of --epochs; cyclical an eighth: four cycles)", "N",
    )  # fmt: skip
    free_bits: float = setting(0.0, number(0), PAPER, "nats per latent dimension that cost nothing", "F")
    free_nats: float = setting(0.0, number(0), PAPER, "nats of the whole KL that cost nothing", "N", new=True)
    capacity: float | None = setting(None, number(0), PAPER, "nats that the KL is drawn to; C rises to this", "C")
    tc_weight: float = setting(
        0.0, number(0), PAPER, "what the total correlation of z weighs on top of the KL (beta-TCVAE, FactorVAE)", "W",
        new=True,
    )  # fmt: skip
    tc_estimate: str = setting(
        "weighted", one_of("weighted", "stratified", "discriminator"), PAPER,
        "of the total correlation: from the densities of a batch (beta-TCVAE), or by a discriminator (FactorVAE)",
        new=True,
    )  # fmt: skip
    prior: str = setting(
        "normal", one_of("normal", "mixture", "vamp", "flow"), PAPER,
        "p(z): N(0, I), or learned: 500 Gaussians, the posteriors of 500 pseudo-inputs, a flow (default normal)",
        new=True,
    )  # fmt: skip
    importance_samples: int = setting(1, whole(1, 1000), PAPER, "train on L_K (IWAE)", "K")
    mc_samples: int = setting(1, whole(1, 1000), PAPER, "samples of z per image in the ELBO", "L")
    codes: int = setting(512, whole(2, 65536), PAPER, "size of the codebook (default 512)", "K")
    codebook: str = setting("ema", one_of("ema", "gradient"), PAPER, "how codes move: running means, or gradients")
    levels: tuple[int, ...] | None = setting(
        None, widths(4, 16, 2, "8,8,8"), PAPER,
        "instead of a codebook: round each of these dimensions to so many steps (FSQ), such as 8,8,8", "L,L", new=True,
    )  # fmt: skip
    code_gradient: str = setting(
        "straight", one_of("straight", "rotation"), PAPER,
        "how the gradient passes the codes: as it is, or rotated and scaled (default straight)", new=True,
    )  # fmt: skip
    prior_labels: bool = setting(False, SWITCH, PAPER, "give the codes' prior the label: ask for a 7", new=True)
    prior_epochs: int | None = setting(
        None, whole(1, 10**6), PAPER, "epochs of the codes' prior (default --epochs)", "N"
    )
    amp: bool = setting(False, SWITCH, PAPER, "train with bfloat16 autocast where the processor has it; it says if not")
    compile: bool = setting(
        False, SWITCH, PAPER, "fuse the objective with torch.compile, which takes a minute; for GPUs"
    )
    resume: str | None = setting(None, TEXT, PAPER, "go on with an interrupted run, exactly as it would have", "RUN")

    def __post_init__(self):
        if self.dataset is None:
            object.__setattr__(self, "dataset", trained_on(self.weights) or "digits")

    def settled(self) -> "RunConfig":
        """The same with what follows from other settings filled in."""
        beta = 1.0 if self.capacity is None else 10.0
        ramp = self.epochs / (8 if self.anneal == "cyclical" else 2)
        names = CLASS_NAMES.get(self.dataset, ())
        follows = dict(latent_dim=20, beta=beta, anneal_epochs=ramp, prior_epochs=self.epochs, class_names=names)
        return replace(self, **{name: value for name, value in follows.items() if getattr(self, name) in (None, ())})

    @property
    def plain_beta(self) -> float | None:
        """beta where recon + beta kl is minimised, be it annealed; None where it is anything else."""
        other = self.capacity is not None or self.free_bits or self.free_nats or self.tc_weight
        other = other or self.importance_samples > 1
        return None if other else self.beta

    def load(self, split: str, data_dir: str | None = None) -> ImageSet:
        """The split "train" or "test" of this run's data, from `data_dir` where that is given.

        Raises UsageError when its classes are not those that the run had, and what `load_dataset` raises.
        """
        data_dir = data_dir or self.data_dir
        data = load_dataset(self.dataset, split, data_dir, self.invert)
        if self.class_names and data.class_names != self.class_names:
            here, there = (", ".join(names)[:80] for names in (data.class_names, self.class_names))
            raise UsageError(
                f"{data_dir}: its classes ({here}) are not those of the run ({there}), so the data is not that of the "
                "run; see --data-dir."
            )
        return data

    @classmethod
    def settings(cls, command: str) -> dict[str, Any]:
        """The settings that `command` has, in the order of its --help: name -> what `setting` declared."""
        return {one.name: one.metadata for one in fields(cls) if command in one.metadata["commands"]}


def flag(name: str) -> str:
    """The flag of a setting: latent_dim -> --latent-dim."""
    return "--" + name.replace("_", "-")


# --- commands with settings of their own --------------------------------------------------------------------------

SWEEP, QUADRANTS = ("rate_distortion",), ("quadrants",)
BETAS = (0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


@dataclass(frozen=True)
class SweepConfig(RunConfig):
    """The settings of a sweep over beta."""

    epochs: int = setting(3, whole(1, 10**6), SWEEP, "passes for each beta (default 3)", "N")
    sweep: tuple[float, ...] = setting(
        (),
        number(0, above=True),
        SWEEP,
        f"train a model for each, in rising order (default {' '.join(f'{beta:g}' for beta in BETAS)})",
        "BETA",
        nargs="*",
    )
    first_epochs: int | None = setting(None, whole(1, 10**6), SWEEP, "passes for the first (default 3 x --epochs)", "N")
    samples: int = setting(2000, whole(2, 10**7), SWEEP, "codes for I(x; z) (default 2000)", "M")
    resume: str | None = setting(None, TEXT, SWEEP, "go on with an interrupted sweep, exactly as it would have", "RUN")


@dataclass(frozen=True)
class QuadrantConfig(RunConfig):
    """The settings of the prediction of missing quadrants."""

    quadrants: tuple[int, ...] = setting(
        (1, 2, 3), whole(1, 3), QUADRANTS, "how many are given (default 1 2 3)", "Q", nargs="+"
    )
    samples: int = setting(50, whole(1, 1000), QUADRANTS, "for L_K (default 50)", "K")
