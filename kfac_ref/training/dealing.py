"""An experiment prepared by one of many processes, and its cases dealt out to all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autodiff import arrays
from autodiff.arrays import to_numpy
from kfac_ref.data.dataset import Dataset
from kfac_ref.machine import Processes
from kfac_ref.training import experiment, loop
from kfac_ref.training.experiment import Experiment, Prepared, network_of, optimizer_of

PARTS = ("X", "Y", "X_test", "Y_test")


def prepare(wanted: Experiment, processes: Processes) -> Prepared:
    """As `experiment.prepare`, for many processes: the first prepares and deals the cases out.

    The `data` of each are the cases `dealt` to it. Of the first one's `dataset`, from which pictures are drawn, no case
    is missing; that of the others is empty. What the first one raises all raise.
    """
    if processes.alone:
        return experiment.prepare(wanted)
    kept: list[Prepared] = []

    def first_of_all() -> tuple[Experiment, Dataset, str, tuple[int, int]]:
        whole = experiment.prepare(wanted)
        kept.append(whole)
        parts = {name: x[:0] for name in PARTS if (x := getattr(whole.dataset, name)) is not None}
        empty = replace(whole.dataset, **parts)
        return whole.experiment, empty, whole.purpose, (whole.data.cases, whole.data.test_cases or 0)

    e, dataset, purpose, of_all = processes.by_first(first_of_all)
    xp = processes.agree(lambda: arrays.backend(e.backend, processes.on_machine))
    like = xp.zeros(0, dtype=getattr(xp, e.dtype))
    held: dict[str, Any] = {}
    for name in PARTS:
        if name[0] == "Y" and purpose == "autoencoder":
            held[name] = held[name.replace("Y", "X")]
            continue
        x = getattr(kept[0].data, name) if kept else None
        mine = processes.deal(None if x is None else to_numpy(x))
        held[name] = None if mine is None else arrays.from_numpy(mine, like)
    network = network_of(e, purpose)
    optimizer, data = optimizer_of(e, network, processes), loop.Data(**held, of_all=of_all)
    return Prepared(e, kept[0].dataset if kept else dataset, purpose, network, optimizer, data)
