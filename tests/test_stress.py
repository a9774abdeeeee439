"""Promises of reliability (tests/stress), each at its small scale; and the page of what they found."""

import pytest
from stress import frame

ROWS = frame.rows()


@pytest.mark.parametrize("name", ROWS)
def test_promise(name):
    assert ROWS[name].run("small")


def test_a_page_keeps_the_rows_that_were_not_run():
    first = frame.page("", {(2, "b"): "## 2. b\n\nold\n", (1, "a"): "## 1. a\n\nold\n"})
    second = frame.page(first, {(2, "b"): "## 2. b\n\nnew\n", (11, "c"): "## 11. c\n\nnew\n"})
    assert second.startswith(frame.INTRODUCTION)
    assert [line for line in second.splitlines() if line in ("old", "new") or line.startswith("## ")] == [
        *("## 1. a", "old", "## 2. b", "new", "## 11. c", "new")
    ]


def test_a_broken_promise_is_reported():
    class Row:
        """Nothing breaks."""

        ROW = 5

        @staticmethod
        def run(scale):
            raise AssertionError(f"it broke at {scale} scale")

    found = frame.outcome(Row, "small")
    text = frame.section("row", Row, found, "small")
    assert "## 5. row\n\nNothing breaks.\n\n**broken**, small scale" in text
    assert "    AssertionError: it broke at small scale" in text
