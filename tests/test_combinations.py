"""Settings of level 3 that contradict one another are refused in one sentence, and never ignored."""

import pytest

import vae_paper
from messages import assert_refused

REFUSED = {
    "--model ae --beta 4": "--beta changes the objective of --model vae and has no meaning for --model ae",
    "--model cvae --free-bits 1": "--free-bits changes the objective of --model vae",
    "--model cvae --architecture mlp": "--architecture mlp is for --model vae and ae",
    "--importance-samples 5 --mc-samples 5": "give one of them",
    "--importance-samples 5 --beta 4": "two different objectives",
    "--capacity 10 --anneal linear": "leave --anneal out",
    "--capacity 10 --free-bits 1": "leave --free-bits out",
    "--capacity 10 --free-nats 1": "leave --free-nats out",
    "--free-bits 1 --free-nats 10": "give one of them",
    "--model cvae --free-nats 1": "--free-nats changes the objective of --model vae",
    "--hidden 64": "--hidden describes --architecture mlp; leave it out with --architecture conv",
    "--architecture linear --likelihood gaussian --activation relu": "--activation describes --architecture mlp",
    "--model cvae --hidden 64": "--hidden describes --architecture mlp",
    "--architecture mlp --hidden 64,0": "at most 4 integers from 1 to 2048 with commas between, such as 512,64, got",
    "--architecture mlp --hidden 1,2,3,4,5": "at most 4 integers",
    "--architecture mlp --hidden 512,": "at most 4 integers",
    "--architecture mlp --hidden 4096": "at most 4 integers",
    "--architecture mlp --hidden 2.5": "at most 4 integers",
    "--architecture mlp --reach 3": "--reach describes --architecture masked; leave it out with --architecture mlp",
    "--architecture masked": "needs --binarize threshold or dynamic",
    "--architecture masked --binarize dynamic --likelihood gaussian": "--likelihood bernoulli",
    "--architecture masked --binarize dynamic --model ae": "--model vae and one sample",
    "--architecture masked --binarize dynamic --mc-samples 2": "one sample",
    "--architecture masked --binarize dynamic --model cvae": "--model cvae is convolutional only",
    "--architecture masked --binarize dynamic --compile": "with --architecture masked it is not: leave one out",
    "--architecture masked --binarize dynamic --weights w.safetensors": "with --architecture conv",
    "--free-nats -1": "of at least 0",
    "--anneal-epochs 3": "needs --anneal or --capacity",
    "--architecture linear": "needs --likelihood gaussian",
    "--architecture linear --likelihood gaussian --importance-samples 2": "one sample",
    "--architecture linear --likelihood gaussian --model ae": "--model vae",
    "--model cvae --weights w.safetensors": "--weights is a file of the spec's network",
    "--codes 64": "--codes is about the codes of --model vqvae; --model vae has none",
    "--prior-epochs 4": "--prior-epochs is about the codes of --model vqvae",
    "--model ae --codebook gradient": "--codebook is about the codes of --model vqvae",
    "--model vqvae --latent-dim 2": "--latent-dim has no meaning for --model vqvae",
    "--compile --beta 4": "with --beta it is not: leave one out",
    "--model vqvae --codes 1": "expected an integer from 2",
    "--beta -1": "of at least 0",
    "--free-bits inf": "expected a finite number",
    "--capacity -2": "of at least 0",
    "--anneal-epochs 0 --anneal linear": "above 0",
    "--importance-samples 0": "expected an integer from 1",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_nonsense_is_refused_in_one_sentence(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vae_paper.cli.later", None)  # it is refused before anything is trained
    assert_refused(vae_paper.main(flags.split()), capsys.readouterr().err, REFUSED[flags])
    assert not list(tmp_path.iterdir())


def test_what_a_default_says_is_no_contradiction(monkeypatch):
    given = []
    monkeypatch.setattr("vae_paper.cli.later", lambda module, function: lambda **typed: given.append(typed))
    for flags in ("--model ae --importance-samples 1", "--model vqvae --architecture conv", "--compile"):
        assert vae_paper.main(flags.split()) == 0
    # With --resume, the resumed run tells what else was typed.
    assert vae_paper.main(["--resume", "runs/paper", "--beta", "4", "--mc-samples", "5"]) == 0
    assert given[0] == {"model": "ae", "importance_samples": 1} and len(given) == 4
