"""Data by name or path: where they come from, fetching, images, files (§13).

`fashion16.npz` lies here; it is remade by `python -m validation make-fashion16`.
"""
