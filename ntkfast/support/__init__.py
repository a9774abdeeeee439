"""Utilities that do not depend on networks: arrays, scalars, losses, memory, progress, files, reprs."""
