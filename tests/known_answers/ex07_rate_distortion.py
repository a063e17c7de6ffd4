"""Answers to exercise 7 whose verdict is known; see test_exercise_solutions.py."""

SAFE = "np.log(np.where(p > 0, p, 1))"
MIXTURE = "np.logaddexp.reduce(log_q, axis=1) - np.log(len(mu))"
SQUARES = "* np.exp(-logvar)"
OWN = "[np.arange(len(z)), index]"

WRONG = (
    (SAFE, "np.log(p)", "0 * log(0) is nan"),
    ("np.stack([x, 1 - x])", "x", "dark half"),
    (SAFE, SAFE.replace("np.log(", "np.log2("), "bits"),
    ("x.mean(axis=0, keepdims=True)", "x", "first the mean image"),
    (
        "return pixel_entropy(x.mean(axis=0, keepdims=True))",
        "mean = x.mean(axis=0)\n    return -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)).sum()",
        "dark in all images",
    ),
    ("x.mean(axis=0, keepdims=True)", "0 * x + 0.5", "knows nothing"),
    ("x.mean(axis=0, keepdims=True)", "x.mean(axis=(2, 3), keepdims=True)", "axis 0"),
    (SQUARES, "* np.exp(-2 * logvar)", "do not square"),
    (SQUARES, "* np.exp(-0.5 * logvar)", "not by the standard deviation"),
    ("squares + logvar + ", "squares - logvar + ", "sign of logvar"),
    (
        "(squares + logvar + np.log(2 * np.pi))",
        "((z[:, None] - mu) ** 2 / logvar + np.log(logvar) + np.log(2 * np.pi))",
        "logarithm of the variance",
    ),
    (
        "return -0.5 * (squares + logvar + np.log(2 * np.pi)).sum(axis=-1)",
        "return np.log(np.exp(-0.5 * (squares + logvar + np.log(2 * np.pi))).prod(axis=-1))",
        "add their logarithms",
    ),
    ("squares + logvar + ", "squares + ", "narrow Gaussian is high"),
    ("+ np.log(2 * np.pi)).sum(axis=-1)", ").sum(axis=-1) - 0.5 * np.log(2 * np.pi)", "every dimension"),
    (
        "(squares + logvar + np.log(2 * np.pi)).sum(axis=-1)",
        "(squares + logvar + np.log(2 * np.pi)).sum(axis=-1).T",
        "axes are exchanged",
    ),
    ("- np.log(len(mu))", "- z.shape[1] * np.log(len(mu))", "once for every latent"),
    (" - np.log(len(mu))", "", "- ln N is missing"),
    (MIXTURE, "np.log(np.exp(log_q).mean(axis=1))", "Take the largest"),
    (MIXTURE, "log_q.mean(axis=1)", "mean of the logs"),
    (MIXTURE, MIXTURE + " - log_q.max(axis=1)", "not put back"),
    (MIXTURE, "(most := log_q.max()) + np.log(np.exp(log_q - most).mean(axis=1))", "Each row has its own"),
    (
        "log_q = log_densities(z, mu, logvar)\n    return " + MIXTURE,
        "parts = [log_densities(z[:, [d]], mu[:, [d]], logvar[:, [d]]) for d in range(z.shape[1])]\n"
        "    return sum(np.logaddexp.reduce(part, axis=1) - np.log(len(mu)) for part in parts)",
        "is not independent",
    ),
    ("own - log_aggregate(z, mu, logvar)", "own + 0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=1)", "the whole rate"),
    ("own - log_aggregate(z, mu, logvar)", "np.maximum(own - log_aggregate(z, mu, logvar), 0)", "Cut off at 0"),
    ("own - log_aggregate(z, mu, logvar)", "own - log_aggregate(z, mu, logvar) - np.log(len(mu))", "grown from 1/N"),
    ("own - log_aggregate(z, mu, logvar)", "np.exp(own - log_aggregate(z, mu, logvar))", "factor's logarithm"),
    ("own - log_aggregate(z, mu, logvar)", "np.abs(own - log_aggregate(z, mu, logvar))", "Cut off at 0"),
    ("own - log_aggregate(z, mu, logvar)", "(own - log_aggregate(z, mu, logvar)).clip(0, np.log(len(mu)))", "Cut off"),
    (OWN, "[np.arange(len(z)), np.arange(len(z)) % len(mu)]", "number index[m]"),
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
    ("np.log(np.maximum(variances / (beta * s2), 1))", "np.log1p(variances / (beta * s2))", "never gets"),
    ("errors / s2 +", "errors +", "s2 is missing"),
    ("np.minimum(variances, beta * s2)", "0 * variances + beta * s2", "Every error"),
    (
        "    errors = np.minimum(variances, beta * s2)",
        "    errors = np.minimum(variances, beta * s2)[variances > beta * s2]",
        "still has to be decoded",
    ),
    (
        "    return 0.5 * (errors / s2 + np.log(2 * np.pi * s2)).sum()",
        "    D = 0.5 * (errors / s2 + np.log(2 * np.pi * s2)).sum()\n"
        "    return D + beta * frontier_rate(variances, s2, beta)",
        "D alone",
    ),
    ("variances / (beta * s2)", "variances * beta / s2", "not s2 / beta"),
    ("errors / s2 + np.log(2 * np.pi * s2)", "errors / s2", "constants of the Gaussian"),
    ("np.minimum(variances, beta * s2)", "beta * s2 * (variances > beta * s2)", "whole variance"),
)

EQUIVALENT = {
    "pixel_entropy: 1 -> 2 in return -(p * np.log(np.where(p > 0, p, 1))).sum() / len(x)": (
        "the logarithm stands beside a factor that is 0 there"
    ),
}
