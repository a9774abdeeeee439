"""python -m tests.stress [ROW ...] [--full] [--out PAGE]: test promises of reliability, one after another."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the slow twins of the tests

from . import frame


def main():
    rows = frame.rows()
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__.partition(": ")[2])
    parser.add_argument("row", nargs="*", choices=[*rows, []], metavar="ROW", help=", ".join(rows) + " (default: all)")
    parser.add_argument("--full", action="store_true", help="minutes to hours, instead of seconds, a row")
    parser.add_argument("--out", type=Path, help="the page to write, such as docs/reliability.md")
    given = parser.parse_args()
    scale, broken = frame.SCALES[given.full], []
    for name in given.row or rows:
        print(f"{name}: {frame.promise(rows[name])}", flush=True)
        found = frame.outcome(rows[name], scale)
        for key, value in found.numbers.items():
            print(f"    {key}: {frame.shown(value)}")
        print(f"  {found.how}, {found.seconds:.1f} s{found.reason and f': {found.reason}'}", flush=True)
        if given.out is not None:  # after each row: the next may take hours
            before = given.out.read_text(encoding="utf-8") if given.out.exists() else ""
            text = frame.section(name, rows[name], found, scale)
            given.out.write_text(frame.page(before, {(rows[name].ROW, name): text}), encoding="utf-8")
        broken += [name] * (found.how == "broken")
    sys.exit(f"broken: {', '.join(broken)}" if broken else 0)


main()
