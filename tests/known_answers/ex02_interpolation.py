"""Answers to exercise 2 whose verdict is known; see test_exercise_solutions.py."""

ARC = "direction = (np.sin((1 - t) * omega) * u0 + np.sin(t * omega) * u1) / np.sin(omega)"
RADIUS = "return ((1 - t) * norm0 + t * norm1) * direction"
CHI = "math.sqrt(2) * math.exp(math.lgamma((Z + 1) / 2) - math.lgamma(Z / 2))"
QUARTILES = "np.quantile(factor, [0.25, 0.75])"
BOTH = "mu[factor > high].mean(axis=0) - mu[factor < low].mean(axis=0)"

WRONG = (
    ("return (1 - t) * z0 + t * z1", "return t * z0 + (1 - t) * z1", "backwards"),
    (
        f"{ARC}\n    {RADIUS}",
        ARC.replace("u0", "z0").replace("u1", "z1") + "\n    return direction",
        "The slerp of much public code",
    ),
    (RADIUS, "return direction", "unit sphere"),
    (ARC, ARC.replace(" / np.sin(omega)", ""), "division by sin"),
    (ARC, "return lerp(z0, z1, t[:, 0])", "straight line"),
    (
        ARC,
        "direction = (1 - t) * u0 + t * u1\n    direction /= np.linalg.norm(direction, axis=1, keepdims=True)",
        "pushed out",
    ),
    *(
        (
            f"{ARC}\n    {RADIUS}",
            f"direction = lerp(z0, z1, t[:, 0])\n    direction = direction / np.linalg.norm(direction, axis=1)[:, None]"
            f"\n    return {length} * direction",
            "pushed out",
        )
        for length in ("((1 - t) * norm0 + t * norm1)", "norm0", "np.sqrt(len(z0))")
    ),
    (RADIUS, "return norm0 * direction", "stays the same"),
    ("return (1 - t) * z0 + t * z1", "return list((1 - t) * z0 + t * z1)", "np.array"),
    ("u0, u1 = z0 / norm0, z1 / norm1", "z0 /= norm0\n    u0, u1 = z0, z1 / norm1", "in place"),
    ("return lerp(z0, z1, t[:, 0])", "return z0 + 0 * t", "still goes"),
    ("np.clip(u0 @ u1, -1, 1)", "u0 @ u1", "np.clip"),
    ("    if omega < 1e-6:\n        return lerp(z0, z1, t[:, 0])\n", "", "0/0 is NaN"),
    (CHI, "math.sqrt(Z)", "a little below"),
    (CHI, f"{CHI} if Z < 2000 else math.sqrt(Z)", "expected  999.9997"),
    (CHI, CHI.replace("math.exp", ""), "take exp"),
    (CHI, "math.sqrt(2) * math.gamma((Z + 1) / 2) / math.gamma(Z / 2)", "OverflowError"),
    (BOTH, "mu[factor < low].mean(axis=0) - mu[factor > high].mean(axis=0)", "sign is turned"),
    ("[0.25, 0.75]", "[0.5, 0.5]", "Halves"),
    (BOTH, "mu[factor > high].mean(axis=0)", "lower one's"),
    (QUARTILES, "factor.min() + np.ptp(factor) * np.array([0.25, 0.75])", "the factor's range"),
)

EQUIVALENT = {
    f"attribute_vector: factor > high -> factor >= high in return {BOTH}": "no image stands on the border of a quarter",
    f"attribute_vector: factor < low -> factor <= low in return {BOTH}": "no image stands on the border of a quarter",
    "slerp: 1 -> 2 in omega = np.arccos(np.clip(u0 @ u1, -1, 1))": "no cosine of these paths is near -1",
    "slerp: omega < 1e-06 -> omega <= 1e-06 in if omega < 1e-6:": "no angle is exactly 1e-6",
    "slerp: 1e-06 -> 2e-06 in if omega < 1e-6:": "any small angle serves",
    "slerp: 0 -> -1 in return lerp(z0, z1, t[:, 0])": "of one column the first is the last",
}

ALSO_RIGHT = (
    ("np.arccos(np.clip(u0 @ u1, -1, 1))", "2 * np.arctan2(np.linalg.norm(u0 - u1), np.linalg.norm(u0 + u1))"),
    (
        "    t = np.asarray(t)[:, None]\n    return (1 - t) * z0 + t * z1",
        "    return np.array([z0 + s * (z1 - z0) for s in (t[:, 0] if np.ndim(t) == 2 else t)])",
    ),
    (BOTH, BOTH.replace(">", ">=").replace("<", "<=")),
    (
        f"low, high = {QUARTILES}\n    return {BOTH}",
        "order, n = np.argsort(factor), len(factor) // 4\n"
        "    return mu[order[-n:]].mean(axis=0) - mu[order[:n]].mean(axis=0)",
    ),
    (
        CHI,
        "np.sqrt(Z) - 1 / (4 * np.sqrt(Z)) + 1 / (32 * Z**1.5) + 5 / (128 * Z**2.5) - 21 / "
        "(2048 * Z**3.5) if Z > 300 else np.sqrt(2) * math.gamma((Z + 1) / 2) / math.gamma(Z / 2)",
    ),
)
