"""Answers to exercise 9 whose verdict is known; see test_exercise_solutions.py."""

MAPS = """    maps = np.zeros((B, classes, H, W), x.dtype)
    maps[np.arange(B), y] = 1
"""
BESIDE = "np.concatenate([z, np.eye(classes, dtype=z.dtype)[y]], axis=1)"
GRID = "np.stack([decode(z, np.full(len(z), label)) for label in range(classes)], axis=1)"
MARGINAL = "highest[:, 0] + np.log(np.exp(log_p - highest).mean(axis=1))"
GAIN = "log_p[np.arange(len(y)), y] - log_p_x(log_p)"
POSTERIOR = "np.exp(log_p - log_p_x(log_p)[:, None]) / log_p.shape[1]"
COST = "0.5 * (p * (mu - mean) ** 2 / var).sum(axis=(1, 2))"
NUMBER = "    maps = np.broadcast_to(y[:, None, None, None].astype(x.dtype), (B, 1, H, W))\n"

WRONG = (
    (MAPS, NUMBER, "not twice"),
    (MAPS, f"    classes = y.max() + 1\n{MAPS}", "lacks the last class"),
    ("np.concatenate([x, maps], axis=1)", "np.concatenate([maps, x], axis=1)", "x is first"),
    ("maps[np.arange(B), y] = 1", "maps[np.arange(B), y, 0, 0] = 1", "every position"),
    ("maps[np.arange(B), y] = 1", "maps[:, y] = 1", "expected"),
    ("np.concatenate([x, maps], axis=1)", "x", "forgotten"),
    (BESIDE, "z", "nothing is conditional"),
    (BESIDE, "np.concatenate([z, y[:, None].astype(z.dtype)], axis=1)", "one number"),
    (BESIDE, BESIDE.replace("z, np.eye(classes, dtype=z.dtype)[y]", "np.eye(classes)[y], z"), "z is first"),
    (GRID, GRID.replace("axis=1", "axis=0"), "other way round"),
    (GRID, GRID.replace("label))", "label + 1))"), "from 0"),
    (
        f"return {GRID}",
        "flat = decode(np.repeat(z, classes, axis=0), np.repeat(np.arange(classes), len(z)))\n"
        "    return flat.reshape(len(z), classes, *flat.shape[1:])",
        "np.tile",
    ),
    (GRID, GRID.replace("np.full(len(z), label)", "np.eye(classes)[[label] * len(z)]"), "whole labels"),
    (MARGINAL, "np.log(np.exp(log_p).mean(axis=1))", "exp(-1000) is 0"),
    (MARGINAL, MARGINAL.replace("mean", "sum"), "log of the sum"),
    (MARGINAL, MARGINAL.replace("mean(axis=1))", "sum(axis=1) / 10)"), "ten classes alone"),
    (MARGINAL, "log_p.mean(axis=1)", "mean of the logs"),
    (MARGINAL, "highest[:, 0]", "largest entry alone"),
    (MARGINAL, MARGINAL.replace("highest[:, 0] + ", ""), "added again"),
    (GAIN, f"{GAIN} - np.log(log_p.shape[1])", "log p(y|x) - log p(y)"),
    (GAIN, "np.log(label_posterior(log_p)[np.arange(len(y)), y] * log_p.shape[1])", "becomes 0"),
    (GAIN, f"{GAIN} + np.log(10 / log_p.shape[1])", "ten classes alone"),
    (GAIN, "log_p.max(axis=1) - log_p_x(log_p)", "fits best"),
    (GAIN, "log_p_x(log_p) - log_p[np.arange(len(y)), y]", "sign"),
    (GAIN, "log_p[:, y] - log_p_x(log_p)[:, None]", "(B, B)"),
    (GAIN, f"({GAIN}).mean()", "comes later"),
    (POSTERIOR, POSTERIOR.replace(" / log_p.shape[1]", ""), "1 / classes"),
    (POSTERIOR, "np.exp(log_p - log_p.max(axis=0)) / np.exp(log_p - log_p.max(axis=0)).sum(axis=0)", "columns"),
    (POSTERIOR, "np.exp(log_p) / np.exp(log_p).sum(axis=1, keepdims=True)", "exp(-1000) is 0"),
    (COST, COST.replace("0.5 * ", ""), "1/2"),
    (COST, COST.replace("/ var", "/ var**2"), "not squared"),
    ("(p * mu).sum(axis=1, keepdims=True)", "mu.mean(axis=1, keepdims=True)", "plain mean"),
    ("label_posterior(log_p)[:, :, None]", "1 / log_p.shape[1]", "not all alike"),
    ("label_posterior(log_p)[:, :, None]", "np.exp(log_p)[:, :, None]", "yours are p(x|y)"),
    (COST, f"{COST} / mu.shape[2]", "do not average"),
)

EQUIVALENT = {
    f"log_p_x: 0 -> -1 in return {MARGINAL}": "`highest` has one column, which is the first and the last",
}

ALSO_RIGHT = (
    (
        MAPS,
        "    import torch\n\n    hot = torch.nn.functional.one_hot(torch.from_numpy(y), classes)[:, :, None, None]\n"
        "    maps = hot.expand(-1, -1, H, W).numpy()\n",
    ),
    (
        f"return {GRID}",
        "flat = decode(np.repeat(z, classes, axis=0), np.tile(np.arange(classes), len(z)))\n"
        "    return flat.reshape(len(z), classes, *flat.shape[1:])",
    ),
    (MARGINAL, "np.logaddexp.reduce(log_p, axis=1) - np.log(log_p.shape[1])"),
    (POSTERIOR, "(lambda e: e / e.sum(axis=1, keepdims=True))(np.exp(log_p - log_p.max(axis=1)[:, None]))"),
    (COST, "0.5 * (((p * mu**2).sum(axis=1) - mean[:, 0]**2) / var).sum(axis=1)"),
)
