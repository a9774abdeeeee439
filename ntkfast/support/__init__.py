"""Plumbing that knows no network: arrays, scalars, losses, memory, progress, files, reprs."""
