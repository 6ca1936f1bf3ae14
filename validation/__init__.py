"""Evidence: replays of recorded runs and reference runs beside the authors' own. See `python -m validation --help`."""
