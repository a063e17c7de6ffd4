"""Answers to exercise 11 whose verdict is known; see test_exercise_solutions.py."""

TURN = "return eigenvalues[::-1], axes[:, ::-1]"
LIKELY = "d * np.log(2 * np.pi) + np.log(eigenvalues[:q]).sum() + (d - q) * np.log(s2) + d"
KEPT = "d, s2 = len(eigenvalues), eigenvalues[q:].mean()"
COLUMNS = "axes[:, :q] * np.sqrt(eigenvalues[:q] - s2)"
INVERSE = "np.linalg.inv(np.eye(W.shape[1]) + W.T @ W / s2)"
MEANS = "(x - b) @ W @ covariance / s2"
GAP = "0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])"
RATE = "0.5 * np.log(np.maximum(kept / level, 1)).sum()"
ERROR = "np.minimum(kept, level).sum() + eigenvalues[q:].sum()"
LEVEL = "level, kept = beta * s2, eigenvalues[:q]"
SMALLEST = "min(eigenvalues[k:].sum() / (d - beta * k) for k in range(q + 1) if beta * k < d)"

WRONG = (
    (TURN, "return eigenvalues, axes", "smallest comes first"),
    ("centred / len(x)", "centred / max(len(x) - 1, 1)", "N - 1"),
    ("x - x.mean(axis=0)", "x", "mean is not taken off"),
    (TURN, "return eigenvalues[::-1], axes", "not the columns"),
    (TURN, "return eigenvalues[::-1], axes[:, ::-1].T", "in the rows"),
    (TURN, "return eigenvalues[::-1]", "2 values"),
    (KEPT, KEPT.replace("mean", "sum"), "s2 is the mean of the discar"),
    (KEPT, KEPT.replace(".mean()", ".sum() / len(eigenvalues)"), "s2 is the mean of the discar"),
    (LIKELY, LIKELY.removesuffix(" + d"), "A term is missing: d"),
    (LIKELY, LIKELY.replace("d * np.log(2 * np.pi) + ", ""), "A term is missing: d ln(2 pi)."),
    (COLUMNS, "axes[:, :q] * np.sqrt(eigenvalues[:q])", "noise's already"),
    (COLUMNS, "axes[:, :q]", "PCA's basis"),
    (COLUMNS, f"({COLUMNS})[:, ::-1]", "in another order"),
    (INVERSE, "np.linalg.pinv(W.T @ W / s2)", "prior's I"),
    (
        f"{INVERSE}\n    return {MEANS}, covariance",
        f"{INVERSE}\n    return {MEANS}, np.linalg.inv(covariance)",
        "is its inverse",
    ),
    (INVERSE, "np.diag(1 / np.diag(np.eye(W.shape[1]) + W.T @ W / s2))", "Only the diagonal"),
    (MEANS, "(x - b) @ np.linalg.pinv(W).T", "least squares"),
    (
        GAP,
        "0.5 * (np.log(np.diag(np.linalg.inv(precision))).sum() + np.linalg.slogdet(precision)[1])",
        "exact posterior is not the best",
    ),
    (RATE, "0.5 * np.log(kept / level).sum()", "A unit below the water is sw"),
    (ERROR, "np.minimum(kept, level).sum()", "axes is missing"),
    (LEVEL, LEVEL.replace("[:q]", "") + "\n    q = len(kept)", "only q latents"),
    (ERROR, "np.minimum(eigenvalues, level).sum()", "What is switched off or disc"),
    (ERROR, "(level * (kept > level)).sum() + eigenvalues[q:].sum()", "without error"),
    (SMALLEST, "eigenvalues[q:].sum() / (d - beta * q)", "for active"),
)

EQUIVALENT = {
    f"learned_s2: beta * k < d -> beta * k <= d in return {SMALLEST}": (
        "where beta k = d the quotient is infinite, and never the smallest"
    ),
}

ALSO_RIGHT = (
    (
        "eigenvalues, axes = np.linalg.eigh(centred.T @ centred / len(x))\n    " + TURN,
        "_, stretch, axes = np.linalg.svd(centred.astype(float), full_matrices=True)\n"
        "    return np.append(stretch, np.zeros(x.shape[1] - len(stretch))) ** 2 / len(x), axes.T",
    ),
    (
        f"return {SMALLEST}",
        "s2 = 1.0\n    for _ in range(1000):\n        s2 = water_filling(eigenvalues, q, s2, beta)[1] / d\n"
        "    return s2",
    ),
    (
        f"covariance = {INVERSE}\n    return {MEANS}, covariance",
        "gain = np.linalg.inv(W @ W.T + s2 * np.eye(len(W))) @ W\n    return (x - b) @ gain, "
        "np.eye(W.shape[1]) - W.T @ gain",
    ),
)
