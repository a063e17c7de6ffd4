"""What holds for every correct and trained VAE: a function for each invariant, over one pass of images.

Four of them are about training: encoder-uses-x, decoder-uses-z, beats-mean-image and stationary. The last two ask
about what was minimised, so they are asked only where that is known to be recon + beta kl (`Subject.beta`).

Each returns a sentence with the number it found and the bound, or raises Fails (with the likely cause and where to
look) or Skip. What is sampled may miss its bound by 5 standard errors, so that chance fails no correct model.

Axes: B batch, N images, K draws of z for an image, Z latent.
"""

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from vae_common.data import entropy_floor
from vae_doctor.subject import Subject, SubjectError, reference_kl, reference_recon
from vae_measures.rate_parts import Estimate, log_densities

SIGMAS = 5  # standard errors that an estimate may miss its bound by: less than one in a million
ROUNDING = 1e-4  # of a term: float32 (6e-8) through eight layers and sums of thousands of numbers
DRAWS, QUADRATURE_IMAGES = 50, 10  # z per image for L_50; images whose log p(x) is integrated where Z <= 2
FACTOR = 1.5  # by which all std or all mu are tried larger and smaller
DIFFER_IN_TRAINING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.BatchNorm1d, nn.BatchNorm2d)

# --- the exam: one pass over the images ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Exam:
    """Images, their posteriors, one z each, and what the subject makes of them; float64 but x.

    x (N, 1, 28, 28); y (N,) or None; mu, logvar, eps, z (N, Z) with z = mu + std eps; x_logits; recon, kl (N,).
    """

    subject: Subject
    x: np.ndarray
    y: np.ndarray | None
    mu: np.ndarray
    logvar: np.ndarray
    eps: np.ndarray
    z: np.ndarray
    x_logits: np.ndarray
    recon: np.ndarray
    kl: np.ndarray
    rng: np.random.Generator

    @classmethod
    def of(cls, subject: Subject, x: np.ndarray, y: np.ndarray | None, rng: np.random.Generator) -> "Exam":
        """Run the subject once over images x (N, 1, 28, 28), with one sampled z each."""
        mu, logvar = subject.posterior(x, y)
        eps = rng.standard_normal(mu.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            z = mu + np.exp(0.5 * logvar) * eps
        x_logits = subject.logits(z, y, x)
        recon = kl = np.zeros(len(x))
        if all(np.isfinite(value).all() for value in (z, x_logits)):
            recon, kl = subject.terms(x, x_logits, mu, logvar)
        return cls(subject, x, y, mu, logvar, eps, z, x_logits, recon, kl, rng)

    def labels(self, index) -> np.ndarray | None:
        """The labels of these images, or None where there are none."""
        return None if self.y is None else self.y[index]


@dataclass(frozen=True)
class Finding:
    """What one invariant found: status "ok", "failed" or "skipped", and a sentence with the number and the bound."""

    name: str
    status: str
    sentence: str


class Skip(Exception):
    """Why an invariant cannot be looked at here."""


class Fails(Exception):
    """How an invariant is violated: the number, the bound, the likely cause, where to look."""


def differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two computations of the same terms differ by more than rounding."""
    return ~(np.abs(one - other) <= ROUNDING * (1 + np.abs(other)))


# --- invariants: each returns a sentence, or raises Fails or Skip -------------------------------------------------


def finite_weights(exam: Exam) -> str:
    """NaN and infinity spread to everything that is computed from them, so this comes first."""
    weights, subject = exam.subject.weights, exam.subject
    for name, values in weights.items():
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise Fails(
                f"{bad:,} of the {values.size:,} numbers of {name} are NaN or infinite; the training diverged: take a "
                "smaller learning rate, BCE on logits, and stop at the first loss that is not finite."
            )
    for name in ("mu", "logvar", "z", "x_logits", "recon", "kl"):
        values = getattr(exam, name)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise Fails(
                f"{bad:,} of the {values.size:,} numbers of {name} are NaN or infinite, from finite images; look for "
                "exp of a large logvar, log of 0, or a division by 0."
            )
    count = sum(values.size for values in weights.values())
    seen = f"all {count:,} weights and" if weights else f"{subject.name} shows no weights;"
    return f"{seen} all outputs for {len(exam.x):,} images are finite."


def train_eval(exam: Exam) -> str:
    """In eval mode a model is a function: the same images and noise give the same numbers. Train mode gives them too,
    but for dropout and batch norm; a loss on another scale there makes the two curves of a plot incomparable."""
    part, model = slice(0, 100), exam.subject.model
    first, second = _loss_of(exam, part), _loss_of(exam, part)
    if differ(first, second).any():
        raise Fails(
            f"the same {len(first)} images and noise gave -elbo {first.mean():.3f} and then {second.mean():.3f} in "
            "eval mode; a call draws or changes something: look for noise drawn inside, dropout that ignores "
            "self.training, or a count that every call moves on."
        )
    if model is None:
        return f"two calls on the same {len(first)} images and noise agree; no `model` is named to compare train mode."
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    try:
        trained = _loss_of(exam, part)
    finally:
        model.eval()
        model.load_state_dict(state)  # batch norm has moved its running means
    apart = any(isinstance(module, DIFFER_IN_TRAINING) for module in model.modules())
    ratio = trained.mean() / first.mean()
    if not (0.5 < ratio < 2 if apart else not differ(trained, first).any()):
        raise Fails(
            f"-elbo is {trained.mean():.3f} in train mode and {first.mean():.3f} in eval mode on the same images and "
            f"noise, {ratio:.3g} times; look for a KL weight, a mean or a sum that depends on self.training."
        )
    why = " (dropout or batch norm, so they may differ)" if apart else ""
    return f"-elbo is {trained.mean():.3f} in train mode and {first.mean():.3f} in eval mode{why}."


def _loss_of(exam: Exam, part: slice) -> np.ndarray:
    """recon + kl (B,) of those images, computed again."""
    mu, logvar = exam.subject.posterior(exam.x[part], exam.labels(part))
    x_logits = exam.subject.logits(mu + np.exp(0.5 * logvar) * exam.eps[part], exam.labels(part), exam.x[part])
    return sum(exam.subject.terms(exam.x[part], x_logits, mu, logvar))


def batch_size(exam: Exam) -> str:
    """An image's terms are its own: they cannot depend on which images, or how many, share its batch."""
    subject, count = exam.subject, min(20, len(exam.x))  # 20 leaves a last batch of 6
    for size in (1, 7):
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            many, length = f"in one batch of {len(exam.x):,}", part.stop - start
            try:
                mu, logvar = subject.posterior(exam.x[part], exam.labels(part))
                x_logits = subject.logits(exam.z[part], exam.labels(part), exam.x[part])
                recon, kl = subject.terms(exam.x[part], x_logits, mu, logvar)
            except SubjectError as error:
                raise Fails(
                    f"a batch of {length} cannot be computed ({error}); look for a fixed size or a squeeze()."
                ) from None
            for name, value in (("mu", mu), ("logvar", logvar), ("x_logits", x_logits), ("recon", recon), ("kl", kl)):
                whole = getattr(exam, name)[part]
                if differ(value, whole).any():
                    raise Fails(
                        f"{name} of an image is {_largest(value, whole)[0]:.4g} in a batch of {length} and "
                        f"{_largest(value, whole)[1]:.4g} {many}; look for a division by the batch size, a mean or sum "
                        "over the wrong axis, or batch statistics in eval mode."
                    )
    if subject.elbo_terms is not None:
        raw = subject.raw_terms(exam.x, exam.x_logits, exam.mu, exam.logvar)
        for name, value, each in zip(("recon", "kl"), raw, (exam.recon, exam.kl), strict=True):
            if value.shape == () and differ(value, each.mean()):
                ratio = value / each.mean()
                raise Fails(
                    f"{name} of {len(each):,} images is {value:.4g}, {ratio:.4g} times the mean of the images alone; "
                    + (
                        "look for a sum over the batch where the mean is meant."
                        if ratio > 1
                        else "look for images that are left out, or for a division by more than their number."
                    )
                )
    return f"{count} images have the same terms in batches of 1, of 7 and of {len(exam.x):,}."


def _largest(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The two numbers that differ most."""
    index = np.unravel_index(np.abs(one - other).argmax(), one.shape)
    return float(one[index]), float(other[index])


def logits(exam: Exam) -> str:
    """decode answers with logits: confident pixels lie far outside [0, 1]. A sigmoid in decode is applied twice then,
    and no pixel can be black or white: sigmoid(0) = 1/2, sigmoid(1) = 0.73."""
    if exam.subject.mean_output:
        raise Skip("this decoder answers with the pixels' means by design, not with logits.")
    low, high = float(exam.x_logits.min()), float(exam.x_logits.max())
    found = f"decode answers with numbers from {low:.3f} to {high:.3f}"
    if low >= 0 and high <= 1:
        if high - low < 0.5:
            raise Skip(f"{found}, too close together to tell logits from probabilities; train first.")
        raise Fails(f"{found}, which are probabilities, not logits; take the sigmoid out of decode.")
    if -1 <= low < -0.95 and 0.95 < high <= 1:
        raise Fails(f"{found}, which are squashed, not logits; take the tanh out of decode.")
    return f"{found}; logits are not bound to [0, 1]."


def kl_not_negative(exam: Exam) -> str:
    """KL(q || p) >= 0 for any two densities (Gibbs' inequality), image by image. What is minimised is recon + kl."""
    if exam.subject.elbo_terms is None:
        raise Skip("no elbo_terms, so no KL to examine.")
    size = exam.mu**2 + np.exp(exam.logvar) + np.abs(exam.logvar) + 1  # what float32 adds up and rounds
    margin = exam.kl + ROUNDING * size.sum(axis=1)
    if not (margin >= 0).all():
        raise Fails(
            f"the KL of {int((~(margin >= 0)).sum()):,} of {len(exam.kl):,} images is below 0, the lowest is "
            f"{exam.kl.min():.4f} nats; look for its sign: kl = -1/2 sum(1 + logvar - mu^2 - exp(logvar))."
        )
    return f"the KL of every image is at least 0; the lowest is {exam.kl.min():.4f} nats."


def kl_monte_carlo(exam: Exam) -> str:
    """KL = E_q[log q(z|x) - log N(z; 0, I)], whatever closed form is used: sampled densities show a missing 1/2, a
    dropped constant and a logvar read as log sigma, of which the gradient may show nothing."""
    if exam.subject.elbo_terms is None:
        raise Skip("no elbo_terms, so no KL to examine.")
    pairs = max(8, min(100, 10**6 // exam.mu.size))
    half = exam.rng.standard_normal((pairs, *exam.mu.shape))
    eps = np.concatenate([half, -half])  # in pairs, so that what is odd in eps leaves no error
    z = exam.mu + np.exp(0.5 * exam.logvar) * eps
    sampled = 0.5 * (z**2 - eps**2 - exam.logvar).sum(axis=2).mean(axis=0)  # (N,): the log 2 pi cancel
    excess, kl, expected = Estimate.of(exam.kl - sampled), exam.kl.mean(), sampled.mean()
    text = f"kl is {kl:.3f} nats, and {expected:.3f} when sampled from the densities (difference {excess})"
    if not abs(excess.value) <= SIGMAS * excess.error + ROUNDING * (1 + abs(expected)):
        raise Fails(f"{text}; {_kl_cause(exam)}.")
    return f"{text}."


def _kl_cause(exam: Exam) -> str:
    """Which known mistake gives this KL, by comparison image by image."""
    mu, logvar, true = exam.mu, exam.logvar, reference_kl(exam.mu, exam.logvar)
    Z = mu.shape[1]
    known = {
        "the 1/2 before the sum is missing": 2 * true,
        f"the constant k/2 = {Z / 2:g} was dropped": true + Z / 2,
        f"it is averaged over the {Z} latents, not summed": true / Z,
        "logvar is read as the log of sigma, not of sigma^2": reference_kl(mu, 2 * logvar),
        "logvar is read as log sigma in one place only": 0.5 * (mu**2 + np.exp(2 * logvar) - 1 - logvar).sum(axis=1),
    }
    for cause, kl in known.items():
        if not differ(exam.kl, kl).any():
            return cause
    ratio = exam.kl / true
    if np.ptp(ratio) <= 0.01 * abs(ratio.mean()):
        return f"it is {ratio.mean():.4g} times the KL of every image: look for a weight that is still on it"
    return "compare it with 1/2 sum(mu^2 + exp(logvar) - 1 - logvar)"


def entropy_floor_holds(exam: Exam) -> str:
    """-log p(x|z) of grey pixels, taken as Bernoulli targets, cannot be below their own entropy, which a perfect copy
    has; that of pixels of 0 and 1, and a squared error, cannot be below 0."""
    if exam.subject.likelihood == "other":
        raise Skip("the likelihood is a density, which has no floor.")
    grey = exam.subject.likelihood == "bernoulli"
    floor = np.array([entropy_floor(image[None]) if grey else 0.0 for image in exam.x])
    below = exam.recon < floor - ROUNDING * (1 + floor)
    text = f"recon is {exam.recon.mean():.2f} nats, and no decoder can go below {floor.mean():.2f}"
    if below.any():
        raise Fails(
            f"{text}; {int(below.sum()):,} of {len(floor):,} images do: look for a mean over the pixels where the sum "
            "is meant, for pixels outside [0, 1], or for the sign."
        )
    return f"{text}."


def recon_sum(exam: Exam) -> str:
    """recon is -log p(x|z) of the stated likelihood, summed over the pixels; averaged it is 784 times too small
    beside the KL, which is beta = 784."""
    subject = exam.subject
    if subject.elbo_terms is None or subject.likelihood == "other":
        raise Skip("no elbo_terms of a Bernoulli or Gaussian likelihood to examine.")
    expected = reference_recon(exam.x, exam.x_logits, subject.likelihood)
    if differ(exam.recon, expected).any():
        ratio = exam.recon.mean() / expected.mean()
        causes = {1 / 784: "a mean over the pixels", 0.5: "half the squared error", -1: "the sign"}
        cause = next((cause for value, cause in causes.items() if math.isclose(ratio, value, rel_tol=1e-3)), None)
        raise Fails(
            f"recon is {exam.recon.mean():.4f} nats, but the {subject.likelihood} likelihood of x under x_logits gives "
            f"{expected.mean():.4f}; look for {cause or 'a weight, or a sigmoid too many or too few'}."
        )
    return f"recon is {exam.recon.mean():.2f} nats, as the {subject.likelihood} likelihood gives it."


def sampling(exam: Exam) -> str:
    """z ~ N(mu, exp(logvar)), every dimension of every image with noise of its own: (z - mu) / std is standard normal.

    mu and logvar are made up here, far from each other, so that mistakes show which hide where std is about 1.
    """
    if exam.subject.reparameterize is None:
        raise Skip("no reparameterize(mu, logvar, eps) to examine.")
    (B, calls), Z, rng = (20, 500), exam.mu.shape[1], exam.rng
    mu, logvar = rng.normal(0, 2, (B, Z)), rng.uniform(-4, 2, (B, Z))
    z = [exam.subject.call("reparameterize", mu, logvar, rng.standard_normal((B, Z))) for _ in range(calls)]
    if np.shape(z) != (calls, B, Z):
        raise Fails(f"reparameterize answers with shape {np.shape(z)[1:]} to mu and logvar of shape {(B, Z)}.")
    u = (np.stack(z) - mu) / np.exp(0.5 * logvar)  # (calls, B, Z)
    flat, M, most = u.reshape(-1, Z), B * calls, SIGMAS + 1  # one more: the largest of many numbers is looked at
    mean, variance = flat.mean(axis=0), flat.var(axis=0)
    if variance.min() < 1e-9:
        raise Fails("the variance of z is 0: z is mu, and the noise is not used.")
    between = np.abs(np.corrcoef(flat.T) - np.eye(Z)).max() if Z > 1 else 0.0
    if not between <= most / calls**0.5:
        raise Fails(
            f"two dimensions of z have noise that correlates by {between:.2f}, where chance allows "
            f"{most / calls**0.5:.2f}: look for noise of shape (B, 1), one number for all dimensions of an image."
        )
    together = ((u - mean).sum(axis=1) ** 2 / variance).mean() / B  # 1; B where all images share their noise
    if not abs(together - 1) <= most * (2 / calls) ** 0.5:
        raise Fails(f"the images of a batch share their noise ({together:.1f}, not 1): look for noise of shape (1, Z).")
    if not (np.abs(mean) <= most * (variance / M) ** 0.5).all():
        raise Fails(f"the mean of z is off mu by up to {np.abs(mean).max():.3f} std; look for what is added to mu.")
    if not (np.abs(variance - 1) <= most * (2 / M) ** 0.5).all():
        raise Fails(f"the variance of z is {_range(variance)} times exp(logvar); {_noise_cause(u, logvar)}.")
    return f"the variance of z is {_range(variance)} times exp(logvar) over {M:,} draws, every number independent."


def _range(values: np.ndarray) -> str:
    return f"{values.min():.3f}" if values.max() - values.min() < 0.001 else f"{values.min():.3f} to {values.max():.3f}"


def _noise_cause(u: np.ndarray, logvar: np.ndarray) -> str:
    """From the power p of std = exp(p logvar): 1/2 is right; fitted over the numbers of the batch."""
    std = u.std(axis=0) * np.exp(0.5 * logvar)  # (B, Z): what it really is
    power, _ = np.polyfit(logvar.ravel(), np.log(np.maximum(std, 1e-12)).ravel(), 1)
    if abs(power - 1) < 0.05:
        return "std is exp(logvar) = sigma^2 where exp(logvar / 2) = sigma is meant"
    if abs(power) < 0.05:
        return f"std is {std.mean():.3g} whatever logvar says"
    times = float(np.exp(np.log(u.std(axis=0)).mean()))
    return f"std is {times:.3g} times exp(logvar / 2): the noise has another variance than 1"


def forward_samples(exam: Exam) -> str:
    """forward(x, eps) decodes a sample, mu + std eps: measured at the mean, recon is too good and the ELBO no bound."""
    if exam.subject.forward is None:
        raise Skip("no forward(x, eps) to examine.")
    part = slice(0, 100)
    answer = exam.subject.call("forward", exam.x[part], exam.eps[part], exam.labels(part))
    if not isinstance(answer, tuple) or len(answer) != 3:
        raise Fails("forward must return x_logits, mu and logvar.")
    found, expected = answer[0].reshape(-1, 1, 28, 28), exam.x_logits[part]
    if np.shape(found) != expected.shape or differ(found, expected).any():
        at_mean = exam.subject.logits(exam.mu[part], exam.labels(part), exam.x[part])
        mean = found.shape == at_mean.shape and not differ(found, at_mean).any()
        raise Fails(
            "forward(x, eps) does not decode mu + exp(logvar / 2) eps; "
            + (
                "it decodes mu: look for a missing sample."
                if mean
                else "look at how z is made in forward, and from what."
            )
        )
    return "forward(x, eps) decodes mu + std eps."


def encoder_uses_x(exam: Exam) -> str:
    """q(z|x) differs between images: some Var_x(mu) > 0.01 (an active unit of Burda et al. 2016). Else the posterior
    has collapsed to the prior, or the image never arrives. An untrained encoder may fail too."""
    spread, Z = exam.mu.var(axis=0), exam.mu.shape[1]
    active = int((spread > 0.01).sum())
    if active == 0:
        cause = (
            "the encoder answers the same to every image: look at what it is given"
            if spread.max() < 1e-10
            else "posterior collapse, or an untrained model: try a smaller beta, annealing or free bits"
        )
        raise Fails(
            f"none of {Z} latent dimensions is active: the largest Var_x(mu) is {spread.max():.2g}, not 0.01; {cause}."
        )
    return f"{active} of {Z} latent dimensions are active: Var_x(mu) is up to {spread.max():.3g}."


def decoder_uses_z(exam: Exam) -> str:
    """With the z of another image recon must be worse. If it is not, z is ignored and the decoder draws one average
    image. An untrained decoder fails too."""
    x_logits = exam.subject.logits(np.roll(exam.z, 1, axis=0), exam.y, exam.x)
    shuffled, _ = exam.subject.terms(exam.x, x_logits, exam.mu, exam.logvar)
    worse = Estimate.of(shuffled - exam.recon)
    if not worse.value > SIGMAS * worse.error:
        raise Fails(
            f"recon is {exam.recon.mean():.2f} with an image's own z and only {worse} nats worse with another image's; "
            "the decoder ignores z: posterior collapse, an untrained model, std that drown it, or z does not arrive in "
            "decode."
        )
    return f"recon is {exam.recon.mean():.2f} with an image's own z, {worse} nats worse with another image's."


def index_information(exam: Exam) -> str:
    """A code of one of N images cannot tell more than which one it is, ln N nats, nor more than the rate: I <= KL."""
    own, mixture = log_densities(exam.z, np.arange(len(exam.z)), exam.mu, exam.logvar)
    information, most, ratio = Estimate.of(own - mixture), math.log(len(exam.z)), exam.subject.prior_ratio(exam.z)
    rate = (exam.kl - ratio).mean()
    slack = SIGMAS * (information.error + Estimate.of(ratio).error) + ROUNDING * (1 + abs(rate))
    if not information.value <= rate + slack:
        raise Fails(
            f"I(x; z) is {information} nats, more than the KL of {rate:.2f}, which bounds it; the KL is too small: "
            "look for a mean over the latents or a weight on it."
        )
    text = f"I(x; z) is {information} nats of ln {len(exam.z):,} = {most:.2f} at the most, and the KL is {rate:.2f}"
    if exam.subject.mutual_information is None:
        return f"{text}."
    theirs = float(np.sum(exam.subject.call("mutual_information", exam.z, exam.mu, exam.logvar)))
    if not -slack <= theirs <= min(most + ROUNDING, rate + slack):
        raise Fails(
            f"mutual_information answers {theirs:.2f} nats, which cannot be: {text}; look for a log-weight added once "
            "per latent dimension, weights that do not sum to 1, or a sum over dimensions after the exponential."
        )
    return f"{text}; mutual_information answers {theirs:.2f}."


def bound_order(exam: Exam) -> str:
    """elbo <= L_1 <= L_5 <= L_50 <= log p(x) (Burda et al. 2016, theorem 1; elbo = L_1 but for sampling). With one or
    two latents log p(x) is integrated on a grid."""
    M, K = min(64, len(exam.x)), DRAWS
    recon, eps, z = _many_draws(exam, M, K)
    ratio = exam.subject.prior_ratio(z)
    log_w = -recon + 0.5 * (eps**2 - z**2).sum(axis=2) + 0.5 * exam.logvar[:M].sum(axis=1, keepdims=True) + ratio
    bounds = {"elbo": -((recon - ratio).mean(axis=1) + exam.kl[:M])}
    for k in (1, 5, K):
        bounds[f"L_{k}"] = _importance_bound(exam.subject, log_w.reshape(-1, k)).reshape(M, -1).mean(axis=1)
    text = " <= ".join(f"{name} {value.mean():.3f}" for name, value in bounds.items())
    for (low, lower), (high, higher) in zip(list(bounds.items())[:-1], list(bounds.items())[1:], strict=True):
        step = Estimate.of(higher - lower)
        if not step.value >= -SIGMAS * step.error - ROUNDING * (1 + abs(lower.mean())):
            raise Fails(
                f"{high} is {higher.mean():.3f}, below {low} of {lower.mean():.3f} (by {-step.value:.3f} +- "
                f"{step.error:.3f}); look for the sign of log_w or a KL that is too small."
            )
    if exam.mu.shape[1] > 2:
        return f"{text} nats, means over {M} images."
    return f"{text} nats; {_below_evidence(exam, log_w, bounds)}"


def _many_draws(exam: Exam, M: int, K: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K draws for each of the first M images: recon (M, K), eps and z (M, K, Z)."""
    eps = exam.rng.standard_normal((M, K, exam.mu.shape[1]))
    z = exam.mu[:M, None] + np.exp(0.5 * exam.logvar[:M, None]) * eps
    return _recon_at(exam, np.arange(M), z), eps, z


def _recon_at(exam: Exam, images: np.ndarray, z: np.ndarray) -> np.ndarray:
    """recon (M, K) of images (M,) at codes z (M, K, Z), an image at a time to bound the memory."""
    rows = []
    for i, codes in zip(images, z, strict=True):
        index = np.full(len(codes), i)
        x_logits = exam.subject.logits(codes, exam.labels(index), exam.x[index])
        rows.append(exam.subject.terms(exam.x[index], x_logits, exam.mu[index], exam.logvar[index])[0])
    return np.stack(rows)


def _importance_bound(subject: Subject, log_w: np.ndarray) -> np.ndarray:
    if subject.importance_bound is None:
        return np.logaddexp.reduce(log_w, axis=1) - math.log(log_w.shape[1])
    answer = subject.call("importance_bound", log_w)
    if not isinstance(answer, np.ndarray) or answer.shape != (len(log_w),):
        raise Fails(f"importance_bound must answer with L_K ({len(log_w)},) to log_w {log_w.shape}.")
    return answer


def _below_evidence(exam: Exam, log_w: np.ndarray, bounds: dict[str, np.ndarray]) -> str:
    count = min(QUADRATURE_IMAGES, len(log_w))
    log_p = log_evidence(exam, count)
    w = np.exp(log_w[:count] - log_w[:count].max(axis=1, keepdims=True))
    error = float(np.sqrt((w.var(axis=1, ddof=1) / w.mean(axis=1) ** 2 / w.shape[1]).sum()) / count)
    for name, bound in bounds.items():
        if not (bound[:count] - log_p).mean() <= SIGMAS * error + 0.05:  # nats, for the grid
            raise Fails(
                f"{name} is {bound[:count].mean():.3f} on {count} images, above log p(x) of {log_p.mean():.3f} by "
                f"quadrature (standard error {error:.3f}); look for a sum of weights that is not divided by K, or a "
                "log-weight without log q."
            )
    return f"on {count} images L_{w.shape[1]} {bound[:count].mean():.3f} <= log p(x) {log_p.mean():.3f} by quadrature."


def log_evidence(exam: Exam, count: int) -> np.ndarray:
    """log p(x) of the first `count` images, in nats, by the trapezoidal rule on mu +- 6 std in steps of std / 2.

    What lies outside is not counted, nor can L_K see it: a draw of q lands there once in 500 million.
    """
    Z = exam.mu.shape[1]
    steps = np.stack(np.meshgrid(*[np.arange(-6, 6.01, 0.5)] * Z, indexing="ij"), axis=-1).reshape(-1, Z)
    std = np.exp(0.5 * exam.logvar[:count])
    z = exam.mu[:count, None] + std[:, None] * steps  # (count, 25^Z, Z)
    log_prior = exam.subject.prior_ratio(z) - 0.5 * (z**2 + math.log(2 * math.pi)).sum(axis=2)
    log_joint = log_prior - _recon_at(exam, np.arange(count), z)
    return np.logaddexp.reduce(log_joint, axis=1) + np.log(0.5 * std).sum(axis=1)


# --- two of a trained model: recon + beta kl, which was minimised, is low, and lowest where the posterior is ------


def beats_mean_image(exam: Exam) -> str:
    """Training can do without a code: with the prior as posterior and one image for every z, recon + beta kl is that
    of the mean image, the best of those. A model that is worse has not learned, or its parts do not fit together."""
    objective = _objective(exam)
    if exam.subject.likelihood == "other":
        raise Skip("the best constant image of this likelihood is not known.")
    mean = exam.x.astype(np.float64).mean(axis=0).clip(1e-6, 1 - 1e-6)
    logit = np.broadcast_to(np.log(mean / (1 - mean)), exam.x.shape)
    constant = reference_recon(exam.x, logit, exam.subject.likelihood)
    text = (
        f"{_minimised(exam)} is {objective.mean():.2f} nats, and {constant.mean():.2f} of the mean image with no code"
    )
    worse = Estimate.of(objective - constant)
    if worse.value > SIGMAS * worse.error:
        raise Fails(
            f"{text}; if the model is trained, encode, decode and x do not belong together: look for images that are "
            "transposed or inverted, and for what is called logvar and holds something else."
        )
    return f"{text}."


def stationary(exam: Exam) -> str:
    """The last layer of an encoder can multiply all std, or all mu, by one factor: at the optimum none lowers recon +
    beta kl. About there recon is quadratic in std, so std that are a times the best ones cost beta Z (a^2 - 1 - 2 ln a)
    / 2 nats more: a factor of 1.5 gains something only where a < 0.81 or a > 1.21. One epoch of 12,000 images ends
    inside; of the linear VAE, whose logvar are bare parameters that learn slowly, 10 do not and 40 do. A learned prior
    is held as it is."""
    now, after = _objective(exam), {}
    for factor, size in ((FACTOR, "larger"), (1 / FACTOR, "smaller")):
        after[f"all std are {FACTOR} times {size}"] = Estimate.of(_objective(exam, times_std=factor) - now)
        after[f"all mu are {FACTOR} times {size}"] = Estimate.of(_objective(exam, times_mu=factor) - now)
    change, rise = min(after.items(), key=lambda pair: pair[1].value)
    text = f"{_minimised(exam)} changes by {rise} nats when {change}"
    if rise.value < -SIGMAS * rise.error:
        raise Fails(
            f"{text}; a training that has come to its end leaves no such gain: look for a logvar that holds std or log "
            "std, or to which something is added, and for another beta than in training."
        )
    return f"{text}, and by more with the other factors."


def _minimised(exam: Exam) -> str:
    return "recon + kl" if exam.subject.beta == 1 else f"recon + {exam.subject.beta:g} kl"


def _objective(exam: Exam, times_mu: float = 1.0, times_std: float = 1.0) -> np.ndarray:
    """recon + beta kl (N,) with the exam's noise, where all mu and all std are multiplied."""
    subject = exam.subject
    if subject.beta is None:
        raise Skip("what was minimised is not recon + beta kl throughout.")
    mu, logvar = times_mu * exam.mu, exam.logvar + 2 * math.log(times_std)
    z = mu + np.exp(0.5 * logvar) * exam.eps
    recon, kl = subject.terms(exam.x, subject.logits(z, exam.y, exam.x), mu, logvar)
    return recon + subject.beta * (kl - subject.prior_ratio(z))


INVARIANTS = {
    "finite-weights": finite_weights,
    "train-eval": train_eval,
    "batch-size": batch_size,
    "logits": logits,
    "kl-not-negative": kl_not_negative,
    "kl-monte-carlo": kl_monte_carlo,
    "entropy-floor": entropy_floor_holds,
    "recon-sum": recon_sum,
    "sampling": sampling,
    "forward-samples": forward_samples,
    "encoder-uses-x": encoder_uses_x,
    "decoder-uses-z": decoder_uses_z,
    "index-information": index_information,
    "bound-order": bound_order,
    "beats-mean-image": beats_mean_image,
    "stationary": stationary,
}
