from __future__ import annotations

from netdump.wire import MessageType
from netdump.wire._messages import CLASS_OF, TYPE_OF
from tests.wire.examples import EXAMPLES


def test_every_type_has_its_class_by_name() -> None:
    assert list(CLASS_OF) == list(MessageType)
    assert all(shape.__name__.upper() == number.name for number, shape in CLASS_OF.items())
    assert {TYPE_OF[shape]: shape for shape in TYPE_OF} == CLASS_OF


def test_the_examples_are_of_every_class() -> None:
    assert {type(message) for message in EXAMPLES} == set(TYPE_OF)
