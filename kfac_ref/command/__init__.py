"""The command `kfac-ref`: what it takes, prints and draws."""
