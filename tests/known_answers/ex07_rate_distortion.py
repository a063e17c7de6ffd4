"""Answers to exercise 7 whose verdict is known; see test_exercise_solutions.py."""

SAFE = "np.log(np.where(p > 0, p, 1))"
MIXTURE = "np.logaddexp.reduce(log_q, axis=1) - np.log(len(mu))"
SQUARES = "* np.exp(-logvar)"
OWN = "[np.arange(len(z)), index]"

WRONG = (
    (SAFE, "np.log(p)", "0 * log(0) is nan"),
    ("np.stack([x, 1 - x])", "x", "dark half"),
    (SAFE + ").sum() / len(x)", SAFE + ").sum(axis=0).mean()", "not per pixel"),
    (SAFE, SAFE.replace("np.log(", "np.log2("), "bits"),
    ("x.mean(axis=0, keepdims=True)", "x", "first the mean image"),
    (
        "return pixel_entropy(x.mean(axis=0, keepdims=True))",
        "mean = x.mean(axis=0)\n    return -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)).sum()",
        "dark in all images",
    ),
    ("x.mean(axis=0, keepdims=True)", "0 * x + 0.5", "knows nothing"),
    ("x.mean(axis=0, keepdims=True)", "x.mean(axis=(2, 3), keepdims=True)", "axis 0"),
    ("x.mean(axis=0, keepdims=True)", "np.full_like(x, x.mean())", "leaves each pixel its own"),
    (SQUARES, "* np.exp(-2 * logvar)", "do not square"),
    (SQUARES, "* np.exp(-0.5 * logvar)", "not by the standard deviation"),
    ("squares + logvar + ", "squares + 0.5 * logvar + ", "logvar, whole"),
    ("squares + logvar + ", "squares - logvar + ", "sign of logvar"),
    ("(z[:, None] - mu) ** 2", "(z[:, None] - mu)", "to be squared"),
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
    ("- np.log(len(mu))", "- np.log(len(z))", "ln M"),
    (MIXTURE, MIXTURE + " - log_q.max(axis=1)", "not put back"),
    (MIXTURE, "(most := log_q.max()) + np.log(np.exp(log_q - most).mean(axis=1))", "Each row has its own"),
    (MIXTURE, "(most := log_q.max(axis=1, keepdims=True)) + np.log(np.exp(log_q - most).mean(axis=1))", "make (M, M)"),
    (
        "log_q = log_densities(z, mu, logvar)\n    return " + MIXTURE,
        "variance = np.exp(logvar).mean(axis=0) + mu.var(axis=0)\n"
        "    return log_densities(z, mu.mean(axis=0, keepdims=True), np.log(variance)[None])[:, 0]",
        "as many humps",
    ),
    (MIXTURE, "np.logaddexp.reduce(log_q, axis=0) - np.log(len(mu))", "over the codes"),
    (MIXTURE, "np.logaddexp.reduce(log_q, axis=0) - np.log(len(z))", "over the codes"),
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
    (OWN, "[:, index]", "M columns for every code"),
    ("own - log_aggregate(z, mu, logvar)", "own - log_aggregate(z, mu[index], logvar[index])", "all N posteriors"),
    (
        "return own - log_aggregate(z, mu, logvar)",
        "log_q = log_densities(z, mu, logvar).astype(float)\n    log_q[np.arange(len(z)), index] = -np.inf\n"
        "    return own - np.logaddexp.reduce(log_q, axis=1) + np.log(len(mu) - 1)",
        "belongs to the mixture",
    ),
    ("np.log(np.maximum(variances / (beta * s2), 1))", "np.log(variances / (beta * s2))", "negative"),
    ("variances / (beta * s2)", "variances / (beta / s2)", "not a quotient"),
    ("variances / (beta * s2)", "variances / (2 * beta * s2)", "which cancels"),
    (
        "0.5 * np.log(np.maximum(variances / (beta * s2), 1)).sum()",
        "max(0.5 * np.log(variances / (beta * s2)).sum(), 0)",
        "not for their sum",
    ),
    ("variances / (beta * s2), 1", "variances / (beta * s2**2), 1", "variance already"),
    ("np.log(np.maximum(variances / (beta * s2), 1))", "np.log1p(variances / (beta * s2))", "never gets"),
    ("errors / s2 +", "errors +", "s2 is missing"),
    ("errors / s2 +", "errors / (beta * s2) +", "to the level alone"),
    ("np.log(2 * np.pi * s2)", "np.log(2 * np.pi * beta * s2)", "also in the constants"),
    ("0.5 * (errors / s2 +", "(0.5 * errors / s2 +", "before the constants"),
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
    ("return 0.5 * np.log(np.max", "return beta * 0.5 * np.log(np.max", "not a factor"),
    ("errors / s2 + np.log(2 * np.pi * s2)", "errors / s2", "constants of the Gaussian"),
    ("np.minimum", "np.maximum", "at most its"),
    (
        "(errors / s2 + np.log(2 * np.pi * s2))",
        "(errors / s2 + np.log(2 * np.pi * s2) * (variances > beta * s2))",
        "its constant all the same",
    ),
    ("np.minimum(variances, beta * s2)", "beta * s2 * (variances > beta * s2)", "whole variance"),
    ("0.5 * (errors / s2 +", "0.5 * (2 * errors +", "not divided by 2 s2"),
)

EQUIVALENT = {
    "pixel_entropy: 1 -> 2 in return -(p * np.log(np.where(p > 0, p, 1))).sum() / len(x)": (
        "the logarithm stands beside a factor that is 0 there"
    ),
}
