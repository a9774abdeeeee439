"""Networks of finite width: passes, empirical kernels, Jacobian products, training."""
