"""Settings: declared once, they are flags with bounds; what a user can cause ends in one line and a status."""

import argparse
import errno
import json
import re
from dataclasses import dataclass

import pytest
import torch

from messages import one_sentence
from vae_common import cli
from vae_common.config import QuadrantConfig, RunConfig, SweepConfig, number, setting, whole
from vae_common.errors import UsageError
from vae_common.run_folder import make_run_folder, read_config

INTEGER, RATE = "an integer from 1 to 256", "a finite number above 0 and at most 1000"


@pytest.mark.parametrize(
    "kind, expected, taken, refused",
    [
        (whole(1, 256), INTEGER, {"1": 1, "256": 256, " +20 ": 20}, ("0", "257", "2.0", "", "nan", "0x10", "9" * 5000)),
        (whole(1), "an integer of at least 1", {"257": 257}, ("0",)),
        (number(0, 1000, above=True), RATE, {"2e-3": 2e-3, "1000": 1000.0}, ("0", "-1", "nan", "inf", "1001", "1,5")),
        (number(0), "a finite number of at least 0", {"0": 0.0}, ("-1e-9", "nan", "inf")),
    ],
)
def test_a_kind_takes_what_is_in_its_range(kind, expected, taken, refused):
    assert {text: kind(text) for text in taken} == taken
    for text in refused:
        with pytest.raises(argparse.ArgumentTypeError, match=f"expected {expected}, got "):
            kind(text)


def test_the_defaults_are_those_that_the_help_tells():
    found = {}
    for config, command in ((RunConfig, "paper"), (SweepConfig, "rate_distortion"), (QuadrantConfig, "quadrants")):
        for name, declared in config.settings(command).items():
            told = re.search(r"default ([a-z]+|[\d.e-]+)(?=[,:) ])", declared["help"])
            default = getattr(config().settled(), name)
            if told and isinstance(default, (str, int, float)) and told[1] not in ("half", "runs"):
                assert type(default)(told[1]) == default, name
            found[command, name] = told and told[1]
    assert found["paper", "lr"] == "2e-3" and found["paper", "latent_dim"] == "20" and found["paper", "model"] == "vae"
    assert found["rate_distortion", "epochs"] == "3" and found["quadrants", "samples"] == "50"


def test_what_follows_from_other_settings():
    def settled(**typed):
        config = RunConfig(**typed).settled()
        return config.latent_dim, config.beta, config.anneal_epochs, config.prior_epochs

    assert RunConfig().dataset == RunConfig(weights="some/file").dataset == "digits"  # those of shipped weights
    assert RunConfig(weights="mnist-z20").dataset == "mnist"
    assert RunConfig(weights="mnist-z20", dataset="digits").dataset == "digits"
    assert settled() == (20, 1.0, 5.0, 10)
    assert settled(capacity=25.0, epochs=6) == (20, 10.0, 3.0, 6)
    assert settled(anneal="cyclical", epochs=40) == (20, 1.0, 5.0, 40)
    assert settled(latent_dim=2, beta=0.0, anneal_epochs=1.5, prior_epochs=3) == (2, 0.0, 1.5, 3)


def test_only_what_was_typed_is_handed_on_even_where_it_is_the_default():
    def typed(*argv):
        parser = cli.parser("", *RunConfig.settings("paper"))
        return vars(parser.parse_args(argv))

    assert typed() == {}
    assert typed("--seed", "0", "--amp", "--dataset", "digits") == {"seed": 0, "amp": True, "dataset": "digits"}
    assert typed("--hidden", "512, 64") == {"hidden": (512, 64)}
    assert typed("--architecture", "mlp") == typed("--trunk", "mlp") == {"architecture": "mlp"}


@dataclass(frozen=True)
class Warmer(RunConfig):
    warmth: float = setting(0.5, number(0, 1), ("paper",), "how warm (default 0.5)", "W")


def test_a_setting_that_is_added_is_a_flag_is_saved_and_is_read_again(tmp_path, capsys):
    def run(*argv, command="paper"):
        made = []
        parser = cli.parser("", *Warmer.settings(command), config=Warmer)
        status = cli.run(parser, argv, lambda **typed: made.append(Warmer(**typed).settled()))
        return made[0] if status == 0 else capsys.readouterr().err.splitlines()[-1]

    assert run().warmth == 0.5 and run("--warmth", "0.25", "--seed", "3") == Warmer(warmth=0.25, seed=3).settled()
    assert "argument --warmth: expected a finite number of at least 0 and at most 1, got '2'" in run("--warmth", "2")
    assert "unrecognized arguments: --warmth 1" in run("--warmth", "1", command="numpy")

    config = run("--warmth", "0.25", "--out", str(tmp_path / "run"))
    folder = make_run_folder(config, "paper")
    assert read_config(folder, kind=Warmer)[0] == config
    file = folder / "config.json"
    written = file.read_text()
    file.write_text(written.replace('"warmth": 0.25', '"warmth": 2'))
    with one_sentence(UsageError, str(file), "warmth is '2'"):
        read_config(folder, kind=Warmer)
    file.write_text(written.replace('"warmth": 0.25,', ""))
    with pytest.raises(UsageError, match="it lacks warmth"):
        read_config(folder, kind=Warmer)


def test_a_run_of_an_earlier_version_had_the_defaults_of_what_is_new(tmp_path):
    folder = make_run_folder(RunConfig(dataset="sprites", out=str(tmp_path / "run")).settled(), "paper")
    config = json.loads((folder / "config.json").read_text())
    new = [name for name, declared in RunConfig.settings("paper").items() if declared.get("new")]
    (folder / "config.json").write_text(json.dumps({name: config[name] for name in config if name not in new}))
    found = read_config(folder)[0]
    assert found.class_names == ("square", "ellipse", "heart")
    assert {name: config[name] for name in vars(found)} == json.loads(json.dumps(vars(found)))


@pytest.mark.parametrize(
    "name, fragment",
    [
        *((name, "expected cpu, cuda, cuda:N, mps or auto, got") for name in ("", "meta")),
        ("cuda", "--device cuda: torch finds no cuda device"),
        ("cpu:1", "--device cpu:1: torch finds 1 cpu device"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, name, fragment):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with one_sentence(UsageError, fragment):
        cli.torch_device(name)


def test_auto_takes_cuda_where_there_is_one(monkeypatch):
    for available, kind in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert cli.torch_device("auto").type == kind
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert cli.torch_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    "failure, status, last_line",
    [
        (UsageError("no such\nthing."), 2, "tool: error: no such thing."),
        (OSError(errno.EACCES, "Permission denied", "runs"), 2, "tool: error: runs: Permission denied."),
        (KeyboardInterrupt("interrupted after step 7."), 130, "interrupted after step 7."),
    ],
)
def test_what_a_user_can_cause_ends_in_one_line_and_a_status(capsys, failure, status, last_line):
    def body():
        raise failure

    parser = cli.parser("")
    parser.prog = "tool"
    assert cli.run(parser, [], body) == status
    assert capsys.readouterr().err.strip() == last_line


@pytest.mark.parametrize("argv, status", [("--help", 0), ("--seed=x", 2), ("--se=1", 2), ("--seed=7", 7)])
def test_argparse_and_a_body_choose_the_status_and_a_mistake_in_the_code_is_not_hidden(capsys, argv, status):
    assert cli.run(cli.parser("", "seed"), [argv], lambda seed: seed) == status
    with pytest.raises(ZeroDivisionError):
        cli.run(cli.parser(""), [], lambda: 1 / 0)
