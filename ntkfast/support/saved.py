"""What can be saved: the base class of such objects, and what they are made of as JSON and arrays.

JSON has null, booleans, numbers, strings and lists; everything else is an object with one entry, whose name is its tag:

    {"tuple": […]}   {"dict": {…}}   {"float": "inf"}   {"array": 3}   {"scalar": 3}   {"objects": [shape, […]]}
    {"object": [kind, {field: value}]}   {"given": name}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import singledispatchmethod
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ntkfast.support import archive, reprs
from ntkfast.support.arrays import DTYPES
from ntkfast.support.typing import Array

__all__ = ["Given", "GivenError", "Reader", "Saved", "Writer", "checked", "checked_array"]

T = TypeVar("T")


class Saved:
    """Base class of what `ntkfast.save` saves: `rebuilt(**described())` is the same object again.

    The fields are None, bool, int, float, str, tuples, lists, dicts, arrays, `Given` and other `Saved` objects. A file
    may come from anywhere: `rebuilt` checks what it is given.
    """

    kinds: ClassVar[dict[str, type[Saved]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        kind = kind_of(cls)
        if Saved.kinds.get(kind) not in cls.__mro__:  # else it is saved as the class of the same name it derives from
            Saved.kinds[kind] = cls

    def described(self) -> dict[str, Any]:
        """The fields from which `rebuilt` makes the object; those of a dataclass by default."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def rebuilt(cls, *args: Any, **described: Any) -> Self:
        """The object with these fields."""
        return cls(*args, **described)


def kind_of(cls: type) -> str:
    """The name of a class in files: of the library's own without its module."""
    return cls.__name__ if cls.__module__.split(".")[0] == "ntkfast" else f"{cls.__module__}.{cls.__qualname__}"


@dataclass(frozen=True)
class Given:
    """A field that no file can hold: saved as a name under which it must be given again."""

    name: str
    value: object


class GivenError(Exception):
    """What was given again is not what was saved."""


def checked(value: Any, cls: type[T], name: str) -> T:
    """The field of this name, if it is of this class."""
    if not isinstance(value, cls):
        raise TypeError(f"{name}: expected {cls.__name__}, got {reprs.brief(value)}")
    return value


def checked_array(value: Any, shape: tuple[int | None, ...], name: str, dtype: DTypeLike | None = None) -> Array:
    """The field of this name, if it is an array of this shape (None: any size) and dtype (default: any float)."""
    array = checked(value, np.ndarray, name)
    fits = len(shape) == array.ndim and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits or array.dtype not in (DTYPES if dtype is None else [dtype]):
        raise ValueError(f"{name}: expected shape {shape} and {dtype or 'floats'}, got {array.shape} and {array.dtype}")
    return array


class Writer:
    """Values as JSON. The arrays in them are collected in `arrays`, what must be given again in `given`."""

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []
        self.given: dict[str, object] = {}
        self._places: dict[int, int] = {}  # of an array that occurs twice

    @singledispatchmethod
    def value(self, value: object) -> Any:
        raise TypeError(f"expected what a file can hold, got {type(value).__name__}: {reprs.brief(value)}")

    @value.register(type(None))
    @value.register(bool)
    @value.register(int)
    @value.register(str)
    def _(self, value: Any) -> Any:
        return value

    @value.register
    def _(self, value: float) -> Any:
        return value if np.isfinite(value) else {"float": repr(value)}

    @value.register(list)
    def _(self, value: list[Any]) -> Any:
        return [self.value(part) for part in value]

    @value.register(tuple)
    def _(self, value: tuple[Any, ...]) -> Any:
        return {"tuple": [self.value(part) for part in value]}

    @value.register(dict)
    def _(self, value: dict[str, Any]) -> Any:
        return {"dict": self.fields(value)}

    @value.register
    def _(self, value: np.generic) -> Any:
        return {"scalar": self._array(np.asarray(value))}

    @value.register
    def _(self, value: np.ndarray) -> Any:
        if value.dtype.hasobject:
            return {"objects": [list(value.shape), [self.value(part) for part in value.flat]]}
        return {"array": self._array(value)}

    @value.register
    def _(self, value: Saved) -> Any:
        kind = kind_of(type(value))
        if Saved.kinds.get(kind) not in type(value).__mro__:
            raise TypeError(f"expected a class that can be found by its name, got {type(value)}")
        return {"object": [kind, self.fields(value.described())]}

    @value.register
    def _(self, value: Given) -> Any:
        if self.given.setdefault(value.name, value.value) != value.value:
            raise ValueError(f"expected one object of the name {value.name!r}, as it is given again by name, got two")
        return {"given": value.name}

    def fields(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {checked(name, str, "name"): self.value(part) for name, part in values.items()}

    def _array(self, array: NDArray[Any]) -> int:
        if not archive.can_hold(array.dtype):
            raise TypeError(f"expected an array that a file can hold, got dtype {array.dtype}")
        place = self._places.setdefault(id(array), len(self.arrays))
        if place == len(self.arrays):
            self.arrays.append(array)  # which keeps its id from being used again
        return place


class Reader:
    """The inverse of `Writer`. find(kind) is the class of a kind, or raises."""

    def __init__(
        self, arrays: list[NDArray[Any]], given: Mapping[str, object], find: Callable[[str], type[Saved]]
    ) -> None:
        self._arrays, self._given, self._find = arrays, given, find

    def value(self, node: Any) -> Any:
        """The value that became this JSON."""
        if isinstance(node, list):
            return [self.value(part) for part in node]
        if not isinstance(node, dict):
            return node
        ((tag, content),) = node.items()
        return TAGS[tag](self, content)

    def _tuple(self, content: list[Any]) -> tuple[Any, ...]:
        return tuple(self.value(checked(content, list, "tuple")))

    def _dict(self, content: dict[str, Any]) -> dict[str, Any]:
        return {name: self.value(part) for name, part in content.items()}

    def _float(self, content: str) -> float:
        return float(content)

    def _array(self, content: int) -> NDArray[Any]:
        if not 0 <= content < len(self._arrays):
            raise ValueError(f"no array {content}")
        return self._arrays[content]

    def _scalar(self, content: int) -> Any:
        return self._array(content)[()]

    def _objects(self, content: list[Any]) -> NDArray[Any]:
        shape, parts = content
        array = np.empty(len(parts), dtype=object)
        array[:] = self.value(parts)
        return array.reshape(shape)

    def _object(self, content: list[Any]) -> Saved:
        kind, described = content
        return self._find(kind).rebuilt(**self._dict(described))

    def _given_again(self, content: str) -> Any:
        return self._given[content]


TAGS: dict[str, Callable[[Reader, Any], Any]] = {
    "tuple": Reader._tuple,
    "dict": Reader._dict,
    "float": Reader._float,
    "array": Reader._array,
    "scalar": Reader._scalar,
    "objects": Reader._objects,
    "object": Reader._object,
    "given": Reader._given_again,
}
