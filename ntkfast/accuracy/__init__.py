"""`ntkfast accuracy`: errors of the limit kernels against a recursion that owes nothing to the engine, and times."""
