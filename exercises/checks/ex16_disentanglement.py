"""What exercise 16 asks for, compared with sums and differences of entropies, on tables and values that are drawn."""

import functools

import numpy as np

from checks.judging import agree_on_cases, agree_on_each

FORBIDDEN = ("sklearn", "vae_measures", "vae_commands")  # they hold the answer


def entropy(p):
    """In nats, of a table of any shape."""
    return -np.sum(p * np.log(np.where(p > 0, p, 1)))


def divergence(p, q):
    some = p > 0
    return np.sum(p[some] * np.log(p[some] / q[some]))


def marginals(p):
    return [np.einsum(p, list(range(p.ndim)), [d]) for d in range(p.ndim)]


def times(tables):
    return functools.reduce(np.multiply.outer, tables)


def dependence(p):
    """The total correlation: by what the entropies of the marginals exceed that of the whole."""
    return sum(map(entropy, marginals(p))) - entropy(p)


def drawn(rng, *shape, zeros=False):
    """A table of probabilities, unequal ones; with zeros, but none in the marginals."""
    p = rng.gamma(0.5, size=shape) + 0.01
    p[(np.indices(shape).sum(axis=0) % 3 == 1) & zeros] = 0
    return p / p.sum()


def part_total_correlation(work, rng):
    """total_correlation: what the marginals leave out"""

    def mistakes(y, p):
        parts = marginals(p)
        without = [times([np.ones(len(q)) if i == d else q for i, q in enumerate(parts)]) for d in range(p.ndim)]
        own_axis = functools.reduce(np.multiply, [p.sum(axis=d, keepdims=True) for d in range(p.ndim)])
        return {
            "That is the KL the other way round: the table comes first.": divergence(times(parts), p),
            "A marginal is missing: the product has one for each axis.": tuple(divergence(p, q) for q in without),
            "A marginal is a sum over all the OTHER axes; .sum(axis=d) sums its own.": divergence(p, own_axis),
            "The entropies of the marginals alone: that of the whole table is to be subtracted.": y + entropy(p),
        }

    shapes = ((3, 4, 2), (2, 3), (4, 4), (2, 3, 2, 2))
    cases = [{"p": drawn(rng, *shape, zeros=zeros)} for zeros in (False, True) for shape in shapes]
    agree_on_cases("total_correlation", work.total_correlation, dependence, cases, mistakes, "the-maths")


def part_split_kl(work, rng):
    """split_kl: the three parts of the KL"""

    def right(q, prior):
        z = q.mean(axis=0)
        dimensions = sum(map(divergence, marginals(z), marginals(prior)))
        return entropy(z) - np.mean([entropy(one) for one in q]), dependence(z), dimensions

    def mistakes(parts, q, prior):
        z, of_z, of_prior = q.mean(axis=0), marginals(q.mean(axis=0)), marginals(prior)
        to_prior, turned = parts[1] + parts[2], sum(map(divergence, of_prior, of_z))
        to_the_prior = "That is a KL to the prior with another part in it: the three add up to the kl."
        for_each = "That is the mean for q(z|x) of each image; asked is that of q(z)."
        each = [sum(map(divergence, marginals(p), of_prior)) for p in q]
        other_way = "The KL goes the other way: from q to the aggregate, from the aggregate's marginals to the prior's."
        return (
            {to_the_prior: sum(parts), other_way: np.mean([divergence(z, p) for p in q])},
            {to_the_prior: to_prior, for_each: np.mean([dependence(p) for p in q])},
            {
                to_the_prior: to_prior,
                for_each: np.mean(each),
                other_way: turned,
            },
        )

    names = ("information", "total correlation", "KL of the dimensions")
    cases = []
    for N, *shape in ((4, 3, 2), (6, 2, 3, 2), (3, 4, 4)):
        q = np.array([drawn(rng, *shape, zeros=i % 2 == 1) for i in range(N)])
        cases.append({"q": q, "prior": times([drawn(rng, k) for k in shape])})
    agree_on_each(names, "split_kl", work.split_kl, right, cases, mistakes, "the-maths")


def joint(a, b):
    """How often each pair of values occurs, as a probability."""
    return np.histogram2d(a, b, bins=[np.arange(a.max() + 2), np.arange(b.max() + 2)])[0] / len(a)


def part_information(work, rng):
    """information: what each dimension tells of each factor"""

    def right(factors, codes):
        told = [[dependence(joint(v, z)) for z in codes.T] for v in factors.T]
        return np.array(told) / [[dependence(joint(v, v))] for v in factors.T]

    def once(factors, codes):
        tables = [[joint(v, z) > 0 for z in (v, *codes.T)] for v in factors.T]
        told = np.array([[dependence(t / t.sum()) for t in row] for row in tables])
        return told[:, 1:] / told[:, :1]

    def mistakes(y, factors, codes):
        of_factor = np.array([[entropy(joint(v, v))] for v in factors.T])
        of_code, values = [entropy(joint(z, z)) for z in codes.T], [[len(np.unique(v))] for v in factors.T]
        told = y * of_factor
        return {
            "In nats: the share is the information divided by the entropy of the factor.": told,
            "Divide by the entropy of the factor, not of the dimension, nor by the logarithm of how many values there "
            "are.": (told / of_code, told / np.sqrt(of_factor * of_code), told / np.log(values)),
            "A pair that occurs twice counts once; np.add.at adds all.": once(factors, codes),
        }

    cases = []
    for N, F, Z in ((40, 3, 2), (60, 2, 4), (30, 2, 3)):
        factors = np.stack([rng.permutation(np.arange(N) ** 2 % (3 + f)) for f in range(F)], axis=1)
        codes = rng.integers(0, np.arange(2, 2 + Z), (N, Z))
        codes[:, -1] = 2 * factors[:, 0] + codes[:, 0] % 2  # tells all of a factor, and more
        cases.append({"factors": factors, "codes": codes})
    agree_on_cases("information", work.information, right, cases, mistakes, "the-maths")


def part_mig(work, rng):
    """mig: the largest share less the second"""

    def right(share):
        return np.mean([max(row) - sorted(row)[-2] for row in share.tolist()])

    def mistakes(y, share):
        ranked, by_column = np.sort(share, axis=1), np.sort(share, axis=0)
        in_column = np.mean(by_column[-1] - by_column[-2])
        return {
            "The gap within each dimension: the factors are the rows, and each has a gap of its own.": in_column,
            "The largest share alone, not the gap to the second.": np.mean(ranked[:, -1]),
            "A gap for each factor; asked is their mean.": ranked[:, -1] - ranked[:, -2],
        }

    cases = [{"share": rng.uniform(0, 1, shape)} for shape in ((3, 5), (4, 3), (5, 4), (2, 10), (3, 2))]
    cases.append({"share": np.array([[0.1, 0.8, 0.8], [0.0, 0.3, 0.5]])})
    agree_on_cases("mig", work.mig, right, cases, mistakes, "the-maths")


def part_rotated(work, rng):
    """rotated: another model, the same images"""

    def right(V, c, W, angle):
        e = np.exp(1j * angle)
        R = np.array([[e.real, -e.imag], [e.imag, e.real]])
        return R @ V, R @ c, W @ np.linalg.inv(R)

    def mistakes(parts, V, c, W, angle):
        back, degrees = right(V, c, W, -angle), right(V, c, W, np.radians(angle))
        way = "Turned clockwise: counterclockwise (1, 0) becomes (cos(angle), sin(angle))."
        others = (
            {way: back[0]},
            {way: back[1], "c is part of the code: all that V x + c gives is to be turned.": c},
            {"W is given the turned code, which has first to be turned back, the other way round.": back[2]},
        )
        return [{"The angle is in radians.": degrees[i], **others[i]} for i in range(3)]

    cases = [
        {"V": rng.standard_normal((2, P)), "c": rng.standard_normal(2), "W": rng.standard_normal((P, 2)), "angle": a}
        for P, a in ((3, 0.5), (4, 2.0), (5, -1.1), (3, 4.0))
    ]
    agree_on_each(("V", "c", "W"), "rotated", work.rotated, right, cases, mistakes, "what-the-loss-cannot-see")


HINTS = (
    "total_correlation: sum p over all axes but one, for each; multiply what you get, and compare with kl.",
    "total_correlation: p.sum(axis=others, keepdims=True), with others a tuple, keeps a shape that multiplies with p.",
    "total_correlation: others = tuple(i for i in range(p.ndim) if i != d), for each d in range(p.ndim)",
    "split_kl: the aggregate is q.mean(axis=0). The information is the mean of the KLs from each q[n] to it.",
    "split_kl: the third part is the KL from the product of the aggregate's marginals to the prior.",
    "split_kl: or the KL from the aggregate to the prior, less the total correlation",
    "information: a table of two variables has a total correlation, and that is what one tells of the other.",
    "information: count the pairs with np.add.at(counts, (v, z), 1), and divide by N; v with itself gives its entropy.",
    "mig: np.sort(share, axis=1) puts each row in order; the two largest are its last columns.",
    "rotated: turn the code, z' = R z, and let the decoder first turn it back: W z = W R^T z'.",
    "rotated: R = [[cos, -sin], [sin, cos]]; turn V x + c as a whole: R @ V, R @ c, W @ R.T",
)
