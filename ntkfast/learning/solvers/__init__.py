"""Linear systems with kernels of many points: conjugate gradients and its preconditioners, Nyström's method."""
