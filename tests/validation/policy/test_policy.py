"""The command and the environments; they need gymnasium."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.kfac_ref.command.test_plots import check_picture
from validation import policy
from validation.policy import environments, training, tuning
from validation.policy.environments import TASKS, Environments


def test_without_gymnasium_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ValueError, match=r"gymnasium is not installed.*kfac-ref\[rl\]"):
        policy.main([])


def test_environments_against_one_alone() -> None:
    """Episodes follow each other, and what came of a step is of its own episode."""
    gymnasium = pytest.importorskip("gymnasium")
    both, alone = Environments(TASKS["cartpole"], 2, 5), gymnasium.make("CartPole-v1")
    seen, _ = alone.reset(seed=5001)
    earned, over = 0.0, []
    for t in range(60):
        np.testing.assert_array_equal(both.seen[1], seen)
        rewards, after, ended, cut = both.step(np.array([0, t % 3 == 0]))
        then, reward, end, _, _ = alone.step(int(t % 3 == 0))
        earned += reward
        np.testing.assert_array_equal(after[1], then)
        assert (rewards[1], ended[1], cut[1]) == (reward, end, False)
        seen = then
        if end:
            over.append(earned)
            earned, (seen, _) = 0.0, alone.reset()
    assert over and set(over) <= set(both.finished)


@pytest.mark.filterwarnings("ignore:.*CartPole-v0 is out of date")
def test_a_pole_left_to_itself_falls() -> None:
    """Evaluation by the program for all and by each alone: pushing one way always ends an episode after 8 to 11."""
    pytest.importorskip("gymnasium")
    task = TASKS["cartpole"]
    push = lambda seen: np.ones(len(seen), dtype=int)  # noqa: E731
    together = environments.returns(task, push, 20, 1)
    one_by_one = environments.returns(replace(task, name="CartPole-v0"), push, 20, 1)
    assert together.shape == one_by_one.shape == (20,)
    assert min(together.min(), one_by_one.min()) >= 8 and max(together.max(), one_by_one.max()) <= 11


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gymnasium")
    monkeypatch.setattr(training, "EPISODES", {"CartPole-v1": 10})
    monkeypatch.setattr(training, "EVALUATED_EVERY", 1024)
    fewer = {name: {key: values[:1] for key, values in grid.items()} for name, grid in tuning.FEWER.items()}
    monkeypatch.setattr(tuning, "FEWER", fewer)
    monkeypatch.setattr(policy, "QUICK", 2048)
    assert policy.main(["cartpole", "--quick", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "K-FAC, trust region" in said and "KL/δ" in said
    made = json.loads((tmp_path / "policy.json").read_text())
    assert [row["method"] for row in made["table"]] == ["K-FAC, trust region", "Adam"]
    exact = next(row for row in made["kl"] if "δ = 0.0001" in row["scaled by"])
    assert abs(exact["KL/δ, median"] - 1) < 0.1
    check_picture(tmp_path / "policy.png")
    for name in ("returns", "tuning", "kl", "summary"):
        assert len((tmp_path / f"policy-{name}.csv").read_text().splitlines()) > 2
