"""The race: when runs end, who is first, what is kept, printed and drawn; with runs whose course is given."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from copy import copy
from dataclasses import replace

import numpy as np
import pytest

from autodiff import Network
from autodiff.initialisation import glorot_initialisation
from autodiff.objective import loss
from autodiff.passes import ForwardPass
from kfac_ref.optimizer import Diverged
from kfac_ref.settings import preset
from kfac_ref.training.experiment import Experiment, prepare
from validation import race
from validation.benchmark.peer import Peer
from validation.race import DIVERGED, LATE, REACHED, TIME, Run, racers
from validation.race.racers import OURS, RIVALS, SIDES, STARTS, THEIRS, Pythons, Setting
from validation.work import Work

TARGET = 8.0


class Course:
    """A run whose error is a given function of its seconds; an iteration takes 0.1."""

    def __init__(self, error, good_for=math.inf):
        self.error, self.good_for, self.k = error, good_for, 0

    def advance(self, until):
        self.k = max(self.k + 1, math.ceil(until / 0.1))
        if self.k / 10 > self.good_for:
            raise Diverged("too far")
        return self.k, self.k / 10

    def parameters(self):
        return [np.array(self.error(self.k / 10))]


def power(scale: float):
    """100 at first, and TARGET after `scale` seconds."""
    return lambda t: min(100.0, TARGET * scale / t) if t else 100.0


def drive(error, leader=None, limit=60.0, **course):
    setting = Setting(OURS, "one", {})
    return race.drive(setting, Course(error, **course), lambda W: float(W[0]), TARGET, limit, leader)


def test_a_run_ends_at_the_target_and_is_evaluated_more_often_near_it():
    run = drive(power(20.0))
    assert run.ended == REACHED and run.error[-1] <= TARGET < run.error[-2]
    assert 20.0 <= run.score <= 20.0 * race.RESOLUTION + 0.1
    assert run.seconds == pytest.approx([k / 10 for k in run.k]) and run.k == sorted(run.k)
    assert run.seconds[0] == 0.0 and run.error[0] == 100.0
    steps = np.diff(run.seconds) / run.seconds[1:]
    assert steps[-1] < 0.03 < steps[3] and len(run.k) < 40


def test_a_run_ends_when_its_time_is_up():
    run = drive(power(100.0))
    assert run.ended == TIME and run.seconds[-1] == pytest.approx(60.0) and run.score == math.inf


@pytest.mark.parametrize("broken", [{"good_for": 10.0}, {}])
def test_a_run_ends_when_it_diverges(broken):
    run = drive((lambda t: 50.0) if broken else (lambda t: 50.0 if t < 10 else math.nan), **broken)
    assert run.ended == DIVERGED and run.seconds[-1] <= 10.0 and all(map(math.isfinite, run.error))


def test_a_run_ends_when_it_is_behind():
    leader = drive(power(20.0))
    late = drive(power(32.0), leader)
    assert late.ended == LATE
    assert race.GRACE * 20.0 < late.seconds[-1] < 10.0, "long before its end, but not in the grace time"
    close = drive(power(27.0), leader)
    assert close.ended == REACHED and close.score > leader.score
    # slow at first, and first nevertheless
    overtaking = drive(lambda t: 100.0 if t < 4 else power(15.0)(t), leader)
    assert overtaking.ended == REACHED and overtaking.score < leader.score


def test_behind_compares_times_at_the_same_error():
    leader = Run(Setting(OURS, "one", {}), [0, 1, 2, 3], [0.0, 4.0, 8.0, 12.0], [100.0, 50.0, 20.0, TARGET], REACHED)
    assert race.behind(6.1, 50.0, leader) and not race.behind(5.9, 50.0, leader)
    assert not race.behind(5.9, 80.0, leader), "the leader's next evaluation counts"
    assert race.behind(18.1, 10.0, leader) and not race.behind(17.9, 10.0, leader)
    assert not race.behind(2.9, 100.0, leader), "in the grace time"


def at_start(courses, begun):
    @contextmanager
    def start(setting, pythons):
        begun.append(str(setting))
        yield copy(courses[str(setting)])

    return start


SETTINGS = [Setting(OURS, "m = 10", {}), Setting(OURS, "m = 20", {"m1": 20}), Setting(THEIRS, "m = 10", {}, [(1, 10)])]


@pytest.fixture
def prepared(monkeypatch):
    """A small network in the place of MNIST's."""
    small = prepare(Experiment(data="fashion16", network=(256, 4, 256), constants={"m1": 50, "full_batch_at": None}))
    monkeypatch.setattr(race, "experiment", lambda constants: small)
    return small


@pytest.fixture
def begun(monkeypatch, prepared):
    """What was begun of the runs, whose seconds to the target are 20, 24 and 40."""
    begun = []
    courses = {str(s): Course(power(t)) for s, t in zip(SETTINGS, (20.0, 24.0, 40.0), strict=True)}
    monkeypatch.setattr(race, "SETTINGS", SETTINGS)
    monkeypatch.setattr(race, "at_start", at_start(courses, begun))
    monkeypatch.setattr(race, "evaluation", lambda: lambda W: float(W[0]))
    return begun


def test_the_race_prints_who_is_first_and_goes_on_where_it_was(begun, tmp_path, capsys):
    arguments = ["--peers", "python", "--target", "8", "--seconds", "60", "--out", str(tmp_path)]
    assert race.main(arguments) == 0
    said = capsys.readouterr().out
    # all once, and then the best of each side twice more, in turn
    assert begun == [
        "kfac-ref, m = 10",
        "kfac-ref, m = 20",
        "kfac-jax, m = 10",
        *("kfac-ref, m = 10", "kfac-jax, m = 10") * 2,
    ]
    ours, theirs = (float(said.split(f"{side}: ")[1].split(" s ")[0]) for side in (OURS, THEIRS))
    assert 20.0 <= ours <= 20.5 and 40.0 <= theirs <= 41.0
    assert float(said.split("ratio to kfac-jax: ")[1].split()[0]) == pytest.approx(ours / theirs, abs=0.002)
    assert f"{OURS}: {ours} s to a training error of 8 (m = 10; median of 3 runs)" in said
    rows = [line.split() for line in said.splitlines() if line.startswith(f"{OURS}  ")]
    assert [row[-2:] for row in rows] == [["target", "reached"]] * 4
    assert {"race.png", "race.csv", "race.txt"} <= {path.name for path in tmp_path.iterdir()}
    assert race.main(arguments) == 0
    assert len(begun) == 7 and capsys.readouterr().out.splitlines()[-5:] == said.splitlines()[-5:]


def test_without_a_python_the_other_side_is_left_out(begun, tmp_path, capsys):
    assert race.main(["--target", "8", "--seconds", "60", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert len(begun) == 4 and "left out: kfac-jax: --peers is not given" in said and "ratio to" not in said


@pytest.mark.parametrize("arguments", [["--target", "0"], ["--seconds", "inf"], ["--target", "nan"]])
def test_what_is_out_of_range_is_named(arguments):
    with pytest.raises(ValueError, match=rf"{arguments[0]} must be finite and > 0; got"):
        race.main(arguments)


def test_the_ratio_is_a_bound_where_the_other_side_never_gets_there():
    ours = drive(power(20.0))
    theirs = replace(drive(power(100.0)), setting=SETTINGS[2])
    said = race.verdict([ours, theirs], TARGET, 60.0)
    assert "kfac-jax: not at a training error of 8 within 60 s" in said
    assert said.endswith(f"ratio to kfac-jax: below {ours.score / 60:.3f}")
    assert "ratio to" not in race.verdict([drive(power(100.0)), theirs], TARGET, 60.0)
    assert "ratio to" not in race.verdict([ours, replace(theirs, ended=DIVERGED)], TARGET, 60.0)


def test_the_first_of_the_rivals_counts():
    ours = drive(power(20.0))
    adam, muon = (
        replace(drive(power(t)), setting=Setting(side, "m = 10", {}, [(1, 10)]))
        for side, t in (("Adam", 50.0), ("Muon", 40.0))
    )
    soap = replace(drive(power(100.0)), setting=Setting("SOAP", "m = 10", {}, [(1, 10)]))
    said = race.verdict([ours, adam, muon, soap], TARGET, 60.0)
    assert said.endswith(f"ratio to the best of Adam, Muon, SOAP: {ours.score / muon.score:.3f}")
    assert "SOAP: not at a training error of 8 within 60 s" in said and "kfac-jax" not in said


def test_the_preset_takes_part():
    ours = next(s for s in race.SETTINGS if s.side == OURS)
    assert ours.name == "preset quick" and preset("authors", **ours.options) == preset("quick")


def test_who_takes_part():
    def sides(*pythons):
        return {s.side for s in Pythons(*pythons).take_part(race.SETTINGS)}

    assert sides() == {OURS} and sides("j") == {OURS, THEIRS}
    assert sides(None, "t") == {OURS, *RIVALS} and sides("j", "t") == set(SIDES)
    assert (Pythons("j", "t").of(THEIRS), Pythons("j", "t").of("Adam")) == ("j", "t")


def test_the_median_of_the_best_settings_runs_counts():
    ours = [replace(drive(power(t)), setting=SETTINGS[0]) for t in (20.0, 26.0, 23.0)]
    theirs = replace(drive(power(40.0)), setting=SETTINGS[2])
    said = race.verdict([*ours, theirs], TARGET, 60.0)
    assert f"ratio to kfac-jax: {ours[2].score / theirs.score:.3f}" in said


def test_the_picture_has_every_run_and_names_the_best():
    late = replace(drive(power(30.0)), setting=SETTINGS[1])
    theirs = replace(drive(power(40.0)), setting=SETTINGS[2])
    ax, below = race.draw([drive(power(20.0)), late, theirs], TARGET).axes
    assert len(ax.lines) == len(below.lines) == 4
    for line, under in zip(ax.lines[:3], below.lines[:3], strict=True):
        assert list(line.get_ydata()) == list(under.get_ydata())
        assert list(line.get_xdata()) == pytest.approx([k / 10 for k in under.get_xdata()])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(labels) == ["kfac-jax, m = 10", "kfac-ref, one", "the target, 8"]


def test_every_setting_is_one_that_can_be_run():
    names = [str(s) for s in race.SETTINGS]
    assert len(set(names)) == len(names) and {s.side for s in race.SETTINGS} == set(SIDES)
    assert all(s.start in STARTS for s in race.SETTINGS)
    for setting in race.SETTINGS:
        if setting.side == OURS:
            described = replace(
                racers.reference_run.experiment("mnist", constants=dict(setting.options)),
                data="fashion16",
                network=(256, 4, 256),
            )
            assert dict(setting.options).items() <= dict(prepare(described).experiment.constants).items()
        else:
            firsts = [first for first, _ in setting.minibatches]
            assert firsts[0] == 1 and firsts == sorted(set(firsts)), setting


def test_our_side_counts_iterations_and_seconds(prepared):
    ours = racers.Ours(prepared)
    start = ours.parameters()
    k, seconds = ours.advance(0.0)
    assert k == 1 and seconds > 0
    assert ours.advance(seconds / 2)[0] == 2, "one iteration at least"
    k, later = ours.advance(ours.seconds + 0.05)
    assert k > 2 and later >= seconds + 0.05
    assert all(a.shape == b.shape and not np.array_equal(a, b) for a, b in zip(start, ours.parameters(), strict=True))


def test_a_run_of_ours_that_diverges_says_so(prepared):
    ours = racers.Ours(prepared)
    ours.state = replace(ours.state, parameters=[W * np.float32(1e30) for W in ours.state.parameters])
    ours.iterations = racers.loop.iterate(prepared.optimizer, ours.state, prepared.data)
    with np.errstate(all="ignore"), pytest.raises(Diverged):
        ours.advance(1.0)


def test_starts(prepared):
    sparse, glorot, four = (racers.first_state(prepared, start).parameters for start in STARTS)
    for W, expected in zip(sparse, prepared.first_state().parameters, strict=True):
        np.testing.assert_array_equal(W, expected)
    for W, V in zip(glorot, four, strict=True):
        assert 0.9 < np.abs(W[:, :-1]).max() / np.sqrt(6 / (W.shape[0] + W.shape[1] - 1)) <= 1
        np.testing.assert_array_equal(V, 4 * W)
    assert np.array_equal(racers.Ours(prepared, "4 × Glorot").parameters()[0], four[0])


# --- with PyTorch --------------------------------------------------------------------------------------------------

TORCH = os.environ.get("KFAC_REF_TORCH_PYTHON")


@pytest.mark.skipif(not TORCH, reason="KFAC_REF_TORCH_PYTHON is not set")
@pytest.mark.parametrize("side", RIVALS)
def test_a_rival_trains_from_where_we_do(prepared, monkeypatch, side):
    monkeypatch.setattr(racers, "experiment", lambda constants: prepared)
    setting = next(s for s in race.SETTINGS if s.side == side)
    setting = replace(setting, minibatches=[(1, 200)], start="sparse")
    error = race.evaluation()
    start = error(racers.Ours(prepared).parameters())
    with racers.at_start(setting, Pythons(torch=TORCH)) as racer:
        assert error(racer.parameters()) == pytest.approx(start, rel=1e-6)
        k, seconds = racer.advance(0.0)
        assert k == 1 and seconds > 0
        more, later = racer.advance(seconds + 1.0)
        assert more > 1 and later >= seconds + 1.0
        assert error(racer.parameters()) < 0.9 * start


@pytest.mark.skipif(not TORCH, reason="KFAC_REF_TORCH_PYTHON is not set")
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_rival_has_our_objective(likelihood):
    network = Network((6, 4, 3, 6), ["tanh", "identity"], likelihood)
    W, X, eta = glorot_initialisation(network, 0), np.random.default_rng(0).random((20, 6)), 0.1
    with Peer(TORCH, racers.TORCH_WORKER, racers.TORCH_NEEDED) as other:
        other.prepare(network.sizes, ("tanh", "identity", "identity"), likelihood, X, W, eta)
        with pytest.raises(ValueError, match="no optimizer 'Adagrad', expected one of Adam, Muon"):
            other.begin({"optimizer": "Adagrad"}, [(1, 20)])
        other.begin({"optimizer": "Adam"}, [(1, 20)])
        found = other.ask("advance", until=0.0)
    assert found["loss"] == pytest.approx(float(loss(ForwardPass(network, W, X), X, eta).h), rel=1e-5)


def test_the_error_is_the_mean_over_all_cases(prepared):
    W = [np.asarray(w) for w in prepared.first_state().parameters]
    X = np.asarray(prepared.data.X, dtype=np.float64)
    hidden = X @ W[0][:, :-1].T + W[0][:, -1]  # the code layer is linear
    output = 1 / (1 + np.exp(-(hidden @ W[1][:, :-1].T + W[1][:, -1])))
    assert race.evaluation()(W) == pytest.approx(np.sum((X - output) ** 2) / len(X), rel=1e-5)


def test_what_is_kept_is_of_these_limits(begun, tmp_path):
    for limit in (60.0, 60.0, 50.0):
        race.race(Work(tmp_path), SETTINGS[:1], Pythons(), TARGET, limit)
    assert len(begun) == 2 * race.ATTEMPTS
