"""Files that come with the package: `fashion16.npz`, remade by `python -m validation make-fashion16`."""
