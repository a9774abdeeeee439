"""Networks of finite width: their passes, products with their Jacobian, gradient descent."""
