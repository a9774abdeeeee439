"""Promises of reliability, one module each. `python -m tests.stress` tests them, and tests/test_stress.py briefly.

Such a module has a docstring whose first paragraph is the promise, ROW (its place on the page), and run(scale), with
scale "small" (seconds) or "full": it returns what it counted by name, raises AssertionError with the facts if the
promise is broken, and unittest.SkipTest if what it needs is missing.
"""
