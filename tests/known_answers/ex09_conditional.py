"""Answers to exercise 9 whose verdict is known; see test_exercise_solutions.py."""

MARGINAL = "highest[:, 0] + np.log(np.exp(log_p - highest).mean(axis=1))"
GAIN = "log_p[np.arange(len(y)), y] - log_p_x(log_p)"
POSTERIOR = "np.exp(log_p - log_p_x(log_p)[:, None]) / log_p.shape[1]"
COST = "0.5 * (p * (mu - mean) ** 2 / var).sum(axis=(1, 2))"

HOT = "F.one_hot(y, classes).to(x)[:, :, None, None].expand(-1, -1, 28, 28)"
IN = "torch.cat([x, maps], dim=1)"
BESIDE = "torch.cat([z, F.one_hot(y, classes).to(z)], dim=1)"
LOGVAR = 'F.linear(h, params["encoder.logvar.weight"], params["encoder.logvar.bias"])'
Z = "z = mu + torch.exp(0.5 * logvar) * eps"
BCE = 'F.binary_cross_entropy_with_logits(x_logits, x, reduction="none").sum(dim=(1, 2, 3))'
KL = "0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar).sum(dim=1)"
LOSS = "(recon + kl).mean()"

WRONG = (
    (HOT, f"0 * {HOT}", "forgotten"),
    (HOT, "y.to(x)[:, None, None, None].expand(-1, classes, 28, 28)", "not twice"),
    (HOT, f"{HOT} * y[:, None, None, None]", "not twice"),
    (IN, "torch.cat([maps, x], dim=1)", "x is first"),
    (HOT, HOT.replace("(y, classes)", "(y)"), "expected input"),
    (f"return mu, {LOGVAR}", f"return {LOGVAR}, mu", "That is logvar, at the wrong"),
    (BESIDE, f"{BESIDE} * torch.cat([torch.ones_like(z), torch.zeros(classes).expand(len(z), -1)], 1)", "conditional"),
    (BESIDE, "torch.cat([z, y[:, None].to(z).expand(-1, classes)], dim=1)", "not twice"),
    (BESIDE, "torch.cat([F.one_hot(y, classes).to(z), z], dim=1)", "z is first"),
    (Z, "z = mu + torch.exp(logvar) * eps", "the variance"),
    (Z, "z = mu", "noise is not used"),
    (Z, "z = mu + torch.exp(0.5 * logvar) * eps[:, :1]", "share one"),
    (BCE, BCE.replace("(x_logits,", "(x_logits.sigmoid(),"), "sigmoid too many"),
    (BCE, "((x - x_logits.sigmoid()) ** 2).sum(dim=(1, 2, 3))", "squared error"),
    (BCE, f"{BCE}.mean()", "An axis is missing: does a s"),
    (KL, KL.replace(" - 1", ""), "constant -1"),
    (KL, "0.5 * (mu**2 + torch.exp(2 * logvar) - 1 - 2 * logvar).sum(dim=1)", "not log std"),
    (LOSS, "(recon - kl).mean()", "A term has its sign turned: the KL."),
    (LOSS, "(recon / 784 + kl).mean()", "beta of 784"),
    (LOSS, "recon.mean()", "A term is missing: the KL."),
    (LOSS, f"{LOSS}.detach()", "NumPy, .item(), float(), .de"),
    (Z, f"{Z.replace('mu +', 'mu.detach() +')}", "gradient of objective's loss by"),
    (MARGINAL, "log_p.mean(axis=1)", "mean of the logs"),
    (GAIN, "log_p_x(log_p) - log_p[np.arange(len(y)), y]", "sign"),
    (POSTERIOR, "np.exp(log_p - log_p.max(axis=0)) / np.exp(log_p - log_p.max(axis=0)).sum(axis=0)", "columns"),
    (COST, COST.replace("0.5 * ", ""), "1/2"),
    (COST, COST.replace("/ var", "/ var**2"), "not squared"),
    ("(p * mu).sum(axis=1, keepdims=True)", "mu.mean(axis=1, keepdims=True)", "plain mean"),
    ("label_posterior(log_p)[:, :, None]", "1 / log_p.shape[1]", "not all alike"),
)

EQUIVALENT = {
    f"log_p_x: 0 -> -1 in return {MARGINAL}": "`highest` has one column, which is the first and the last",
}

ALSO_RIGHT = (
    (HOT, "torch.eye(classes)[y].to(x)[:, :, None, None] * torch.ones_like(x)"),
    (
        KL,
        "torch.distributions.kl_divergence(torch.distributions.Normal(mu, (logvar / 2).exp()), "
        "torch.distributions.Normal(0 * mu, 1 + 0 * mu)).sum(dim=1)",
    ),
    (BCE, "(F.softplus(x_logits) - x_logits * x).flatten(1).sum(dim=1)"),
    (MARGINAL, "np.logaddexp.reduce(log_p, axis=1) - np.log(log_p.shape[1])"),
    (POSTERIOR, "(lambda e: e / e.sum(axis=1, keepdims=True))(np.exp(log_p - log_p.max(axis=1)[:, None]))"),
    (COST, "0.5 * (((p * mu**2).sum(axis=1) - mean[:, 0]**2) / var).sum(axis=1)"),
)
