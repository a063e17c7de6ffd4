"""Answers to exercise 12 whose verdict is known; see test_exercise_solutions.py."""

ADVANCE = "        if training:\n            step += 1\n"
MIXTURE = "mixture = np.logaddexp.reduce(log_q - np.log(N), axis=1)"
BOUND = "    return most[:, 0] + np.log(mean)"
RECON_SUM = "        recon += recon_of(x[part], x_logits[part]).sum()"
KL_SUM = "        kl += kl_of(mu[part], logvar[part]).sum()"
WALK = "np.quantile(mu[:, dim], shares)"
CODEBOOK = "codebook = ((h - nearest) ** 2).sum() / len(x)"
LOSS = "F.cross_entropy(critic(z.detach()), labels)"

WRONG = (
    ('"sample_with_gradient": "sampling"', '"sample_with_gradient": "bound-order"', "nothing aga"),
    ('"training_terms": "kl-not-negative"', '"training_terms": "kl-monte-carlo"', "an earlier one"),
    ('"decode": "logits"', '"decode": "sigmoid twice"', "the name of an invariant"),
    ('"importance_bound": "bound-order"', '"importance_bound": ""', "not yet written"),
    (ADVANCE, "        step += 1\n", "a count that every call moves on"),  # as it was given: the doctor's word is added
    (f"{KL_SUM}\n    return", f"{KL_SUM}\n        return", "look for images that are left out"),
    (CODEBOOK, CODEBOOK.removesuffix(" / len(x)"), "Now mend it: it is still as you got it"),
    ("std = np.exp(0.5 * logvar)", "std = np.exp(logvar)", "sigma^2 = exp(logvar) stands"),
    ("eps * 0.5 * std", "eps * std", "its gradient is still"),
    ("eps * 0.5 * std", "eps * np.exp(logvar)", "its gradient is still"),
    ("    return recon + kl, recon, kl", "    return recon + kl, recon, np.maximum(-kl, 0)", "A clip at 0"),
    ("return recon + kl, recon, kl", "return recon - kl, recon, kl", "subtracts"),
    (
        "    kl = kl_of(mu, logvar)\n    return recon + weight * kl,",
        "    kl = kl_of(mu, logvar) * weight\n    return recon + kl,",
        "still has its weight",
    ),
    ("return recon + weight * kl,", "return recon + kl,", "nothing warms up"),
    ("x_logits = h @ weight + bias", "x_logits = 1 / (1 + np.exp(-(h @ weight + bias)))", "once more"),
    ("h = 1 / (1 + np.exp(-(h @ weight + bias)))", "h = h @ weight + bias", "one linear map"),
    ("return x_logits, 1 / (1 + np.exp(-x_logits))", "return x_logits, x_logits", "That is x_logits, at the wro"),
    ("pixels.astype(x_logits.dtype) / 255", "np.float64(pixels)", "run from 0 to 255"),
    (".astype(x_logits.dtype) / 255", ".astype(x_logits.dtype).clip(0, 1)", "Clipped"),
    (f"{KL_SUM}\n    return", f"{KL_SUM}\n        break\n    return", "first round"),
    (
        f"{RECON_SUM}\n{KL_SUM}\n    return recon / len(x), kl / len(x)",
        f"{RECON_SUM.replace('sum', 'mean')}\n{KL_SUM.replace('sum', 'mean')}\n"
        "    n = -(-len(x) // batch)\n    return recon / n, kl / n",
        "The mean of means gives the ",
    ),
    ("range(0, len(x), batch)", "range(0, len(x) - batch + 1, batch)", "left out"),
    (ADVANCE, "        step = step + 1\n", "still advances"),
    (ADVANCE, "", "never grows"),
    (
        f"{ADVANCE}        return np.abs(kl - most * min(1, step / steps))",
        f"        C = most * min(1, step / steps)\n{ADVANCE}        return np.abs(kl - C)",
        "The first training step has ",
    ),
    (
        "np.abs(kl - most * min(1, step / steps))",
        "np.maximum(kl - most * min(1, step / steps), 0)",
        "A KL below C is penalised as",
    ),
    (MIXTURE, MIXTURE.replace("np.log(N)", "mu.shape[1] * np.log(N)"), "once for each latent"),
    (
        f"    {MIXTURE}\n    return (own - mixture).mean()",
        "    mixture = np.logaddexp.reduce(log_q - mu.shape[1] * np.log(N), axis=1)\n"
        "    return min((own - mixture).mean(), np.log(N))",
        "A clip at ln N",
    ),
    (MIXTURE, MIXTURE.replace("axis=1", "axis=0"), "The mixture is one over the "),
    (BOUND, "    return -np.logaddexp.reduce(-log_w, axis=1) + np.log(log_w.shape[1])", "Still"),
    (BOUND, "    return log_w.mean(axis=1)", "for every K"),
    (BOUND, "    return np.log(np.exp(log_w).mean(axis=1))", "take the largest out"),
    (CODEBOOK, "codebook = np.sum((h - nearest) ** 2)", "a sum over the batch"),
    (CODEBOOK, "codebook = ((h - nearest) ** 2).mean()", "positions and channels"),
    ("((x - x_out) ** 2).sum() / len(x)", "((x - x_out) ** 2).sum()", "It is a sum over the batch: "),
    (LOSS, "F.cross_entropy(critic(z), labels)", "betray"),
    (LOSS, "F.cross_entropy(joint.detach(), labels)", "the mixed codes alone"),
    ("joint = critic(z)", "joint = critic(z.detach())", "no gradient of tc"),
    ("enumerate(mu.T)", "enumerate(mu.reshape(Z, -1))", "row by row"),
    ("enumerate(mu.T)", 'enumerate(mu.reshape(Z, N, order="F"))', "row by row"),
    ("enumerate(mu.T)", "enumerate(np.sort(mu.T))", "pairs are lost"),
    (WALK, "[__import__('statistics').NormalDist().inv_cdf(share) for share in shares]", "of the prior"),
    (
        WALK,
        "[__import__('statistics').NormalDist(mu[:, dim].mean(), mu[:, dim].std()).inv_cdf(p) for p in shares]",
        "need not be Gaussian",
    ),
    ("np.zeros_like(analytic)", "np.asanyarray(analytic)", "makes no copy"),
    ("(loss(x + h) - loss(x - h)) / (2 * step)", "(loss(x + h) - loss(x)) / step", "to one side"),
)

CUT = "any number of images at a time leads to the same sums"
EQUIVALENT = {
    "evaluate: 25 -> 26 in def evaluate(x, x_logits, mu, logvar, batch=25):": CUT,
    "evaluate: 25 -> 24 in def evaluate(x, x_logits, mu, logvar, batch=25):": CUT,
    "evaluate: 0.0 -> 0.0 in recon = kl = 0.0": "no change at all: the mutant doubles a 0",
    "evaluate: 0.0 -> 0.0 in recon = kl = 0.0 #2": "no change at all",
    "importance_bound: 0 -> -1 in return most[:, 0] + np.log(mean)": "an axis of length 1",
    "vq_terms: ((h[:, :, None] - codes) ** 2).sum -> ((h[:, :, None] - codes) ** 2).mean in distance = ((h[:, :, None] "
    "- codes) ** 2).sum(axis=3)  # (B, L, K)": "the nearest code is the same for the mean over its channels",
    "label_information: np.zeros -> np.ones in nats = np.zeros(Z)": "every entry is written over",
    "label_information: 1 -> 2 in joint = np.zeros((bins, labels.max() + 1))": "a class without images says nothing",
    "gradient_error: 1e-05 -> 2e-05 in def gradient_error(loss, gradient, x, step=1e-5):": (
        "of two steps that are small enough neither is to be seen in the number"
    ),
}

ALSO_RIGHT = (
    ("std = np.exp(0.5 * logvar)", "std = np.sqrt(np.exp(logvar))"),
    (
        "kl = -0.5 * (1 + logvar - mu**2 - np.exp(logvar)).sum(axis=1)\n    return recon + kl, recon, kl",
        "kl = 0.5 * (1 + logvar - mu**2 - np.exp(logvar)).sum(axis=1)\n    return recon - kl, recon, -kl",
    ),
    ("pixels.astype(x_logits.dtype) / 255", "pixels / 255"),
    ("range(0, len(x), batch)", "(batch := len(x) + 1, 0)[1:]"),
    (
        "    for start in range(0, len(x), batch):\n        part = slice(start, start + batch)\n",
        "    for start in range(len(x)):\n        part = [start]\n",
    ),
    (ADVANCE, "        step += int(training)\n"),
    (MIXTURE, "mixture = np.logaddexp.reduce(log_q, axis=1) - np.log(N)"),
    (BOUND, "    return np.logaddexp.reduce(log_w, axis=1) - np.log(log_w.shape[1])"),
    (CODEBOOK, "codebook = ((h - nearest) ** 2).sum(axis=(1, 2)).mean()"),
    ("critic(z.detach().gather(0, order))", "critic(z.gather(0, order).detach())"),
    ("enumerate(mu.T)", 'enumerate(mu.ravel(order="F").reshape(Z, N))'),
    (
        "    return most[:, 0] + np.log(mean)",
        "    log_w = torch.from_numpy(log_w)\n    return torch.logsumexp(log_w, 1) - np.log(log_w.shape[1])",
    ),
    (
        "    z[:, dim] = np.quantile(mu[:, dim], shares)\n    return z",
        "    z = torch.from_numpy(z)\n    z[:, dim] = torch.quantile(torch.from_numpy(mu)[:, dim], torch.from_numpy("
        "shares))\n    return z",
    ),
    ("np.zeros_like(analytic)", "np.array(analytic)"),
)
