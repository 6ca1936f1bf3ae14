"""Environments of gymnasium, several side by side, and what a policy earns in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Task:
    """An environment, and what is the same for whoever is trained on it."""

    name: str
    """Of gymnasium."""
    actions: int
    """How many to choose from; 0: a number, from a normal distribution around what the network says."""
    steps: int
    """Of training."""
    scale: float = 1.0
    """What rewards are multiplied by for training; the returns that are reported are not."""
    spread: float = 1.0
    """The standard deviation of an action that is a number."""
    solved: float | None = None
    """The mean return with which it counts as solved."""


TASKS = {
    "cartpole": Task("CartPole-v1", actions=2, steps=98_304, solved=475.0),
    "acrobot": Task("Acrobot-v1", actions=3, steps=65_536),
    "pendulum": Task("Pendulum-v1", actions=0, steps=98_304, scale=0.1, spread=1.0),
}


def gymnasium() -> Any:
    """The package; ValueError saying how to install it where it is not there."""
    try:
        import gymnasium
    except ImportError:
        raise ValueError(
            "gymnasium is not installed, and the environments are its own; python -m pip install 'kfac-ref[rl]'"
        ) from None
    return gymnasium


class Environments:
    """`number` copies of an environment, each beginning a new episode when one is over."""

    def __init__(self, task: Task, number: int, seed: int) -> None:
        make = gymnasium().make
        self.task = task
        self.each = [make(task.name, disable_env_checker=True) for _ in range(number)]
        self.seen = np.array([e.reset(seed=seed * 1000 + i)[0] for i, e in enumerate(self.each)], dtype=np.float64)
        """What each shows now, (number, d)."""
        self.earned = np.zeros(number)
        self.finished: list[float] = []
        """The returns of the episodes that are over, in the order in which they ended."""

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One step in each: rewards, what came of it (number, d), whether the episode ended there, and whether it was
        only cut short, so that its end has a value. `seen` is then of the next episode where one is over."""
        n = len(self.each)
        rewards, ended, cut, after = np.zeros(n), np.zeros(n, bool), np.zeros(n, bool), np.empty_like(self.seen)
        for i, (environment, action) in enumerate(zip(self.each, actions, strict=True)):
            after[i], rewards[i], ended[i], cut[i], _ = environment.step(action)
            self.earned[i] += rewards[i]
            self.seen[i] = after[i]
            if ended[i] or cut[i]:
                self.finished.append(float(self.earned[i]))
                self.earned[i] = 0.0
                self.seen[i] = environment.reset()[0]
        return rewards, after, ended, cut & ~ended


def returns(task: Task, act: Callable[[np.ndarray], np.ndarray], episodes: int, seed: int) -> np.ndarray:
    """The returns of so many episodes from starts that the seed gives: (episodes,). `act` is given (n, d)."""
    if task.name == "CartPole-v1":  # which gymnasium has as one program for all
        return _together(gymnasium().make_vec(task.name, episodes, "vector_entry_point"), act, seed)
    environments = Environments(task, episodes, seed)
    earned, running = np.full(episodes, np.nan), np.arange(episodes)
    while len(running):
        actions = act(environments.seen[running])
        for i, action in zip(running, actions, strict=True):
            seen, reward, ended, cut, _ = environments.each[i].step(action)
            environments.seen[i] = seen
            environments.earned[i] += reward
            if ended or cut:
                earned[i] = environments.earned[i]
        running = np.flatnonzero(np.isnan(earned))
    return earned


def _together(environments: Any, act: Callable[[np.ndarray], np.ndarray], seed: int) -> np.ndarray:
    seen, _ = environments.reset(seed=seed)
    earned, running = np.zeros(len(seen)), np.ones(len(seen), bool)
    while running.any():
        seen, rewards, ended, cut, _ = environments.step(act(seen.astype(np.float64)))
        earned += np.where(running, rewards, 0.0)
        running &= ~(ended | cut)
    return earned
