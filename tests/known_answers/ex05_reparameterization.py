"""Answers to exercise 5 whose verdict is known; see test_exercise_solutions.py."""

DRAW = "return mu + np.exp(0.5 * logvar) * eps"
PATH = "np.stack([d_z, d_z * 0.5 * np.exp(0.5 * logvar) * eps])"
SECOND = "value * 0.5 * (eps**2 - 1)"
FIRST = "value * eps / np.exp(0.5 * logvar)"
SQUARE = "square / std**2 - 4 * mu**2"
BY_LOGVAR = "d_logvar = d_z * 0.5 * np.exp(0.5 * logvar) * eps + 0.5 * (np.exp(logvar) - 1) / len(mu)"
BY_MU = "d_mu = d_z + mu / len(mu)"
BOTH = f"{BY_MU}\n    {BY_LOGVAR}"

WRONG = (
    (DRAW, "return mu + np.exp(logvar) * eps", "where sigma = exp(logvar / 2) should"),
    (DRAW, "return mu + logvar * eps", "take exp of its half"),
    (DRAW, "return mu + np.exp(0.5 * logvar) * eps[:, :1]", "shared by all dimensions"),
    (DRAW, "return mu + 0 * eps", "noise is missing"),
    (DRAW, "return mu + np.exp(0.5 * logvar) * np.random.normal(size=eps.shape)", "draw nothing inside"),
    (DRAW, "return mu + np.sqrt(logvar) * eps", "take exp of its half"),
    (DRAW, "mu += np.exp(0.5 * logvar) * eps\n    return mu", "in place"),
    (PATH, PATH.replace("stack", "concatenate"), "tuple of 14"),
    (PATH, f"{PATH}[::-1]", "at the wrong place"),
    (PATH, PATH.replace("0.5 * np", "0.3 * np"), "off by one factor"),
    (PATH, "np.stack([d_z, d_z * eps])", "derivative by sigma"),
    (PATH, "np.stack([d_z, d_z * np.exp(0.5 * logvar) * eps])", "is a 1/2 missing"),
    (PATH, "np.stack([d_z, d_z * 0.5 * np.exp(logvar) * eps])", "sigma^2 stands where"),
    ("df(reparameterize(mu, logvar, eps))", "df(mu + 0 * eps)", "at mu"),
    (" - baseline)[:, None]", ")[:, None]", "as if baseline were 0"),
    (SECOND, "value * 0.5 * eps**2", "mean 0"),
    (SECOND, "value * (eps**2 - 1) / np.exp(0.5 * logvar)", "derivative by sigma"),
    (FIRST, "value * eps / np.exp(logvar)", "eps / sigma"),
    ("    return np.stack([value *", "    value = -value\n    return np.stack([value *", "sign is turned"),
    ("(values.sum() - values) / (len(values) - 1)", "values.mean() + 0 * values", "own value"),
    ("(len(values) - 1)", "len(values)", "N - 1 others"),
    (SQUARE, "square / std**2", "mean of the square"),
    ("3 * std**2)", "std**2)", "not independent"),
    (SQUARE, "square - 4 * mu**2", "division by std^2"),
    (" - 2 * baseline * (mu**2 + 3 * std**2) + baseline**2", "", "as if baseline were 0"),
    ("4 * std**2\n", "2 * std\n", "are squared"),
    (BY_MU, "d_z += mu / len(mu)\n    d_mu = d_z", "in place"),
    (BOTH, BOTH.replace(" / len(mu)", ""), "summed over the batch"),
    (BOTH, BOTH.replace(" + mu / len(mu)", "").split(" + 0.5 * (np")[0], "missing: the KL's part"),
    (BOTH, f"d_z = d_z / len(mu)\n    {BOTH}", "second time"),
    (BY_LOGVAR, BY_LOGVAR.replace("(np.exp(logvar) - 1)", "np.exp(logvar)"), "the KL's -1"),
    (BY_LOGVAR, BY_LOGVAR.replace(" * eps", ""), "as if eps were 1"),
    (BY_LOGVAR, BY_LOGVAR.replace("d_z * 0.5 *", "d_z *"), "want of a 1/2: the path"),
    (BY_LOGVAR, "std = np.exp(0.5 * logvar)\n    d_logvar = d_z * eps + (std - 1 / std) / len(mu)", "times sigma / 2"),
)
