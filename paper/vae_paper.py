"""Level 3: train, evaluate and draw one model of the papers."""

import sys

from vae_common import cli
from vae_common.config import RunConfig, flag
from vae_common.errors import UsageError
from vae_common.weights import SHIPPED


def run(**typed) -> None:
    """Refuse settings that contradict one another, then train."""
    if "resume" not in typed:  # a run that goes on keeps its settings
        refuse_contradictions(RunConfig(**typed))
    cli.later("vae_commands.train_run", "train_run")(**typed)


def refuse_contradictions(config: RunConfig) -> None:
    """Raise UsageError, in one sentence, for settings that contradict one another or the model."""
    default = RunConfig()

    def changed(*names: str) -> list[str]:
        return [flag(name) for name in names if getattr(config, name) != getattr(default, name)]

    model, architecture = config.model, config.architecture
    weight = changed("beta", "anneal", "free_bits", "free_nats", "capacity", "tc_weight")
    many = changed("importance_samples", "mc_samples")
    if model != "vae" and (weight or many):
        refuse(f"{(weight + many)[0]} changes the objective of --model vae and has no meaning for --model {model}")
    if architecture != "mlp" and (layers := changed("hidden", "activation")):
        refuse(f"{layers[0]} describes --architecture mlp; leave it out with --architecture {architecture}")
    if config.prior != "normal":
        if model != "vae" or architecture not in ("conv", "wide", "mlp"):
            refuse("--prior is for --model vae with --architecture conv, wide or mlp")
        if other := changed("free_bits", "capacity", "mc_samples", "tc_weight"):
            refuse(
                f"{other[0]} has no meaning with --prior {config.prior}, whose KL is one sampled number for all of z"
            )
        if config.weights in SHIPPED:
            refuse(f"--weights with --prior {config.prior} takes those of a run with the same prior and Z")
        if config.prior == "flow" and config.latent_dim == 1:
            refuse("--prior flow moves one half of z by the other, and --latent-dim 1 has no halves")
    of_codes = changed("codebook", "codes", "prior_epochs", "levels", "code_gradient", "prior_labels")
    if of_codes and model != "vqvae":
        refuse(f"{of_codes[0]} is about the codes of --model vqvae; --model {model} has none")
    if config.levels is not None and (learned := changed("codebook", "codes", "code_gradient")):
        refuse(f"{learned[0]} is about a codebook that is learned, and --levels is a fixed grid: give one of them")
    if model == "vqvae" and config.latent_dim is not None:
        refuse("--latent-dim has no meaning for --model vqvae, whose latent is 49 codes; --codes says out of how many")
    if model in ("cvae", "vqvae") and architecture != "conv":
        refuse(f"--architecture {architecture} is for --model vae and ae; --model {model} has the spec's only")
    if len(many) == 2:
        refuse("--mc-samples averages outside the logarithm, --importance-samples inside: give one of them")
    if weight and many:
        refuse(f"{many[0]} and {weight[0]} are two different objectives; give one of them")
    if config.tc_weight and len(weight) > 1:
        refuse(f"--tc-weight and {weight[0]} are two different objectives; give one of them")
    if config.tc_weight and (architecture not in ("conv", "wide", "mlp") or cli.is_one_of_several()):
        refuse(
            "--tc-weight compares the codes of a whole batch: it needs --architecture conv, wide or mlp, one process"
        )
    if changed("tc_estimate") and not config.tc_weight:
        refuse("--tc-estimate says how the total correlation is found, and needs --tc-weight")
    if len(changed("free_bits", "free_nats")) == 2:
        refuse("--free-bits is a floor for each dimension, --free-nats one for all together: give one of them")
    if other := changed("anneal", "free_bits", "free_nats") if config.capacity is not None else []:
        refuse(f"--capacity already says what the KL should be at each step; leave {other[0]} out")
    if changed("anneal_epochs") and not changed("anneal", "capacity"):
        refuse("--anneal-epochs is the length of a ramp and needs --anneal or --capacity")
    if architecture == "linear" and (config.likelihood != "gaussian" or model != "vae" or many):
        refuse("--architecture linear is probabilistic PCA: it needs --likelihood gaussian, --model vae and one sample")
    binary = config.likelihood == "bernoulli" and config.binarize != "none"
    if architecture == "masked" and (not binary or model != "vae" or many):
        refuse(
            "--architecture masked predicts pixels of 0 or 1 from those before: it needs --binarize threshold or "
            "dynamic, --likelihood bernoulli, --model vae and one sample"
        )
    scheduled = [*weight, *([f"--architecture {architecture}"] if architecture in ("linear", "masked") else [])]
    scheduled += [f"--prior {config.prior}"] if config.prior != "normal" else []
    if config.compile and (scheduled or model == "vqvae"):
        what = scheduled[0] if scheduled else "--model vqvae"
        refuse(f"--compile takes an objective that is the same at every step, and with {what} it is not: leave one out")
    if config.weights is not None and (model not in ("vae", "ae") or architecture != "conv"):
        refuse("--weights is a file of the spec's network and starts only --model vae or ae with --architecture conv")


def refuse(sentence: str) -> None:
    """Raise UsageError with this sentence."""
    raise UsageError(f"{sentence}.")


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = cli.parser(__doc__.splitlines()[0], *RunConfig.settings("paper"))
    return cli.run(parser, argv, run, several=True)


if __name__ == "__main__":
    sys.exit(main())
