"""Answers to exercise 7 whose verdict is known; see test_exercise_solutions.py."""

SAFE = "np.log(np.where(p > 0, p, 1))"
MIXTURE = "np.logaddexp.reduce(log_q, axis=1) - np.log(len(mu))"
SQUARES = "* np.exp(-logvar)"
OWN = "[np.arange(len(z)), index]"

WRONG = (
    (SAFE, "np.log(p)", "0 * log(0) too"),
    ("np.stack([x, 1 - x])", "x", "dark half"),
    (SAFE, SAFE.replace("np.log(", "np.log2("), "bits"),
    ("x.mean(axis=0, keepdims=True)", "x", "first the mean image"),
    (
        "return pixel_entropy(x.mean(axis=0, keepdims=True))",
        "mean = x.mean(axis=0)\n    return -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)).sum()",
        "0 * log(0) too",
    ),
    (SQUARES, "* np.exp(-2 * logvar)", "not by its square or root"),
    (SQUARES, "* np.exp(-0.5 * logvar)", "not by its square or root"),
    ("squares + logvar + ", "squares - logvar + ", "sign turned: -logvar / 2"),
    ("squares + logvar + ", "squares + ", "narrow Gaussian is high"),
    ("+ np.log(2 * np.pi)).sum(axis=-1)", ").sum(axis=-1) - 0.5 * np.log(2 * np.pi)", "2 times ln(2 pi) / 2"),
    (
        "(squares + logvar + np.log(2 * np.pi)).sum(axis=-1)",
        "(squares + logvar + np.log(2 * np.pi)).sum(axis=-1).T",
        "axes are exchanged",
    ),
    ("- np.log(len(mu))", "- z.shape[1] * np.log(len(mu))", "once for every latent"),
    (" - np.log(len(mu))", "", "which is ln of the 7 of mu"),
    (MIXTURE, "log_q.mean(axis=1)", "mean of the logs"),
    (MIXTURE, MIXTURE + " - log_q.max(axis=1)", "not put back"),
    (MIXTURE, "(most := log_q.max()) + np.log(np.exp(log_q - most).mean(axis=1))", "of each row its own"),
    (
        "log_q = log_densities(z, mu, logvar)\n    return " + MIXTURE,
        "parts = [log_densities(z[:, [d]], mu[:, [d]], logvar[:, [d]]) for d in range(z.shape[1])]\n"
        "    return sum(np.logaddexp.reduce(part, axis=1) - np.log(len(mu)) for part in parts)",
        "is not independent",
    ),
    ("own - log_aggregate(z, mu, logvar)", "own + 0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=1)", "the whole rate"),
    ("own - log_aggregate(z, mu, logvar)", "np.maximum(own - log_aggregate(z, mu, logvar), 0)", "Cut off at 0"),
    (
        "own - log_aggregate(z, mu, logvar)",
        "own - log_aggregate(z, mu, logvar) - np.log(len(mu))",
        "minus 1.94591, which is ln of the 7",
    ),
    ("own - log_aggregate(z, mu, logvar)", "np.exp(own - log_aggregate(z, mu, logvar))", "exp of the right one"),
    ("own - log_aggregate(z, mu, logvar)", "np.abs(own - log_aggregate(z, mu, logvar))", "Cut off at 0"),
    ("own - log_aggregate(z, mu, logvar)", "(own - log_aggregate(z, mu, logvar)).clip(0, np.log(len(mu)))", "Cut off"),
    (OWN, "[np.arange(len(z)), np.arange(len(z)) % len(mu)]", "Code m was drawn from the po"),
    (
        "return own - log_aggregate(z, mu, logvar)",
        "log_q = log_densities(z, mu, logvar).astype(float)\n    log_q[np.arange(len(z)), index] = -np.inf\n"
        "    return own - np.logaddexp.reduce(log_q, axis=1) + np.log(len(mu) - 1)",
        "belongs to the mixture",
    ),
    ("np.log(np.maximum(variances / (beta * s2), 1))", "np.log(variances / (beta * s2))", "negative"),
    (
        "0.5 * np.log(np.maximum(variances / (beta * s2), 1)).sum()",
        "max(0.5 * np.log(variances / (beta * s2)).sum(), 0)",
        "not for their sum",
    ),
    ("errors / s2 + np.log(2 * np.pi * s2)", "errors / s2", "constants of the Gaussian"),
    ("np.minimum(variances, beta * s2)", "beta * s2 * (variances > beta * s2)", "whole variance"),
)

EQUIVALENT = {
    "pixel_entropy: 1 -> 2 in return -(p * np.log(np.where(p > 0, p, 1))).sum() / len(x)": (
        "the logarithm stands beside a factor that is 0 there"
    ),
}
