"""python bench/bench_peers.py [PEER ...] [--scale S] [--repeats R]: the same job by another library and here.

    neural-tangents   kernels of points, predictions, empirical kernels: one code, two imports
    scikit-ntk        the kernel of a Gaussian process
    torch             the empirical kernel of a module, by torch.func's Jacobians
    scikit-learn      its RBF kernel, with and without derivatives, beside an NTK: not the same kernel
    gpytorch          a training step of an exact Gaussian process, RBF and NTK

Both sides run in one process, in turn; what is printed are medians of R runs, as a table in Markdown, and the
largest difference of the results where both compute the same numbers. JAX's compilation is not counted. On a machine
that others use, the ratio of CPU times tells more; OMP_WAIT_POLICY=passive keeps waiting threads out of it. Peers that
are not installed are named and left out. `--scale 0.1`: a tenth of the points.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ntkfast.benchmarks.peers import PEERS, measure
from ntkfast.benchmarks.run import processor
from ntkfast.benchmarks.table import peer_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [peer.distribution for peer in PEERS]
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"default: {' '.join(names)}")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of points")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    for name in set(given.peers) - set(names):
        parser.error(f"PEER: expected names out of {', '.join(names)}, got {name}")
    print(processor())
    for peer in PEERS:
        if given.peers and peer.distribution not in given.peers:
            continue
        if not peer.installed:
            print(f"\n{peer.distribution} is left out: it is not installed", flush=True)
            continue
        head, *rows = peer_rows(map(asdict, measure(peer, given.scale, given.repeats)))
        for row in (head, ["---"] * len(head), *rows):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
