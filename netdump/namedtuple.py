"""NamedTuple for all of netdump: typing's to the type checker, made from the names of its fields alone when it runs.

The client makes some seventy such classes at each start. typing.NamedTuple compiles the text of each annotation for it,
and from Python 3.14 on loads annotationlib and ast to do so, which the memory of a capture kernel has to hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["NamedTuple"]

if TYPE_CHECKING:
    from typing import NamedTuple  # noqa: TID251
else:
    from collections import namedtuple

    class _Maker(type):
        """Makes a named tuple of a class whose module has `from __future__ import annotations`."""

        def __new__(cls, name, bases, members):
            if not bases:
                return super().__new__(cls, name, bases, members)
            if "__annotations__" not in members and any(each.startswith("__annotate") for each in members):
                # From Python 3.14 on the fields would stand in a function, and the tuple have none.
                raise TypeError(f"{name}: its module lacks `from __future__ import annotations`")
            fields = members.pop("__annotations__", ())
            defaults = [members.pop(field) for field in fields if field in members]
            made = namedtuple(name, fields, defaults=defaults, module=members["__module__"])  # noqa: PYI024
            for key, value in members.items():
                setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Maker):
        """Base of a class with nothing but fields, defaults and methods. Its own base is tuple."""
