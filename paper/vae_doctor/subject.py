"""What the doctor examines: a VAE as functions, of a trained model or of somebody's own Python file."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vae_common.errors import UsageError
from vae_models.iwae import importance_bound


class SubjectError(UsageError):
    """A function of the subject raised, or answered with something else than was asked; one sentence."""


# --- what is examined ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A VAE as functions; those that are None are not examined. `arrays` makes of a float32 NumPy array what they take.

    With labels y (B,) given to `examine`, encode, decode and forward take them as their last argument.
    beta: recon + beta kl was minimised; None where it was something else: L_K, free bits, a capacity, an annealed beta.
    mean_output: decode answers with the pixels' means, not with logits; sees_pixels: decode takes the images first.
    log_prior_ratio: z (B, Z) -> log p(z) - log N(z; 0, I) (B,) of a learned prior; elbo_terms is about N(0, I).
    """

    name: str
    encode: Callable
    decode: Callable
    reparameterize: Callable | None = None
    forward: Callable | None = None
    elbo_terms: Callable | None = None
    importance_bound: Callable | None = None
    mutual_information: Callable | None = None
    model: nn.Module | None = None
    params: Mapping[str, Any] | None = None
    likelihood: str = "bernoulli"
    beta: float | None = 1.0
    mean_output: bool = False
    sees_pixels: bool = False
    log_prior_ratio: Callable | None = None
    arrays: Callable[[np.ndarray], Any] = lambda array: array

    def call(self, name: str, *arguments: np.ndarray | None) -> Any:
        """The answer of one of the functions, in float64 NumPy arrays. Raises SubjectError when it raises."""
        try:
            with torch.no_grad():
                given = [value for value in arguments if value is not None]
                given = [value.astype(np.float32) if value.dtype.kind == "f" else value for value in given]
                answer = getattr(self, name)(*map(self.arrays, given))
            return tuple(map(as_numpy, answer)) if isinstance(answer, tuple | list) else as_numpy(answer)
        except Exception as error:  # anything may come out of a user's own code
            shapes = ", ".join(str(value.shape) for value in arguments if value is not None)
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            raise SubjectError(f"{self.name}: {name} failed on arrays {shapes}: {reason}") from error

    def prior_ratio(self, z: np.ndarray) -> np.ndarray:
        """log p(z) - log N(z; 0, I) of codes z (..., Z) -> (...): 0, unless the prior was learned."""
        if self.log_prior_ratio is None:
            return np.zeros(z.shape[:-1])
        return self.call("log_prior_ratio", z.reshape(-1, z.shape[-1])).reshape(z.shape[:-1])

    def posterior(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """mu, logvar (B, Z) of images x (B, 1, 28, 28)."""
        answer = self.call("encode", x, y)
        shapes = [value.shape for value in answer] if isinstance(answer, tuple) else [answer.shape]
        if len(shapes) != 2 or shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != len(x):
            raise SubjectError(
                f"{self.name}: encode must return mu and logvar, both ({len(x)}, Z) for {len(x)} images, "
                f"but returned {' and '.join(map(str, shapes))}."
            )
        return answer

    def logits(self, z: np.ndarray, y: np.ndarray | None = None, x: np.ndarray | None = None) -> np.ndarray:
        """x_logits (B, 1, 28, 28) of codes z (B, Z), for the images x (B, 1, 28, 28) where decode sees pixels too."""
        answer = self.call("decode", x, z, y) if self.sees_pixels else self.call("decode", z, y)
        if isinstance(answer, tuple) or answer.size != len(z) * 784:
            shape = "a tuple" if isinstance(answer, tuple) else answer.shape
            raise SubjectError(
                f"{self.name}: decode must return x_logits ({len(z)}, 1, 28, 28) for {len(z)} codes, returned {shape}."
            )
        return answer.reshape(-1, 1, 28, 28)

    def terms(self, x, x_logits, mu, logvar) -> tuple[np.ndarray, np.ndarray]:
        """recon, kl (B,) of each image; where elbo_terms answers with a mean over the batch, image by image.

        A subject without elbo_terms gets those of the project.
        """
        if self.elbo_terms is None:
            return reference_recon(x, x_logits, self.likelihood), reference_kl(mu, logvar)
        whole = self.raw_terms(x, x_logits, mu, logvar)
        if all(term.shape == (len(x),) for term in whole):
            return whole
        single = [self.raw_terms(*(value[[i]] for value in (x, x_logits, mu, logvar))) for i in range(len(x))]
        return tuple(np.array([float(term.sum()) for term in terms]) for terms in zip(*single, strict=True))

    def raw_terms(self, x, x_logits, mu, logvar) -> tuple[np.ndarray, np.ndarray]:
        """What elbo_terms answers with: two arrays (B,), or two numbers."""
        answer = self.call("elbo_terms", x, x_logits, mu, logvar)
        shapes = [term.shape for term in answer] if isinstance(answer, tuple) else [answer.shape]
        if len(shapes) != 2 or any(shape not in ((), (len(x),)) for shape in shapes):
            raise SubjectError(
                f"{self.name}: elbo_terms must return recon and kl, both ({len(x)},) for {len(x)} images or both "
                f"numbers, but returned {' and '.join(map(str, shapes))}."
            )
        return answer

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Name -> values of all weights that the subject shows, float64."""
        named = self.model.state_dict() if self.model is not None else self.params or {}
        return {name: as_numpy(value) for name, value in named.items()}


def as_numpy(value: Any) -> np.ndarray:
    """A tensor, array or number as float64."""
    return np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value, dtype=np.float64)


def subject_of_model(model: nn.Module, name: str = "the model", beta: float | None = 1.0) -> Subject:
    """A model of level 3, ConvVAE and what is built on it, trained with that beta (see Subject).

    Raises UsageError for one without a Gaussian posterior.
    """
    if not getattr(model, "has_posterior", False):
        raise UsageError(
            f"{name}: the doctor examines models with a posterior N(mu, std^2), which {type(model).__name__} does not "
            "have; name a run of --model vae or cvae."
        )
    like = next(model.parameters())

    def arrays(value: np.ndarray) -> torch.Tensor:
        value = torch.from_numpy(value).to(like.device)
        return value.to(like.dtype) if value.is_floating_point() else value

    return Subject(
        name,
        model.encode,
        model.logits_of if model.sees_pixels else model.decode,
        model.reparameterize,
        model.forward,
        model.elbo_terms,
        importance_bound,
        model=model,
        likelihood="other" if model.mean_output else model.likelihood,
        beta=beta,
        mean_output=model.mean_output,
        sees_pixels=model.sees_pixels,
        log_prior_ratio=model.log_prior_ratio,
        arrays=arrays,
    )


FUNCTIONS = ("encode", "decode", "reparameterize", "forward", "elbo_terms", "importance_bound", "mutual_information")


def subject_of_module(path: str | Path) -> Subject:
    """A user's own Python file; see the top of this one for what it may define.

    Its functions are given torch tensors where the file imports torch, else NumPy arrays, and the other kind if they
    fail on those. Raises UsageError, one sentence, for a file that cannot be imported or lacks encode or decode.
    """
    path = Path(path)
    found = vars(_import_file(path))
    functions = {name: found[name] for name in FUNCTIONS if callable(found.get(name))}
    missing = [name for name in ("encode", "decode") if name not in functions]
    if missing:
        raise UsageError(f"{path}: expected functions encode(x) and decode(z), found no {' and no '.join(missing)}.")
    model = found.get("model") if isinstance(found.get("model"), nn.Module) else None
    params = found.get("params") if isinstance(found.get("params"), Mapping) else None
    likelihood = found.get("likelihood", "bernoulli")
    if likelihood not in ("bernoulli", "gaussian"):
        raise UsageError(f'{path}: likelihood must be "bernoulli" or "gaussian", got {likelihood!r}.')
    beta = found.get("beta", 1.0)
    beta = beta if isinstance(beta, int | float) else None  # a schedule, for example
    kinds = [torch.from_numpy, lambda array: array]
    if not any(v is torch or str(getattr(v, "__module__", "")).startswith("torch") for v in found.values()):
        kinds.reverse()
    subjects = [
        Subject(str(path), **functions, model=model, params=params, likelihood=likelihood, beta=beta, arrays=kind)
        for kind in kinds
    ]
    return _that_answers(subjects)


def _import_file(path: Path):
    name = f"_examined_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path) if path.suffix == ".py" and path.is_file() else None
    if spec is None:
        raise UsageError(f"{path}: expected a Python file that defines encode(x) and decode(z), found none.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise UsageError(f"{path}: cannot be imported ({type(error).__name__}: {reason}).") from error
    finally:
        sys.path.pop(0)
    return module


def _that_answers(subjects: list[Subject]) -> Subject:
    """The first subject whose encode and decode work on two blank images; the first's error when none does."""
    first_error = None
    for subject in subjects:
        try:
            mu, _ = subject.posterior(np.zeros((2, 1, 28, 28), np.float32))
            subject.logits(mu)
        except SubjectError as error:
            first_error = first_error or error
        else:
            return subject
    raise first_error


# --- the terms, where a subject has none of its own ---------------------------------------------------------------


def reference_recon(x: np.ndarray, x_logits: np.ndarray, likelihood: str) -> np.ndarray:
    """recon (B,) as this project has it, in float64."""
    x, logits = x.astype(np.float64), x_logits.astype(np.float64)
    if likelihood == "gaussian":
        return ((x - 0.5 * (1 + np.tanh(0.5 * logits))) ** 2).sum(axis=(1, 2, 3))
    return (np.maximum(logits, 0) - logits * x + np.log1p(np.exp(-np.abs(logits)))).sum(axis=(1, 2, 3))


def reference_kl(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """KL(N(mu, exp(logvar)) || N(0, 1)) (B,), in nats."""
    return 0.5 * (mu**2 + np.expm1(logvar) - logvar).sum(axis=1)
