"""Answers to exercise 6 whose verdict is known; see test_exercise_solutions.py."""

MIXED = "[[1 / s2, -variance / s2], [-variance / s2, beta * variance]]"
CYCLE = "beta * min(1, step % (2 * ramp) / ramp)"
FREE = "kl.mean(dim=0).clamp(min=floor).sum()"
ACTIVE = "int((mu.var(axis=0) > threshold).sum())"
EFFECTIVE = '(pixels if recon == "mean" else 1) / (latent_dim if kl == "mean" else 1)'

WRONG = (
    ("beta * variance]]", "variance]]", "as if beta were 1"),
    (MIXED, MIXED.replace("-variance", "variance"), "other sign"),
    (MIXED, "[[1 / s2, 0], [0, beta * variance]]", "mixed derivatives are missing"),
    (MIXED, MIXED.replace("-variance", "-2 * variance"), "or twice"),
    (CYCLE, "beta * min(1, (step + 1) % (2 * ramp) / ramp)", "count from 0"),
    (CYCLE, "beta * min(1, (step % (2 * ramp) + 1) / ramp)", "count from 0"),
    ("int((mu.var(axis=0) > threshold).sum())", "mu.var(axis=0) > threshold", "counts the True"),
    (CYCLE, "beta * min(1, step % ramp / ramp)", "as many steps"),
    (CYCLE, "beta * min(1, 2 * (step % ramp) / ramp)", "rising half"),
    (CYCLE, "beta * min(1, step / ramp)", "never starts again"),
    (CYCLE, "beta * min(1, (step % (2 * ramp) if step > 2 * ramp else step) / ramp)", "the next cycle"),
    (CYCLE, "beta * min(1, ((step - 1) % (2 * ramp) + 1 if step else 0) / ramp)", "the next cycle"),
    (FREE, "kl.clamp(min=floor).mean(dim=0).sum()", "comes after"),
    (FREE, "kl.mean(dim=0).sum().clamp(min=floor)", "against the sum"),
    (FREE, "kl.sum(dim=0).clamp(min=floor).sum()", "prices are per image"),
    (FREE, "(kl.mean(dim=0) + (floor - kl.mean(dim=0)).clamp(min=0).detach()).sum()", "pays a constant"),
    (FREE, "kl.detach().mean(dim=0).clamp(min=floor).sum()", "cuts the path"),
    (FREE, f"float({FREE})", "cuts the path"),
    (FREE, "sum(k if k > floor else floor + k - k.detach() for k in kl.mean(0))", "pays a constant"),
    (ACTIVE, "int((mu.std(axis=0) > threshold).sum())", "standard deviation"),
    (ACTIVE, "int((mu.var(axis=1) > threshold).sum())", "over the images"),
    (ACTIVE, "int(((mu**2).mean(axis=0) > threshold).sum())", "mean(mu^2)"),
    (EFFECTIVE, EFFECTIVE.replace("(pixels if", "(1 / pixels if"), "multiply the whole"),
    (EFFECTIVE, EFFECTIVE.replace("(latent_dim if", "(1 / latent_dim if"), "cheaper"),
)
