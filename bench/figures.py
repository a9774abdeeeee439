"""python bench/figures.py [RUN.json]: `ntkfast bench --peers`, and its figures into bench/README.md.

With a file, which `ntkfast bench --json` wrote, nothing is measured. On a quiet machine it takes some ten minutes.
"""

import sys
from pathlib import Path

from ntkfast.benchmarks import compare, run, table

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- figures: python bench/figures.py -->\n", "<!-- end of figures -->\n"


def markdown(found):
    """The machine and all tables of a run."""
    lines = [
        f"Measured {found['date'][:10]}, n = {found['n']}, {found['n_threads']} threads:",
        "",
        "| | |",
        "|---|---|",
    ]
    lines += [f"| {name} | {value} |" for name, value in found["machine"].items()]
    for title, note, rows in table.tables(found):
        head, *body = rows
        lines += ["", f"### {title}", "", note, "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in body]
    return "\n".join(lines)


def main():
    if len(sys.argv) > 1:
        found = compare.read(Path(sys.argv[1]))
    else:
        found = run.run(8000, 5, True, lambda line: print(f"... {line}", file=sys.stderr))
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{markdown(found)}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
