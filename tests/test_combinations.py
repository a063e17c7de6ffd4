"""Flags of level 3 that contradict one another are refused in one sentence, and never ignored."""

import pytest

import vae_paper

REFUSED = {
    "--model ae --beta 4": "--beta changes the objective of --model vae",
    "--model cvae --free-bits 1": "--free-bits changes the objective of --model vae",
    "--model ae --importance-samples 5": "--importance-samples changes the objective of --model vae",
    "--model cvae --trunk mlp": "--trunk mlp is for --model vae and ae",
    "--importance-samples 5 --mc-samples 5": "give one of them",
    "--importance-samples 5 --beta 4": "two different objectives",
    "--mc-samples 5 --free-bits 1": "two different objectives",
    "--capacity 10 --anneal linear": "leave --anneal out",
    "--capacity 10 --free-bits 1": "leave --free-bits out",
    "--anneal-epochs 3": "needs --anneal or --capacity",
    "--trunk linear": "needs --likelihood gaussian",
    "--trunk linear --likelihood gaussian --importance-samples 2": "with one sample",
    "--trunk linear --likelihood gaussian --model ae": "--model vae",
    "--model cvae --weights w.safetensors": "--weights is a file of the spec's network",
    "--trunk mlp --weights w.safetensors": "--weights is a file of the spec's network",
    "--codes 64": "--codes is about the codes of --model vqvae",
    "--model ae --codebook gradient": "--codebook is about the codes of --model vqvae",
    "--model vqvae --latent-dim 2": "--latent-dim has no meaning for --model vqvae",
    "--model vqvae --importance-samples 5": "--importance-samples changes the objective of --model vae",
    "--model vqvae --codes 1": "expected an integer from 2",
    "--beta nan": "expected a finite number",
    "--beta -1": "of at least 0",
    "--free-bits inf": "expected a finite number",
    "--capacity -2": "of at least 0",
    "--anneal-epochs 0 --anneal linear": "above 0",
    "--anneal sometimes": "invalid choice",
    "--importance-samples 0": "expected an integer from 1",
    "--model gan": "invalid choice",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_nonsense_is_refused_in_one_sentence(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert vae_paper.main(flags.split()) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert REFUSED[flags] in last and "error: " in last
    assert not list(tmp_path.iterdir())
