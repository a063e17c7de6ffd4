"""What may not be typed at level 3, alone or together, is refused in one sentence, before anything is written."""

import importlib

import pytest

from messages import assert_refused

SAME = "--compile takes an objective that is the same at every step"
OF_VAE_PAPER = {
    "--model ae --beta 4": "--beta changes the objective of --model vae and has no meaning for --model ae",
    "--model cvae --architecture mlp": "--architecture mlp is for --model vae and ae",
    "--importance-samples 5 --mc-samples 5": "give one of them",
    "--importance-samples 5 --beta 4": "two different objectives",
    "--capacity 10 --anneal linear": "leave --anneal out",
    "--free-bits 1 --free-nats 10": "give one of them",
    "--hidden 64": "--hidden describes --architecture mlp; leave it out with --architecture conv",
    "--architecture linear --likelihood gaussian --activation relu": "--activation describes --architecture mlp",
    "--architecture mlp --hidden 64,0": "at most 4 integers from 1 to 2048 with commas between, such as 512,64, got",
    "--architecture mlp --hidden 512,": "at most 4 integers",
    "--architecture masked": "needs --binarize threshold or dynamic",
    "--architecture masked --binarize dynamic --likelihood gaussian": "--likelihood bernoulli",
    "--architecture masked --binarize dynamic --model ae": "--model vae and one sample",
    "--architecture masked --binarize dynamic --mc-samples 2": "one sample",
    "--architecture masked --binarize dynamic --model cvae": "--model cvae has the spec's only",
    "--architecture masked --binarize dynamic --compile": "with --architecture masked it is not: leave one out",
    "--architecture masked --binarize dynamic --weights w.safetensors": "with --architecture conv",
    "--anneal-epochs 3": "needs --anneal or --capacity",
    "--architecture linear": "needs --likelihood gaussian",
    "--architecture linear --likelihood gaussian --importance-samples 2": "one sample",
    "--architecture linear --likelihood gaussian --model ae": "--model vae",
    "--model cvae --weights w.safetensors": "--weights is a file of the spec's network",
    "--tc-weight 5 --beta 4": "--tc-weight and --beta are two different objectives",
    "--tc-weight 5 --architecture masked --binarize dynamic": "needs --architecture conv, wide or mlp, one process",
    "--tc-estimate stratified": "--tc-estimate says how the total correlation is found, and needs --tc-weight",
    "--prior flow --tc-weight 5": "--tc-weight has no meaning with --prior flow",
    "--prior flow --model ae": "--prior is for --model vae with --architecture conv, wide or mlp",
    "--prior mixture --free-bits 1": "--free-bits has no meaning with --prior mixture",
    "--prior flow --weights digits-z2": "takes those of a run with the same prior and Z",
    "--prior flow --latent-dim 1": "--latent-dim 1 has no halves",
    "--prior uniform": "invalid choice: 'uniform'",
    "--model ae --codebook gradient": "--codebook is about the codes of --model vqvae",
    "--model vqvae --levels 8,8 --codes 64": "--codes is about a codebook that is learned",
    "--model vqvae --levels 8,1": "at most 4 integers from 2 to 16 with commas between, such as 8,8,8",
    "--model vqvae --latent-dim 2": "--latent-dim has no meaning for --model vqvae",
    "--compile --beta 4": "with --beta it is not: leave one out",
    "--model vqvae --codes 1": "expected an integer from 2",
    "--anneal-epochs 0 --anneal linear": "above 0",
    **{f"--compile {flags}": SAME for flags in ("--anneal linear", "--free-bits 1", "--model vqvae")},
}
REFUSED = {
    **{f"vae_paper {flags}": said for flags, said in OF_VAE_PAPER.items()},
    "evaluate mine.py": "mine.py: a .py file can only be examined; give --doctor with it",
    "evaluate RUN --doctor --against VAE": "--doctor examines one run, and --against compares two; give one of them",
    "evaluate RUN --doctor --only bounds": "--only has no meaning with --doctor",
    "evaluate A B": "several runs are set side by side in their gaps or samples",
    "evaluate A B --doctor": "--doctor takes one RUN; B is another",
    "evaluate A B --only samples --votes 200": "--votes has no meaning with several runs",
    "evaluate AE --against VAE --votes 200": "--votes has no meaning with --against",
    "evaluate AE --against VAE --images 60": "--images has no meaning with a run, whose own settings hold",
    "evaluate RUN --dataset sprites": "--dataset has no meaning with a run, whose own settings hold",
    "evaluate RUN --votes 99": "expected an integer from 100 to 1000000, got '99'",
    "evaluate RUN --only everything": "invalid choice: 'everything'",
    "latent_explorer nowhere": "name a run folder",
    "latent_explorer": "either a run folder or --pretrained",
    "latent_explorer --pretrained --latent-dim 7": "shipped for 2 and 20",
    "latent_explorer nowhere --latent-dim 2": "a run has its own",
    "rate_distortion": "name a finished RUN to place in the plane",
    "rate_distortion nothing --lr 0.1": "--lr cannot be given with RUN",
    "rate_distortion --resume nothing": "config.json: expected the settings of a run",
    "rate_distortion --resume nothing --epochs 5": "--epochs cannot be given with --resume",
    "rate_distortion --sweep 1 0": "expected a finite number above 0, got '0'",
    "effective_beta --recon-batch sum": "add --batch-size",
    "effective_beta --variance 1": "add --likelihood gaussian",
    "effective_beta --recon none": "invalid choice",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_a_bad_command_of_level_3_is_refused_in_one_sentence(typed, tmp_path, monkeypatch, capsys):
    name, *argv = typed.split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vae_commands.train_run.train_run", None)  # it is refused before anything is trained
    assert_refused(importlib.import_module(name).main(argv), capsys.readouterr().err, REFUSED[typed])
    assert not list(tmp_path.iterdir())
