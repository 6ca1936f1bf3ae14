"""The plan: what is run, in which order, and how long each part may take."""

from __future__ import annotations

from dataclasses import dataclass

MINUTES = 8.0
"""What the plan was made for; with other minutes, all shares grow or shrink alike."""
LEAST = 10.0
"""Seconds that a part gets at least, if so much time is left: Python and CuPy have to start."""
SPARE = 2.0
"""Seconds kept for the page."""


@dataclass(frozen=True)
class Part:
    """A part, made by one process."""

    name: str
    """Of its file in the folder, too."""
    title: str
    seconds: float
    """Its share of MINUTES; the last part gets all that is left."""
    command: tuple[str, ...]
    """What Python is given."""


def parts(backend: str) -> list[Part]:
    """All parts: what is cheap and tells most comes first."""

    def made(name: str, title: str, seconds: float) -> Part:
        command = "-m", f"validation.gpu_campaign.{name}", "--backend", backend
        return Part(name, title, seconds, command)

    library = {"cupy": "CuPy", "numpy": "NumPy"}[backend]
    return [
        made("device", "The device", 15),
        made("smoke", f"Every function of the array library, {library} against NumPy", 40),
        made("replays", "The authors' recorded runs, replayed in float64", 40),
        made("library_tests", f"The tests, on {library} alone", 150),
        made("speed", "Seconds an iteration on MNIST's network", 110),
        made("mnist", "MNIST, trained as the authors did", 115),
    ]


def limit(part: Part, minutes: float, left: float, last: bool) -> float:
    """Seconds after which a part is stopped; 0 if it is not to be begun.

    Parameters
    ----------
    part : Part
    minutes : float
        Of the whole campaign.
    left : float
        Seconds until its end.
    last : bool
        Whether the part is the last one.
    """
    left -= SPARE
    share = left if last else min(max(part.seconds * minutes / MINUTES, LEAST), left)
    return share if share >= 1 else 0.0
