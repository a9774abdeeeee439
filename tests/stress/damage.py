"""Blocks of a store whose bits were flipped, that were truncated or deleted: `verify` names exactly those, reading one
raises StoreError, reading others does not, and `repair` computes only those again, to the last bit. What a writer that
was killed had begun is swept.
"""

import tempfile
from pathlib import Path

import numpy as np

import ntkfast as nf

from . import frame

ROW = 3
SIDE = 512  # of a block: a tile


def run(scale):
    frame.require("google_crc32c")
    from ntkfast.store.folder import Folder

    flipped, truncated, deleted, blocks = {"small": (16, 4, 4, 7), "full": (200, 50, 50, 25)}[scale]
    rng = np.random.default_rng(0)
    net, X = nf.MLP(2, "relu", 1.3, 0.1), rng.normal(size=(SIDE * blocks - 7, 4))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "K.zarr"
        store = nf.store.compute(net, X, path, dtype=np.float32, memory=2 * 4 * SIDE**2, progress=False)
        there = Folder(path)
        every = list(there.grid.blocks())
        order = rng.permutation(len(every))[: flipped + truncated + deleted]
        chosen = [every[k] for k in order]
        contents = {block: there.file(block).read_bytes() for block in every}
        for number, block in enumerate(chosen):
            file, was = there.file(block), contents[block]
            if number < flipped:
                bit = int(rng.integers(8 * len(was)))
                changed = bytearray(was)
                changed[bit // 8] ^= 1 << bit % 8
                file.write_bytes(changed)
            elif number < flipped + truncated:
                file.write_bytes(was[: rng.integers(len(was))])
            else:
                file.unlink()
        stale = [path / "c" / "0" / ".ntkfast-00000000-abc.tmp", path / ".ntkfast-00000000-abc.tmp"]
        for file in stale:
            file.write_bytes(b"begun")

        found = store.verify(progress=False)
        assert sorted(found.damaged) == sorted(chosen), "verify names other blocks than those that are damaged"
        assert found.missing == []
        for block in every:
            rows, columns = there.grid.window(block)
            try:
                part = store[rows, columns]
            except nf.StoreError:
                assert block in chosen, f"reading block {block}, which is whole, raises"
            else:
                assert block not in chosen, f"reading block {block}, which is damaged, does not raise"
                assert part.tobytes() == contents_of(contents[block], part)
        before = {block: there.file(block).stat().st_mtime_ns for block in every if block not in chosen}
        repaired = nf.store.repair(net, X, path, progress=False)
        assert sorted(repaired.damaged) == sorted(chosen)
        assert all(there.file(block).stat().st_mtime_ns == when for block, when in before.items()), "others were made"
        assert all(there.file(block).read_bytes() == contents[block] for block in every), "other bits after the repair"
        assert not any(file.exists() for file in stale), "what was begun is still there"
        assert store.verify(progress=False) == ([], [], len(every))
    return {
        "blocks": len(every),
        "bits flipped": flipped,
        "truncated": truncated,
        "deleted": deleted,
        "named by verify, refused by reading and repaired": len(chosen),
        "named, refused or made again though whole": 0,
    }


def contents_of(chunk, part):
    """The bytes of a window of a chunk, which has NaN past the edge of the matrix."""
    whole = np.frombuffer(chunk[:-4], part.dtype).reshape(SIDE, SIDE)
    return whole[: part.shape[0], : part.shape[1]].tobytes()
