"""Learning with kernels: flows, Gaussian processes, spectra, positive-definiteness, random features."""
