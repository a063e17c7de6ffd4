"""Answers to exercise 8 whose verdict is known; see test_exercise_solutions.py."""

WEIGHT = "-recon + 0.5 * (squares + logvar - z**2).sum(axis=-1)"
BOUND = "np.logaddexp.reduce(log_w, axis=1) - np.log(log_w.shape[1])"
GROUPS = "log_w[:, : K // k * k].reshape(-1, k)"
SHARE = "(np.sqrt(2 * c**2 - 1) / c**2) ** Z if 2 * c**2 > 1 else 0"

WRONG = (
    (WEIGHT, WEIGHT.replace("-recon", "recon"), "it is subtracted"),
    (WEIGHT, "-recon - 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=-1)", "holds on average"),
    ("squares + logvar - z**2", "squares + logvar", "The prior is missing"),
    ("squares + logvar - z**2", "-(z**2)", "The proposal is missing"),
    ("squares + logvar - z**2", "squares - z**2", "A term is missing: logvar / 2 in each dimension"),
    ("np.exp(-logvar)", "np.exp(-2 * logvar)", "The squares are divided by t"),
    (BOUND, "log_w.mean(axis=1)", "that is the elbo"),
    (GROUPS, "log_w[:, :k]", "Only the first k"),
    ("reshape(-1, k)", "reshape(B, -1)", "stands outside the log"),
    (SHARE, "(np.sqrt(2 * c**2 - 1) / c**2) ** Z", "no answer"),
    (SHARE, "c * np.sqrt(2 - c**2) ** Z * c ** (Z - 1) if c**2 < 2 else 0", "c is the std of q over the p"),
    (SHARE, SHARE.replace("2 * c**2 > 1", "c > 1"), "a little narrow"),
)

EQUIVALENT = {
    "bound_of_groups: 1 -> 2 in groups = log_w[:, : K // k * k].reshape(-1, k)": (
        "any negative number tells reshape to find the size itself"
    ),
    "bound_of_groups: 1 -> 2 in return importance_bound(groups).reshape(B, -1).mean(axis=1)": (
        "any negative number tells reshape to find the size itself"
    ),
    f"expected_share: 2 * c ** 2 > 1 -> 2 * c ** 2 >= 1 in return {SHARE}": (
        "where both sides are equal the formula itself gives 0"
    ),
}
