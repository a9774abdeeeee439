"""`ntkfast bench`: how fast the kernels are, as a share of what this machine can do, and beside other libraries.

workloads → limits, growth, goals, peers (what is measured) → run (all of it, as plain numbers) → table, page, compare.
"""
