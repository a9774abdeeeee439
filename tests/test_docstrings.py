"""Every public object says what its arguments and results are, what it raises, what is related, with an example."""

import inspect

import pytest
import test_api

numpydoc = pytest.importorskip("numpydoc.validate")  # in the extra `docs`

CHECKS = {
    "GL08",  # no docstring
    "PR01",  # parameters that are not described
    "PR02",  # described ones that do not exist
    "PR07",  # a parameter without description
    "RT01",  # no Returns
    "RT03",  # without description
    "SA01",  # no See Also
    "EX01",  # no Examples
}
MADE = {name for name, thing in test_api.PUBLIC.items() if inspect.isclass(thing) and test_api.fields(thing)}


def documented():
    return sorted(name for name, thing in test_api.PUBLIC.items() if not inspect.ismodule(thing))


def found(name):
    """The checks that fail, with their messages. Results list their attributes; nobody passes their parameters."""
    thing = test_api.PUBLIC[name]
    function = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
    errors = numpydoc.validate(f"{function.__module__}.{function.__qualname__}")["errors"]
    checked = CHECKS - {"PR01"} if name in MADE else CHECKS
    return [(code, message) for code, message in errors if code in checked]


@pytest.mark.parametrize("name", documented())
def test_docstring(name):
    assert found(name) == []


def test_what_is_missing_is_found():
    def add(a, b):
        """The sum."""
        return a + b

    codes = {code for code, _ in numpydoc.validate(numpydoc.get_doc_object(add))["errors"]}
    assert {"PR01", "RT01", "SA01", "EX01"} <= codes
