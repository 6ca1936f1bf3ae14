"""Curvature: what Algorithm 2 is made of (§2–§7). Nothing here knows of steps, runs or files."""
