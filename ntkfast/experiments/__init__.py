"""The experiments of Jacot, Gabriel and Hongler (2018), each a module with `run`, `plot` and `findings`."""
