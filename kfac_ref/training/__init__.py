"""Training: what is trained on what, the loop, a run's folder, checkpoints (§13)."""
