"""Answers to exercise 1 whose verdict is known; see test_exercise_solutions.py."""

ROOT = "np.sqrt(2 * std1 * std2 / v)"
SQUARES = "((draws[:, None] - mu) ** 2)"
EMPTY = "(distance.min(axis=1) > radius).mean()"
APART = "np.exp(-np.log(overlaps.mean(axis=1)).mean())"

WRONG = (
    (f"np.sqrt({SQUARES}.sum(axis=-1))", f"{SQUARES}.sum(axis=-1)", "squared distance"),
    (EMPTY, "(distance > radius).mean()", "Of all pairs"),
    (ROOT, "(2 * std1 * std2 / v)", "In front of the exp"),
    (f"{ROOT} * ", "", "the integral"),
    ("(4 * v)", "(2 * v)", "stands 4 v"),
    ("(4 * v)", "4 * v", "all of it below"),
    ("v = std1**2 + std2**2", "v = std1 + std2", "sum of the squares"),
    (".prod(axis=-1)", ".mean(axis=-1)", "multiply them"),
    (APART, "-np.log(overlaps.mean(axis=1)).mean()", "logarithm of the right one"),
    (APART, APART.replace("-np.log", "np.log"), "sign is turned"),
    (APART, "1 / overlaps.mean()", "or their inverses"),
    (APART, "np.exp(-np.log(overlaps).mean())", "Single overlaps"),
)

EQUIVALENT = {
    f"holes: distance.min(axis=1) > radius -> distance.min(axis=1) >= radius in return {EMPTY}": (
        "no mean lies at just this distance"
    ),
    f"told_apart: 1 -> 0 in return {APART}": "the overlap of one with another is that of the other with the one",
}

ALSO_RIGHT = (
    (
        "(np.sqrt(2 * std1 * std2 / v) * np.exp(-((mu1 - mu2) ** 2) / (4 * v))).prod(axis=-1)",
        "np.exp((0.5 * np.log(2 * std1 * std2 / v) - (mu1 - mu2) ** 2 / (4 * v)).sum(axis=-1))",
    ),
    (EMPTY, "1 - (distance <= radius).any(axis=1).mean()"),
    (APART, "len(overlaps) / overlaps.sum(axis=1).prod() ** (1 / len(overlaps))"),
)
