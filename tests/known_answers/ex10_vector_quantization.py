"""Answers to exercise 10 whose verdict is known; see test_exercise_solutions.py."""

DISTANCE = "np.square(codebook).sum(axis=1) - 2 * z_e @ codebook.T"
WIDE = "    z_e, codebook = z_e.astype(np.float64), codebook.astype(np.float64)\n"
LOSS = "((z_e.detach() - e).square() + beta * (z_e - e.detach()).square()).sum(dim=(1, 2))"
ALIVE = "codebook[alive] = sums[alive] / usage[alive, None]"
PAIRS = "np.add.at(pairs, (codes[:, :-1], codes[:, 1:]), 1)"

WRONG = (
    (WIDE, "", "float64"),
    (DISTANCE, "-z_e @ codebook.T", "largest product"),
    ("z_e + (e - z_e).detach()", "e.detach()", "NumPy, .item(), float(), .de"),
    ("z_e + (e - z_e).detach()", "z_e + e - z_e.detach()", "reaches the codebook"),
    ("z_e + (e - z_e).detach()", "z_e", "code itself"),
    (LOSS, "((1 + beta) * (z_e - e).square()).sum(dim=(1, 2))", "pull on both"),
    (LOSS, "((z_e - e.detach()).square() + beta * (z_e.detach() - e).square()).sum(dim=(1, 2))", "exchanged"),
    (LOSS, LOSS.replace(".sum(dim", ".mean(dim"), "mean over an image's numbers"),
    (LOSS, LOSS.replace("dim=(1, 2)", ""), "An axis is missing: does a s"),
    ("np.add.at(d_codebook, codes, -apart)", "d_codebook[codes] += -apart", "np.add.at"),
    ("2 * (z_e - codebook[codes]) / len(z_e)", "2 * (z_e - codebook[codes])", "The commitment's beta is mis"),
    ("d_z_q + beta * apart", "beta * apart", "straight-through copies"),
    ("d_z_q + beta * apart", "d_z_q + apart", "beta is missing"),
    ("decay * usage + (1 - decay) * m", "(1 - decay) * usage + decay * m", "belongs to the old"),
    ("members.T @ z_e / len(z_e)", "members.T @ z_e", "divide by N"),
    (ALIVE, "codebook = sums / usage[:, None]", "0 / 0"),
    (
        ALIVE,
        "codebook = sums / ((usage + 1e-5) / (usage.sum() + len(usage) * 1e-5) * usage.sum())[:, None]",
        "smoothed",
    ),
    ("    codebook = codebook.copy()\n", "", "changes an array"),
    ("dead_below / len(usage)", "dead_below", "dead_below / K"),
    ("    usage[dead] = 1 / len(usage)\n", "", "dead again"),
    ("    sums[dead] = outputs[: len(dead)] / len(usage)\n", "", "takes it back"),
    ("    codebook[dead] = outputs[: len(dead)]\n", "", "has moved"),
    ("np.exp(-(share * np.log(share)).sum())", "len(share)", "number of codes used"),
    (PAIRS, "flat = codes.ravel()\n    np.add.at(pairs, (flat[:-1], flat[1:]), 1)", "next are counted"),
    (PAIRS, "pairs[codes[:, :-1], codes[:, 1:]] += 1", "np.add.at"),
    ("pairs.sum(axis=1, keepdims=True)", "pairs.sum(axis=0, keepdims=True)", "Each column"),
    ("(codes[:, :-1], codes[:, 1:]), 1", "(codes[:, 1:], codes[:, :-1]), 1", "exchanged"),
    ("-np.log(first[codes[:, 0]]) - np", "-np", "p(c_1) is taken as even, or "),
    ("transition[codes[:, :-1], codes[:, 1:]]", "transition[codes[:, 1:], codes[:, :-1]]", "exchanged"),
    ("codes[:, 1:]]).sum(axis=1)", "codes[:, 1:]]).sum() / len(codes)", "expected"),
    ("p = transition[codes[:, t]]", "p = first[None]", "said nothing"),
    ("p = transition[codes[:, t]]", "p = transition.T[codes[:, t]]", "its row"),
    ("<= uniforms", "< uniforms", "probability 0"),
)

EQUIVALENT = {
    "sample_markov: np.zeros -> np.ones in codes, p = np.zeros(uniforms.shape, int), first[None]": (
        "every entry is written before it is read"
    ),
}

ALSO_RIGHT = (
    *(  # the same to better precision: other roundings where two codes are equally near
        (WIDE, f"{WIDE}    middle = {middle}.mean(axis=0)\n    z_e, codebook = z_e - middle, codebook - middle\n")
        for middle in ("codebook", "z_e.reshape(-1, z_e.shape[-1])")
    ),
    (
        f"return ({DISTANCE}).argmin(axis=-1)",
        "return np.linalg.norm(z_e[..., None, :] - codebook, axis=-1).argmin(axis=-1)",
    ),
    ("z_e + (e - z_e).detach()", "e.detach() + z_e - z_e.detach()"),
    (
        f"return {LOSS}",
        "from torch.nn.functional import mse_loss\n\n    terms = mse_loss(e, z_e.detach(), reduction='none'), "
        "mse_loss(z_e, e.detach(), reduction='none')\n    return (terms[0] + beta * terms[1]).flatten(1).sum(1)",
    ),
    (
        "    np.add.at(d_codebook, codes, -apart)\n",
        "    hot = np.eye(len(codebook))[codes]\n    d_codebook = -np.einsum('btk,btd->kd', hot, apart)\n",
    ),
    ("np.log(share)", "np.log(share + 1e-8)"),
    ("-(share * np.log(share)).sum()", "(share * np.log(1 / share)).sum()"),
)
