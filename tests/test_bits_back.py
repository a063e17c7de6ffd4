"""Bits-back coding: images come back exactly, files are as long as -elbo says, and what cannot be read is refused."""

import json
import math
import re

import numpy as np
import pytest
import torch
from constriction import stream
from PIL import Image
from torch.distributions import Bernoulli, Normal

import compress
import vae_paper
from messages import assert_refused
from run_folders import finished_run
from vae_commands import compress_images
from vae_common.config import RunConfig
from vae_common.data import binarize
from vae_common.randomness import generator
from vae_common.weights import load_weights
from vae_measures.bits_back import GRID, BitsBack
from vae_training.factory import build_model, load_arrays

Z = 4
SMALL = {"architecture": "mlp", "hidden": (32,), "latent_dim": Z, "binarize": "dynamic"}


def small_model(prior: str = "normal", **settings) -> torch.nn.Module:
    """An untrained model whose posteriors are narrow and apart, its learned prior moved: codes cost many bits."""
    model = build_model(RunConfig(**{**SMALL, **settings}, prior=prior).settled())
    torch.manual_seed(0)
    model.encoder.mu.weight.data.mul_(3)
    model.encoder.logvar.bias.data.fill_(-3)
    for parameter in model.prior.parameters() if prior != "normal" else ():
        parameter.data += torch.randn_like(parameter)
    return model


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (count, 784)).astype(np.int32)


def stack() -> stream.stack.AnsCoder:
    return stream.stack.AnsCoder(np.random.default_rng(0).integers(2**32, size=60, dtype=np.uint32), seal=True)


@pytest.mark.parametrize("prior", ["normal", "mixture", "vamp"])
def test_pop_undoes_push_and_an_image_costs_what_the_densities_say(prior):
    bits_back = BitsBack(small_model(prior))
    model, coder, net, without = bits_back.model, stack(), 0.0, 0.0
    begin, before = coder.get_compressed(), coder.num_valid_bits()
    for x in images(20):
        peek = coder.clone()
        z = torch.tensor([peek.decode(q) for q in bits_back.posterior(x)]) / GRID
        x_float = torch.from_numpy(x).float().view(1, 1, 28, 28)
        with torch.no_grad():
            mu, logvar = model.encode(x_float)
            log_q = Normal(mu, torch.exp(0.5 * logvar)).log_prob(z).sum()
            log_p = Normal(0.0, 1.0).log_prob(z).sum() + model.log_prior_ratio(z)
            log_x = Bernoulli(logits=model.decode(z[None])).log_prob(x_float).sum()
        net += float(log_q - log_p - log_x) / math.log(2)
        without += float(-log_p - log_x) / math.log(2) + Z * math.log2(GRID)
        bits_back.push(coder, x)
    grown = coder.num_valid_bits() - before
    assert grown == pytest.approx(net, rel=1e-3)  # cells as wide as an eighth of a std, and 24 bits for a probability
    assert grown < without - 20 * Z * 5  # a std of e^-1.5 is 14 cells, so each dimension gives 5.9 bits back
    for x in images(20)[::-1]:
        assert np.array_equal(bits_back.pop(coder), x)
    assert np.array_equal(coder.get_compressed(), begin)


def test_a_code_far_from_where_the_grid_is_or_without_width_comes_back_too():
    model = small_model()
    model.encoder.mu.bias.data = torch.tensor([1000.0, -1000.0, 0.0, 31.999])
    model.encoder.logvar.bias.data = torch.tensor([-4.0, 9.0, -60.0, 0.0])
    bits_back, coder = BitsBack(model), stack()
    for x in images(5):
        bits_back.push(coder, x)
    assert [bits_back.pop(coder).tolist() for _ in range(5)] == images(5)[::-1].tolist()
    assert np.array_equal(coder.get_compressed(), stack().get_compressed())


@pytest.fixture
def run(tmp_path, small_digits):
    """A function: the folder of a run without training, of the small network or as settings say."""

    def make(name="run", change=lambda model: None, **settings):
        return str(finished_run(tmp_path / name, change=change, **{**SMALL, **settings}))

    return make


def trained_weights(model):
    load_arrays(model, load_weights("digits-z20"))


def in_png(path) -> np.ndarray:
    return np.asarray(Image.open(path)).reshape(-1, 784)


def test_test_digits_come_back_byte_for_byte_from_a_file_as_long_as_the_elbo_says(run, digits, tmp_path, capsys):
    folder, file, out = run(change=trained_weights, architecture="conv", latent_dim=20), tmp_path / "f", tmp_path / "o"
    assert compress.main([folder, "--out", str(file)]) == 0
    printed = capsys.readouterr().out
    size = {name: float(value.replace(",", "")) for name, value in re.findall(r"^(\S.*?)  +([\d,]+) ", printed, re.M)}
    assert size["bits back, net"] == pytest.approx(size["-elbo / ln 2"], rel=0.01)
    assert size["one bit a pixel"] == 50 * 98
    assert size["bits back, net"] < min(value for name, value in size.items() if not name.startswith(("bits", "-elbo")))
    x = binarize(digits.images[150:200], "dynamic", generator(0, "evaluation")).reshape(50, 784)
    train = binarize(digits.images[:150], "dynamic", generator(0, "evaluation")).reshape(150, 784)
    p = (train.sum(axis=0, dtype=float) + 1) / 152
    entropy = -(x * np.log2(p) + (1 - x) * np.log2(1 - p)).sum() / 8
    assert size["pixel frequencies"] == pytest.approx(entropy, abs=5)  # rounded to words of 32 bits
    static = stream.stack.AnsCoder()
    static.encode_reverse(x.ravel().astype(np.int32), stream.model.Bernoulli(perfect=False), np.tile(p, 50))
    assert size["pixel frequencies"] == round(static.num_valid_bits() / 8)  # test images happen to cost 4 bytes more
    parts = re.search(r"(\S+) bytes: (\S+) net, (\d+).*\s.*and (\d+)", printed).groups()
    whole, net, borrowed, rest = (float(part.replace(",", "")) for part in parts)
    assert whole == file.stat().st_size == pytest.approx(net + borrowed + rest, abs=1) and borrowed < 40

    assert compress.main([folder, "--decode", str(file), "--out", str(out)]) == 0
    assert np.array_equal(in_png(out), x)


@pytest.mark.parametrize("count", [1, 3])
def test_pictures_by_path_and_a_single_image_come_back(run, tmp_path, count):
    folder, paths = run(prior="vamp"), []
    for number, x in enumerate(images(count)):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray((200 * x.reshape(28, 28) + 20).astype(np.uint8)).save(paths[-1])
    assert compress.main([folder, *paths, "--out", str(tmp_path / "f")]) == 0
    assert compress.main([folder, "--decode", str(tmp_path / "f"), "--out", str(tmp_path / "o.png")]) == 0
    assert np.array_equal(in_png(tmp_path / "o.png"), images(count))


def test_no_file_that_cannot_be_decoded_gives_wrong_pixels(run, tmp_path, capsys, monkeypatch):
    folder, file, out = run(), tmp_path / "f", tmp_path / "o.png"

    def refused(*fragments, run=folder):
        status = compress.main([run, "--decode", str(file), "--out", str(out)])
        assert_refused(status, capsys.readouterr().err, *fragments)
        assert not out.exists()

    assert compress.main([folder, "--images", "3", "--out", str(file)]) == 0
    whole = file.read_bytes()
    for at in range(0, len(whole), 97):  # any byte
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        refused("found another or a damaged one")
    for other in (whole[:-5], whole[:40], b"", b"\x89PNG"):
        file.write_bytes(other)
        refused("found another or a damaged one")
    file.unlink()
    refused("No such file")
    file.mkdir()
    refused("it is a folder")
    file.rmdir()
    file.write_bytes(whole)
    refused("other weights", run=run("other", seed=1))
    with monkeypatch.context() as patch:
        patch.setitem(compress_images.VERSIONS, "torch", "1.0")
        refused("it was written with torch 2")
    narrow = stream.model.QuantizedGaussian(-1, 1, 0.0, 1.0)  # in which the places of z are not to be found
    nudges = {"pixel_means": lambda p: p * (1 - 1e-4), "posterior": lambda q: [narrow for _ in q]}
    for method, nudge in nudges.items():  # a machine that rounds differently
        with monkeypatch.context() as patch:
            right = getattr(BitsBack, method)
            patch.setattr(BitsBack, method, lambda self, v, right=right, nudge=nudge: nudge(right(self, v)))
            refused("rounds differently")
    out.write_text("mine")
    assert_refused(compress.main([folder, "--decode", str(file), "--out", str(out)]), capsys.readouterr().err, "choose")
    assert out.read_text() == "mine"
    assert compress.main([folder, "--decode", str(file), "--out", str(tmp_path / "right.png")]) == 0


REFUSED = {
    "grey": ({"binarize": "none"}, "found a VAE, grey pixels"),
    "gaussian": ({"likelihood": "gaussian"}, "a Bernoulli likelihood"),
    "flow": ({"prior": "flow"}, "found a VAE with a flow prior"),
    "ae": ({"model": "ae"}, "--model vae"),
}
LARGE = {
    "masked": ({"architecture": "masked"}, "sees z alone"),
    "cvae": ({"model": "cvae", "architecture": "conv"}, "--model vae"),
    "vqvae": ({"model": "vqvae", "architecture": "conv", "latent_dim": None}, "--model vae"),
}


@pytest.mark.parametrize("name", [*REFUSED, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_what_bits_back_cannot_code_is_refused(name, run, tmp_path, capsys):
    settings, said = {**REFUSED, **LARGE}[name]
    if settings.get("architecture", "mlp") != "mlp":
        settings = {**settings, "hidden": RunConfig().hidden}
    status = compress.main([run(**settings), "--out", str(tmp_path / "f")])
    assert_refused(status, capsys.readouterr().err, "bits back needs a run of --model vae with --binarize", said)
    assert not (tmp_path / "f").exists()


def test_what_does_not_go_together_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for argv, said in (
        (["RUN", "--images", "3", "--decode", "f", "--out", "o"], "exclude one another"),
        (["RUN", "a.png", "--decode", "f", "--out", "o"], "exclude one another"),
        (["RUN", "--decode", "f", "--data-dir", "d", "--out", "o"], "--data-dir has no meaning"),
        (["RUN", "a.png", "--images", "3", "--out", "o"], "exclude one another"),
        (["RUN", "--images", "0", "--out", "o"], "expected an integer from 1"),
        (["RUN"], "required: --out"),
        (["nowhere", "--out", "o"], "name a run folder"),
    ):
        assert_refused(compress.main(argv), capsys.readouterr().err, said)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["normal", "mixture", "vamp"])
def test_a_thousand_mnist_digits_come_back_from_a_file_within_1_percent_of_the_elbo(prior, mnist_dir, tmp_path, capsys):
    run, file = str(tmp_path / "run"), str(tmp_path / "f")
    train = ["--dataset", "mnist", "--data-dir", str(mnist_dir), "--binarize", "dynamic", "--epochs", "1", "--out", run]
    assert vae_paper.main([*train, "--prior", prior]) == 0
    assert compress.main([run, "--images", "1000", "--out", file]) == 0
    printed = capsys.readouterr().out
    size = {
        name: float(found) for name, found in re.findall(r"^(bits back, net|-elbo / ln 2) +\S+ +(\S+)", printed, re.M)
    }
    assert size["bits back, net"] == pytest.approx(size["-elbo / ln 2"], rel=0.01)
    assert compress.main([run, "--decode", file, "--out", str(tmp_path / "o.png")]) == 0
    head = json.loads((tmp_path / "f").read_bytes().split(b"\n")[1])
    assert compress_images.digest(compress_images.packed(in_png(tmp_path / "o.png"))) == head["pixels"]
