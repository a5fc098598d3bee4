from __future__ import annotations

from types import new_class

import pytest

from netdump.namedtuple import NamedTuple


class Stretch(NamedTuple):
    """A stretch of memory. first: bytes."""

    first: int
    length: int = 4096
    names: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        return self.first + self.length

    @classmethod
    def empty(cls) -> Stretch:
        return cls(0, 0)


def test_fields_and_defaults() -> None:
    assert Stretch(1) == (1, 4096, ()) == Stretch(first=1)
    assert Stretch._fields == ("first", "length", "names")
    assert Stretch._field_defaults == {"length": 4096, "names": ()}
    with pytest.raises(TypeError, match="first"):
        Stretch()  # type: ignore[call-arg]


def test_a_tuple_in_every_way() -> None:
    first, length, _ = Stretch(1, 2)
    assert (first, length) == (1, 2)
    assert isinstance(Stretch(1), tuple)
    assert Stretch(1)._replace(length=2) == Stretch(1, 2)
    assert hash(Stretch(1)) == hash((1, 4096, ()))
    with pytest.raises(AttributeError):
        Stretch(1).first = 2  # type: ignore[misc]


def test_what_else_the_class_has() -> None:
    assert Stretch(1, 2).end == 3
    assert Stretch.empty() == (0, 0, ())
    assert repr(Stretch(1)) == "Stretch(first=1, length=4096, names=())"
    assert Stretch.__doc__ == "A stretch of memory. first: bytes."
    assert (Stretch.__module__, Stretch.__qualname__) == (__name__, "Stretch")


def test_without_fields() -> None:
    class Nothing(NamedTuple):
        pass

    assert Nothing() == ()


@pytest.mark.parametrize("function", ["__annotate__", "__annotate_func__"])
def test_a_module_without_the_future_import(function: str) -> None:
    """As Python 3.14 makes a class there."""
    with pytest.raises(TypeError, match="__future__"):
        new_class("Lost", (NamedTuple,), exec_body=lambda members: members.update({function: dict}))
