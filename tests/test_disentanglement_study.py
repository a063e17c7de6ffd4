"""The study: what it says of known tables, which models it trains, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

import disentanglement_study
from run_folders import finished_run
from vae_commands import disentanglement_study as study
from vae_common.config import RunConfig
from vae_common.run_folder import read_evaluation


def a_table(score, seeds=5) -> dict:
    """The table of a study whose models have score(number of the objective, seed) as every figure."""
    models = {name: [score(n, seed) for seed in range(seeds)] for n, name in enumerate(study.OBJECTIVES)}
    names = ("recon", "kl", "elbo", "information", "total_correlation", "dimension_kl")
    terms = {name: dict(models) for name in names}
    scores = {name: {**models, "PCA": [0.5]} for name in study.SCORES}
    return {"dataset": "sprites", "latent_dim": 10, "epochs": 1, "scores": scores, "terms": terms}


def test_twelve_objectives_of_the_kinds_that_are_compared():
    assert len(study.OBJECTIVES) == 12
    for name, flags in study.OBJECTIVES.items():
        config = RunConfig(**flags).settled()
        kind, value = name.rsplit("-", 1)
        says = {"beta-vae": config.beta, "capacity": config.capacity, "beta-tcvae": 1 + config.tc_weight}
        assert {**says, "factor-vae": config.tc_weight}[kind] == float(value)


def test_variance_is_shared_between_objectives_and_seeds():
    """All between; none between; and, where nothing differs, (M - 1) / (M S - 1) on average."""
    share = study.share_of_objective
    assert share({"a": np.array([1.0, 1]), "b": np.array([2.0, 2])}) == pytest.approx(1)
    assert share({"a": np.array([1.0, 2]), "b": np.array([2.0, 1])}) == pytest.approx(0)
    draws = [share(dict(enumerate(np.random.default_rng(n).normal(size=(12, 5))))) for n in range(400)]
    assert np.mean(draws) == pytest.approx(11 / 59, abs=4 * np.std(draws) / 20)


def test_better_half():
    rising = np.arange(10.0)
    assert study.better_half(rising, rising**3) == 1 and study.better_half(rising, -rising) == 0
    assert study.better_half(np.array([5.0, 0, 1, 2, 3, 4]), np.array([0.0, 1, 9, 8, 7, 2])) == 1 / 3


def test_a_finished_table_is_drawn_and_told_again(tmp_path, capsys, not_laid_out):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(a_table(lambda number, seed: 0.05 * number + 0.004 * (seed * 3 % 5 - 2))))
    assert disentanglement_study.main(["--table", str(path), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "figures" / "scores.png").exists()
    row = next(line for line in said.splitlines() if line.startswith("beta-vae-4"))
    assert row.split()[1:] == ["0.100"] * 11
    assert "\nPCA" + " " * 15 + "        0.500" * 6 + "\n" in said
    assert "\nchance 0.19" + " " * 7 + "         1.00" * 6 + "\n" in said
    assert "\nelbo" + " " * 14 + "  1.00 (1.00)" * 6 + "\nleast TC" + " " * 10 + " -1.00 (0.00)" * 6 in said


def test_the_page_tells_the_table_that_is_kept():
    """Medians over the seeds, row by row, and the two ends of every share of the variance."""
    paper = Path(disentanglement_study.__file__).parent
    found = json.loads((paper / "gallery" / "disentanglement-study.json").read_text())
    told = (paper / "README.md").read_text().split("### Does it disentangle?")[1].split("\n\n")
    scores, terms = found["scores"], found["terms"]
    columns = [scores[name] for name in study.SCORES]
    columns += [terms[name] for name in ("kl", "information", "total_correlation")]
    rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in told[2].splitlines()[2:]]
    expected = [[f"{np.median(of[row]):.2f}" if row in of else "" for of in columns] for row in scores["MIG"]]
    assert rows == expected
    shares = [study.share_of_objective({one: scores[name][one] for one in terms["kl"]}) for name in study.SCORES]
    seed = next(paragraph for paragraph in told if paragraph.startswith("**The seed.**"))
    assert f"lie {100 * min(shares):.0f} to {100 * max(shares[:5]):.0f} %" in seed
    assert f"({100 * shares[5]:.0f} %)" in seed


def test_only_missing_models_are_trained(tmp_path, monkeypatch, capsys):
    config = RunConfig(dataset="sprites", latent_dim=10, epochs=1, beta=2.0, out=str(tmp_path / "run")).settled()
    assert not study.is_measured(config)
    finished_run(tmp_path / "run", dataset="sprites", latent_dim=10, beta=2.0)
    assert not study.is_measured(config)  # trained, and not measured
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps({"disentanglement": {}}))
    assert study.is_measured(config)
    with pytest.raises(study.UsageError, match="other settings"):
        study.is_measured(RunConfig(dataset="sprites", latent_dim=10, epochs=1, beta=3.0, out=config.out).settled())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"scores": {}, "terms": {}}', '{"scores": {"MIG": {"PCA": ["x"]}}, "terms": {}}']
)
def test_another_file_is_no_table(text, tmp_path, told):
    path = tmp_path / "table.json"
    path.write_text(text)
    command = ["--table", str(path), "--out", str(tmp_path)]
    assert "expected the table.json of a study" in told(disentanglement_study.main, command)
    assert "name it with --out" in told(disentanglement_study.main, command[:2])
    assert "the folder cannot be made" in told(disentanglement_study.main, ["--out", str(path)])
    assert "--seeds has no meaning with --table" in told(disentanglement_study.main, [*command, "--seeds", "3"])


@pytest.mark.slow
def test_a_study_of_one_epoch_from_beginning_to_end(tmp_path, monkeypatch, capsys):
    """Two objectives, two seeds: every run can be read, the table has them all, and a second start trains none."""
    monkeypatch.setattr(study, "OBJECTIVES", {name: study.OBJECTIVES[name] for name in ("beta-vae-4", "factor-vae-10")})
    command = ["--out", str(tmp_path), "--seeds", "2", "--epochs", "1", "--workers", "2"]
    assert disentanglement_study.main(command) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert {name: len(values) for name, values in table["scores"]["MIG"].items()} == {
        "beta-vae-4": 2, "factor-vae-10": 2, "untrained": 2, "PCA": 1, "factors, rotated": 1, "factors": 1,
    }  # fmt: skip
    assert table["scores"]["DCI disentanglement"]["factors"] == [pytest.approx(1)]
    second = read_evaluation(tmp_path / "factor-vae-10-seed-1")
    kl, tc = (table["terms"][name]["factor-vae-10"][1] for name in ("kl", "total_correlation"))
    assert (kl, tc) == (second["kl"], second["information"]["train"]["total_correlation"]["value"])
    capsys.readouterr()
    assert disentanglement_study.main(command) == 0
    assert "4 models, 0 of them to be trained" in capsys.readouterr().out
