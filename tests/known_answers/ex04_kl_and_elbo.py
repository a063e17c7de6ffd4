"""Answers to exercise 4 whose verdict is known; see test_exercise_solutions.py."""

KL = "0.5 * (distance - 1 - logvar + logvar_p).sum(axis=-1)"
DISTANCE = "distance = ((mu - mu_p) ** 2 + np.exp(logvar)) / np.exp(logvar_p)"
MEAN = "(log_q - log_p).sum(axis=-1).mean(axis=0)"
BCE = "np.maximum(x_logits, 0) - x_logits * x + np.log1p(np.exp(-np.abs(x_logits)))"
SIGMOID = "-(x * np.log({s}) + (1 - x) * np.log(1 - {s}))"
ADDED = SIGMOID.replace("})", "} + {least})").replace("{s}", "(1 / (1 + np.exp(-x_logits)))")
RECON_SUM = "bce.sum(axis=(1, 2, 3))"

WRONG = (
    (KL, KL.replace(" - 1", ""), "constant -1"),
    (
        DISTANCE,
        DISTANCE.replace("np.exp(logvar)", "np.exp(2 * logvar) + logvar - 2 * logvar"),
        "stands where sigma = exp(logvar / 2)",
    ),
    (DISTANCE, DISTANCE.replace("np.exp(logvar)", "np.exp(0.5 * logvar)"), "which is std"),
    (DISTANCE, DISTANCE.replace("np.exp(logvar)", "np.exp(2 * logvar)"), "do not square"),
    (KL, f"{KL} / np.log(2)", "in bits, from log2"),
    (KL, KL.replace("- logvar ", "- logvar / 2 "), "half as large as it should be: -logvar / 2"),
    (KL, "0.5 * (((mu - mu_p) ** 2 + np.exp(logvar_p)) / np.exp(logvar) - 1 + logvar - logvar_p).sum(-1)", "direction"),
    (KL, "0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=-1)", "p is still the prior"),
    (DISTANCE, "distance = (mu - mu_p) ** 2 + np.exp(logvar - logvar_p)", "The distance of the means co"),
    (KL, KL.replace(" + logvar_p", ""), "A term is missing: log std_p"),
    (KL, KL.replace("- logvar + logvar_p", "+ logvar - logvar_p"), "sign turned: -logvar / 2"),
    ("surprise.sum(axis=(1, 2, 3))", "bernoulli_recon(x, x)", "takes x for the logit"),
    (RECON_SUM, f"{RECON_SUM} / np.log(2)", "in bits, from log2"),
    (BCE, SIGMOID.format(s="(1 / (1 + np.exp(-x_logits)))").replace("np.log", "np.log2"), "in bits, from log2"),
    (MEAN, f"{MEAN} / np.log(2)", "in bits, from log2"),
    ("z = mu + np.exp(0.5 * logvar)", "z = mu + np.exp(logvar)", "z = mu + exp"),
    ("(eps**2 + logvar)", "eps**2", "A term is missing: -log std in"),
    ("log_p = -0.5 * ((z - mu_p) ** 2 / np.exp(logvar_p) + logvar_p)", "log_p = -0.5 * z**2", "p is still the prior"),
    ("np.exp(logvar_p) + logvar_p)", "np.exp(logvar_p))", "-log std_p in log p"),
    (MEAN, "gaussian_kl(mu, logvar)", "mean over the samples"),
    (BCE, SIGMOID.format(s="(1 / (1 + np.exp(-x_logits)))"), "where the logit is large"),
    (BCE, "x_logits - x_logits * x + np.log1p(np.exp(-x_logits))", "in a form for both signs"),
    (BCE, "np.log(1 + np.exp(x_logits)) - x_logits * x", "for both signs"),
    (BCE, SIGMOID.format(s="(1 / (1 + np.exp(-x_logits))).clip(1e-7, 1 - 1e-7)"), "clamped before the log"),
    *((BCE, ADDED.format(least=least), "number added to it") for least in ("1e-7", "1e-8", "1e-10")),
    (BCE, "x * np.logaddexp(0, -x_logits)", "says something too"),
    (BCE, BCE.replace("- x_logits * x", "- x_logits * (1 - x)"), "exchanged"),
    (
        "-bernoulli_recon(x, x_logits) - gaussian_kl",
        "-bernoulli_recon(x, x_logits) + gaussian_kl",
        "sign turned: the KL, which lowers the bound",
    ),
    ("np.where(x > 0, x, 1)", "x + 1e-8", "moves the answer"),
    ("surprise = -x", "x = x.clip(1e-6, 1 - 1e-6)\n    surprise = -x", "moves the answer"),
    (" - (1 - x) * np.log(np.where(x < 1, 1 - x, 1))", "", "one half only"),
)

SURPRISE = "surprise = -x * np.log(np.where(x > 0, x, 1)) - (1 - x) * np.log(np.where(x < 1, 1 - x, 1))"
EQUIVALENT = {
    f"gaussian_kl: -1 -> 1 in return {KL}": "of two axes the last is axis 1",
    f"entropy_floor: 1 -> 2 in {SURPRISE}": "the number inside the log is multiplied by 0",
    f"entropy_floor: 1 -> 2 in {SURPRISE} #5": "the number inside the log is multiplied by 0",
}

ALSO_RIGHT = (
    (
        DISTANCE,
        "c0 = ((mu - mu_p) ** 2 / np.exp(logvar_p) - logvar + logvar_p) / 2\n    c2 = np.expm1(logvar - logvar_p) / 2\n"
        "    return (c0 + c2).sum(axis=-1)",
    ),
    (BCE, "np.logaddexp(0, x_logits) - x_logits * x"),
    (
        "    bce = " + BCE,
        "    import torch\n    import torch.nn.functional as F\n    pair = torch.tensor(x_logits), torch.tensor(x)\n"
        '    bce = F.binary_cross_entropy_with_logits(*pair, reduction="none")',
    ),
    ("-0.5 * (eps**2 + logvar) ", "-0.5 * ((z - mu) ** 2 / np.exp(logvar) + logvar) "),
    (
        "-bernoulli_recon(x, x_logits) - gaussian_kl(mu, logvar)",
        "np.float32(-bernoulli_recon(x, x_logits) - gaussian_kl(mu, logvar))",
    ),
    ("np.log(np.where(x > 0, x, 1))", "np.nan_to_num(np.log(x), neginf=0)"),
)
