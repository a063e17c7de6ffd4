"""Answers to exercise 1 whose verdict is known; see test_exercise_solutions.py."""

ROOT = "np.sqrt(2 * std1 * std2 / v)"
SECOND = "(mu**2 + std**2).mean(axis=0)"

WRONG = (
    (ROOT, "(2 * std1 * std2 / v)", "root is missing"),
    ("(4 * v)", "(2 * v)", "not 2 v"),
    ("-((mu1 - mu2) ** 2)", "-np.abs(mu1 - mu2)", "must be squared"),
    ("-((mu1 - mu2) ** 2)", "-(mu1 - mu2)", "must be squared"),
    ("(4 * v)", "4 * v", "then multiplies"),
    ("v = std1**2 + std2**2", "v = std1 + std2", "sum of the squares"),
    (".prod(axis=-1)", ".mean(axis=-1)", "multiply them"),
    (".prod(axis=-1)", ".prod()", "last axis only"),
    ("    np.fill_diagonal(distance, np.inf)\n", "", "its own nearest neighbour"),
    ("== labels).mean()", "== labels).sum()", "divide by it"),
    ("return (labels[", "return 100 * (labels[", "In percent"),
    (
        "    np.fill_diagonal(distance, np.inf)\n    return (labels[distance.argmin(axis=1)]",
        "    return (labels[distance.argmax(axis=1)]",
        "farthest",
    ),
    (SECOND, "((mu + std * np.random.normal(size=mu.shape)) ** 2).mean(axis=0)", "noise is drawn"),
    (SECOND, "(mu**2).mean(axis=0)", "noise is missing"),
    (SECOND, "mu.var(axis=0) + (std**2).mean(axis=0)", "That is the variance"),
    (SECOND, "(mu**2 + std**2).mean(axis=1)", "over the images"),
    (SECOND, "(mu**2 + std).mean(axis=0)", "not its square"),
)

SQUARES = "((mu[:, None] - mu[None]) ** 2)"
EQUIVALENT = {
    f"neighbours_agree: {SQUARES}.sum -> {SQUARES}.mean in distance = {SQUARES}.sum(axis=-1)  # (N, N)": (
        "the same images are nearest by the mean of the squares"
    ),
    "neighbours_agree: 1 -> 0 in return (labels[distance.argmin(axis=1)] == labels).mean()": (
        "the distances are symmetric"
    ),
}

ALSO_RIGHT = (
    (
        "(np.sqrt(2 * std1 * std2 / v) * np.exp(-((mu1 - mu2) ** 2) / (4 * v))).prod(axis=-1)",
        "np.exp((0.5 * np.log(2 * std1 * std2 / v) - (mu1 - mu2) ** 2 / (4 * v)).sum(axis=-1))",
    ),
    ("distance.argmin(axis=1)", "np.argsort(distance, axis=1)[:, 0]"),
    (SECOND, "mu.var(axis=0) + mu.mean(axis=0) ** 2 + (std**2).mean(axis=0)"),
)
