"""Changed numbers and operators: of C, all at once in one text, chosen by a number; of Python, one after another."""

import ast
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One change, numbered from 1: what is changed, with what follows it, to what; and the line where it is."""

    file: str
    number: int
    line: int
    before: str
    after: str
    text: str

    def __str__(self):
        return f"{self.file}:{self.line}: {self.before} -> {self.after} in {self.text!r}"


NUMBER = re.compile(r"NF_C\([0-9.e-]+\)|(?<![\w.#])(?:0x[0-9a-fA-F.]+p[-+]?\d+|\d+\.?\d*(?:e[-+]?\d+)?)[fL]?(?![\w.])")
OPERATOR = re.compile(r" (?:(?P<sum>[-+])|(?P<product>[*/])) ")
CHOICE = "(nf_mutant == {} ? {} : {})"


def mutate_c(file, text, start, excluded, functions=None):
    """The text with all changes in it, chosen by nf_mutant, and the Mutants, numbered from start.

    excluded: (pattern, reason) of what stays: a Mutant whose "line | what is changed" matches it. functions: the names
    of those in which changes are made; None: everywhere.
    """
    mutants, lines, number, inside = [], [], start, functions is None
    for at, line in enumerate(without_comments(text).split("\n"), 1):
        given, shown = line, " ".join(line.split())
        if functions is not None and re.match(r"\w", line):
            inside = any(f" {name}(" in line.replace("*", " ") for name in functions)
        if not inside:
            lines.append(line)
            continue
        directive = re.match(r"\s*#\s*(?:define\s+\w+(?:\([^)]*\))?|.*)", line)
        begin = directive.end() if directive else 0
        if re.search(r"^\s*(?:case .*:$|enum |typedef |_Static_assert|NF_ORDER)", line):
            begin = len(line)
        places = [(m.start(), m) for pattern in (NUMBER, OPERATOR) for m in pattern.finditer(line, begin)]
        for _, match in sorted(places, key=lambda place: -place[0]):  # from the right: positions to the left stay
            found = _changed(given, line, match)
            if found is None:
                continue
            before, after, left, right, new = found
            if any(re.search(pattern, f"{shown} | {before}") for pattern, _ in excluded):
                continue
            line = line[:left] + new(number) + line[right:]
            mutants.append(Mutant(file, number, at, before, after, shown))
            number += 1
        lines.append(line)
    return "\n".join(lines), mutants


def without_comments(text):
    """The text with blanks in place of comments, in the same lines."""
    # those within macros end their lines with backslashes, which stay
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: re.sub(r"[^\n\\]", " ", m[0]), text, flags=re.DOTALL)


def _changed(given, line, match):
    """(before, after, left end, right end, its text by number) of a change; None if there is none here."""
    token, (left, right) = match[0].strip(), match.span()
    before = given[left:right].strip() + given[right : right + 12].rstrip()
    if match.re is NUMBER:
        after = _other_number(token)
        return before, after, left, right, lambda k: CHOICE.format(k, after, token)
    if match["sum"]:
        return before, "-" if token == "+" else "+", right, right, lambda k: f"{CHOICE.format(k, -1, 1)} * "
    operand = _operand(line, right)
    if not operand or given[right].isdigit():  # a number is changed by itself
        return None
    choose = lambda k: CHOICE.format(k, f"1 / ({operand})", f"({operand})")  # noqa: E731
    return before, "/" if token == "*" else "*", right, right + len(operand), choose


def _other_number(text):
    """A small integer plus 1, another number times 1.1."""
    inner = re.sub(r"^NF_C\(|\)$|[fL]$", "", text)
    if re.fullmatch(r"\d+", inner):
        return text.replace(inner, str(max(int(inner) + 1, int(inner) * 11 // 10)), 1)
    if text.startswith("NF_C("):
        return f"(NF_C(1.1) * {text})"
    return f"({text} * 1.1{text[-1] if text[-1] in 'fL' else ''})"


def _operand(line, start):
    """The operand that begins there: a name or a call with indices and fields, or what is in brackets."""
    end, depth = start, 0
    head = re.match(r"[\w.]+|(?=\()", line[start:])
    if not head:
        return ""
    end += head.end()
    while end < len(line):
        if (
            depth == 0
            and line[end] not in "(["
            and not line.startswith("->", end)
            and not re.match(r"[\w.]", line[end])
        ):
            break
        depth += (line[end] in "([") - (line[end] in ")]")
        end += 2 if line.startswith("->", end) else 1
        if depth < 0:
            return line[start : end - 1]
    return line[start:end] if depth == 0 else ""


def mutate_python(file, source, excluded):
    """Yield Mutant and the syntax tree with this change, which is undone before the next."""
    tree, lines, number = ast.parse(source), source.split("\n"), 0
    for node in list(ast.walk(tree)):
        for field, value, new, before, after in _changes(node):
            text = " ".join(lines[node.lineno - 1].split())
            if any(re.search(pattern, f"{text} | {before}") for pattern, _ in excluded):
                continue
            number += 1
            setattr(node, field, new)
            yield Mutant(file, number, node.lineno, before, after, text), tree
            setattr(node, field, value)


OTHERS = {ast.Add: (ast.Sub, "+", "-"), ast.Sub: (ast.Add, "-", "+"), ast.Mult: (ast.Div, "*", "/"),
          ast.Div: (ast.Mult, "/", "*")}  # fmt: skip


def _changes(node):
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        new = node.value + 1 if type(node.value) is int or node.value == 0 else node.value * 1.1
        yield "value", node.value, new, repr(node.value), repr(new)
    elif isinstance(node, ast.BinOp) and type(node.op) in OTHERS:
        other, before, after = OTHERS[type(node.op)]
        yield "op", node.op, other(), before, after
