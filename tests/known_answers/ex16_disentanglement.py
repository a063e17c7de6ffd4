"""Answers to exercise 16 whose verdict is known; see test_exercise_solutions.py."""

TC = "return kl(p, product(p))"
INFORMATION = "np.mean([kl(one, z) for one in q])"
OF_Z = "total_correlation(z), kl(product(z), prior)"
SHARE = "told(v, z) / told(v, v)"
TABLE = "return np.array([[told(v, z) / told(v, v) for z in codes.T] for v in factors.T])"
RANKED = "ranked = np.sort(share, axis=1)"
GAP = "return np.mean(ranked[:, -1] - ranked[:, -2])"
TURNED = "return R @ V, R @ c, W @ R.T"

WRONG = (
    (TC, "return kl(product(p), p)", "the other way round"),
    (TC, "return kl(p, product(p)) / np.log(2)", "in bits"),
    (TC, "return kl(p, product(p)) - np.sum(p * np.log(np.where(p > 0, p, 1)))", "that of the whole table"),
    ("range(p.ndim):\n", "range(1, p.ndim):\n", "A marginal is missing"),
    ("axis=tuple(i for i in range(p.ndim) if i != d)", "axis=d", "all the OTHER axes"),
    (INFORMATION, "np.mean([kl(one, prior) for one in q])", "That is a KL to the prior wi"),
    (INFORMATION, "np.mean([kl(z, one) for one in q])", "The KL goes the other way: f"),
    (
        f"return {INFORMATION}, {OF_Z}",
        f"return total_correlation(z), {INFORMATION}, kl(product(z), prior)",
        "That is total correlation, a",
    ),
    (OF_Z, "np.mean([total_correlation(one) for one in q]), kl(product(z), prior)", "asked is that of q(z)"),
    (OF_Z, "kl(z, prior), kl(product(z), prior)", "That is a KL to the prior wi"),
    (OF_Z, "total_correlation(z), kl(z, prior)", "That is a KL to the prior wi"),
    (OF_Z, "total_correlation(z), np.mean([kl(product(one), prior) for one in q])", "That is the mean for q(z|x) "),
    (OF_Z, "total_correlation(z), kl(prior, product(z))", "The KL goes the other way: f"),
    (f"return {INFORMATION}, {OF_Z}", f"return {INFORMATION} + kl(z, prior)", "3 values"),
    (SHARE, "told(v, z)", "In nats"),
    (SHARE, "told(v, z) / told(z, z)", "Divide by the entropy of the"),
    (SHARE, "told(v, z) / np.log(len(np.unique(v)))", "Divide by the entropy of the"),
    (SHARE, "told(v, z) / np.sqrt(told(v, v) * told(z, z))", "Divide by the entropy of the"),
    ("np.add.at(counts, (a, b), 1)", "counts[a, b] = len(a) / len(set(zip(a, b)))", "counts once"),
    (TABLE, f"{TABLE}.T", "The right sizes in another o"),
    (GAP, "return np.mean(ranked[:, -1])", "The largest share alone"),
    (GAP, "return ranked[:, -1] - ranked[:, -2]", "A gap for each factor"),
    (RANKED, "ranked = np.sort(share, axis=0).T", "within each dimension"),
    (TURNED, "return R.T @ V, R.T @ c, W @ R", "Turned clockwise"),
    (TURNED, "return R @ V, c, W @ R.T", "c is part of the code"),
    (TURNED, "return R @ V, R @ c, W @ R", "to be turned back"),
    ("R = np", "angle = np.radians(angle)\n    R = np", "The angle is in radians"),
    (TURNED, "return R @ V, R @ c", "3 values"),
    (TURNED, "return 2 * R @ V, 2 * R @ c, W @ R.T / 2", "Exactly twice"),
)

ALSO_RIGHT = (
    (OF_Z, "total_correlation(z), kl(z, prior) - total_correlation(z)"),
    (RANKED, "ranked = np.partition(share, -2, axis=1)"),
    (TURNED, "return R @ V, c @ R.T, (R @ W.T).T"),
)

MORE = "rows and columns of counts that stay 0 add nothing"
EQUIVALENT = {
    "information.told: 1 -> 2 in counts = np.zeros((a.max() + 1, b.max() + 1))": MORE,
    "information.told: 1 -> 2 in counts = np.zeros((a.max() + 1, b.max() + 1)) #2": MORE,
    "information.told: return total_correlation(counts / len(a)) -> return -total_correlation(counts / len(a)) in "
    "return total_correlation(counts / len(a))": "a quotient of two, and both turn their signs",
}
