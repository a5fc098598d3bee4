"""Sealed JSON proves that it is whole ([S-10] to [S-12])."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.store import sealed as module
from netdump.store.findings import Damage, DamageFoundError
from netdump.store.sealed import Members, canonical, seal, seal_long, unseal, unseal_long

FORMAT = "netdump-test/1"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def damage_of(data: bytes) -> Damage:
    with pytest.raises(DamageFoundError) as error:
        unseal(data, FORMAT, "file.json")
    assert error.value.finding.file == "file.json"
    return error.value.finding.damage


def test_canonical_text() -> None:
    assert canonical({"b": [1, {"z": None, "a": True}], "a": 'é\n"', "B": -2}) == (
        b'{"B":-2,"a":"\\u00e9\\n\\"","b":[1,{"a":true,"z":null}]}\n'
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('"\\/', '\\"\\\\/'),
        ("\b\f\n\r\t", "\\b\\f\\n\\r\\t"),
        ("\0\x1f ~", "\\u0000\\u001f ~"),
        ("\x7f\x80", "\x7f\\u0080"),
        ("\\\x7f", "\\\\\x7f"),
        ("\\u007f", "\\\\u007f"),
        ("\\\\\x7f\x7f", "\\\\\\\\\x7f\x7f"),
        ("ÿĀ\uffff\U0001f600", "\\u00ff\\u0100\\uffff\\ud83d\\ude00"),
    ],
)
def test_strings_are_written_as_the_law_says(text: str, written: str) -> None:
    assert canonical({"": text}).decode("ascii") == f'{{"":"{written}"}}\n'
    assert unseal(seal({"format": FORMAT, "t": text}), FORMAT, "file.json").text("t") == text


def test_the_seal_is_over_the_rest() -> None:
    rest = b'{"format":"netdump-test/1","n":1}\n'
    digest = hashlib.sha256(rest).hexdigest()
    sealed = seal({"n": 1, "format": FORMAT})
    assert sealed == b'{"format":"netdump-test/1","n":1,"sha256":"' + digest.encode() + b'"}\n'
    assert unseal(sealed, FORMAT, "file.json").number("n") == 1


@settings(derandomize=True, deadline=None)
@given(st.dictionaries(st.text().filter(lambda name: name not in {"sha256", "format"}), VALUES, max_size=5))
def test_what_is_sealed_can_be_unsealed(members: dict[str, object]) -> None:
    sealed = seal({**members, "format": FORMAT})
    assert sealed.isascii()
    assert sealed.count(b"\n") == 1
    assert unseal(sealed, FORMAT, "file.json").names() == sorted([*members, "format"])


@settings(derandomize=True, deadline=None)
@given(st.binary())
def test_anything_else_is_damage(data: bytes) -> None:
    assert damage_of(data) is Damage.NOT_SEALED


SEALED = seal({"format": FORMAT, "text": "abc"})


def resealed(text: str) -> bytes:
    """A file with a right digest for text that may not be canonical."""
    digest = hashlib.sha256(text.encode() + b"\n").hexdigest()
    return text.replace("}", f',"sha256":"{digest}"}}').encode() + b"\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        SEALED[:-1],
        SEALED + b"\n",
        SEALED + SEALED,
        b" " + SEALED,
        b"\xef\xbb\xbf" + SEALED,
        SEALED.replace(b'"abc"', b'"abd"'),
        SEALED.replace(b'"abc"', b'"\\u0061bc"'),
        SEALED.replace(b":", b": ", 1),
        SEALED.decode().encode("utf-16"),
        resealed('{"format":"netdump-test/1","n":1.0}'),
        resealed('{"format":"netdump-test/1","n":NaN}'),
        resealed('{"format":"netdump-test/1","n":1e3}'),
        resealed('{"format":"netdump-test/1","n":-0}'),
        resealed('{"format":"netdump-test/1","format":"netdump-test/1"}'),
        resealed('{"n":1,"format":"netdump-test/1"}'),
        b"[1]\n",
        b"1\n",
        b'{"format":"netdump-test/1"}\n',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 100_000,
    ],
)
def test_not_sealed(data: bytes) -> None:
    assert damage_of(data) is Damage.NOT_SEALED


def test_an_unknown_format_is_refused_and_named() -> None:
    assert damage_of(seal({"format": "netdump-test/2"})) is Damage.FORMAT
    assert damage_of(seal({"n": 1})) is Damage.FORMAT


def test_members_are_taken_out_by_kind_and_range() -> None:
    members = Members(
        {"n": 5, "t": "text", "f": True, "o": "00ff", "none": None, "c": {"x": 1}, "l": [{"y": 2}]}, "file.json"
    )
    assert (members.number("n"), members.number("n", 5, 5), members.text("t", 4), members.flag("f")) == (
        5,
        5,
        "text",
        True,
    )
    assert (members.octets("o", 2), members.optional_octets("o", 2)) == (b"\0\xff", b"\0\xff")
    assert members.optional_octets("none", 2) is None
    assert (members.optional_number("n"), members.optional_number("none")) == (5, None)
    assert [members.is_null(name) for name in ("none", "n", "absent")] == [True, False, False]
    assert members.child("c").number("x") == 1
    assert [child.number("y") for child in members.children("l")] == [2]


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.number("absent"),
        lambda m: m.number("flag"),
        lambda m: m.number("text"),
        lambda m: m.number("n", 6),
        lambda m: m.number("n", 0, 4),
        lambda m: m.text("n"),
        lambda m: m.text("text", 3),
        lambda m: m.flag("n"),
        lambda m: m.octets("hex", 1),
        lambda m: m.octets("hex", 3),
        lambda m: m.octets("upper", 2),
        lambda m: m.octets("blank", 2),
        lambda m: m.octets("n", 2),
        lambda m: m.optional_octets("absent", 2),
        lambda m: m.optional_number("absent"),
        lambda m: m.child("list"),
        lambda m: m.children("child"),
        lambda m: m.children("mixed"),
    ],
)
def test_members_of_another_kind_are_damage(call: object) -> None:
    members = Members(
        {
            "n": 5,
            "flag": True,
            "text": "text",
            "hex": "00ff",
            "upper": "00FF",
            "blank": "00 f",
            "list": [],
            "child": {},
            "mixed": [1],
        },
        "file.json",
    )
    assert callable(call)
    with pytest.raises(DamageFoundError) as error:
        call(members)
    assert error.value.finding.damage is Damage.CONTENT
    assert error.value.finding.file == "file.json"


def test_a_large_file_costs_no_more_than_its_size() -> None:
    sealed = seal({"format": FORMAT, "list": [{"n": number} for number in range(20_000)]})
    assert len(unseal(sealed, FORMAT, "file.json").children("list")) == 20_000
    assert json.loads(sealed)["format"] == FORMAT


ITEMS = [{"n": number, "t": "é\x7f\U0001f600"[: number % 4]} for number in range(5)]
LONG = {"format": FORMAT, "a": 1, "z": {"list": None}, "t": 'x"list":[\u20ac'}


def read_long(data: bytes) -> dict[str, object]:
    """All of a sealed object with a long array."""
    members, items = unseal_long(data, FORMAT, "file.json", "list")
    assert members.names() == sorted([*members._values])
    return {**members._values, "list": [dict(item._values) for item in items]}


@settings(max_examples=200)
@given(
    st.dictionaries(st.text(st.characters(exclude_characters='"')), VALUES, max_size=4), st.lists(VALUES, max_size=4)
)
def test_a_long_array_makes_no_difference(members: dict[str, object], values: list[object]) -> None:
    members = {name: value for name, value in members.items() if name not in {"list", "sha256"}} | {"format": FORMAT}
    items = [{"v": value} for value in values]
    sealed = seal_long(members, "list", iter(items))
    assert sealed == seal({**members, "list": items})
    try:
        expected: object = {**unseal(sealed, FORMAT, "file.json")._values}
    except DamageFoundError as error:  # half of a pair of surrogates
        expected = error.finding
    try:
        found: object = read_long(sealed)
    except DamageFoundError as error:
        found = error.finding
    assert found == expected


@pytest.mark.parametrize("items", [[], ITEMS[:1], ITEMS])
def test_every_byte_of_one_with_a_long_array_counts(items: list[dict[str, object]]) -> None:
    sealed = seal_long(LONG, "list", items)
    assert read_long(sealed) == {**LONG, "list": items}
    for at in range(len(sealed)):
        for wrong in (
            sealed[:at],
            sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :],
            sealed[:at] + sealed[at + 1 :],
        ):
            with pytest.raises(DamageFoundError) as error:
                read_long(wrong)
            assert error.value.finding.damage is Damage.NOT_SEALED


@pytest.mark.parametrize(
    ("body", "damage"),
    [
        (b'{"a":1},2', Damage.CONTENT),
        (b'{"b":1,"a":1}', Damage.NOT_SEALED),
        (b'{"a": 1}', Damage.NOT_SEALED),
        (b'{"a":"\\ud800"}', Damage.NOT_SEALED),
        (b'{"a":"\xc3\xa9"}', Damage.NOT_SEALED),
        (b'{"a":1.5}', Damage.NOT_SEALED),
        (b'{"a":1},', Damage.NOT_SEALED),
        (b'{"a":' + b"[" * 100_000, Damage.NOT_SEALED),
    ],
)
def test_a_long_array_that_others_have_sealed(body: bytes, damage: Damage) -> None:
    head, tail = b'{"format":"netdump-test/1","list":[' + body + b"]", b"}\n"
    digest = hashlib.sha256(head + tail).hexdigest().encode()
    with pytest.raises(DamageFoundError) as error:
        read_long(head + b',"sha256":"' + digest + b'"' + tail)
    assert error.value.finding.damage is damage


@pytest.mark.parametrize("value", [None, {}, "x"])
def test_what_should_be_a_long_array_and_is_none(value: object) -> None:
    with pytest.raises(DamageFoundError) as error:
        unseal_long(seal({"format": FORMAT, "list": value}), FORMAT, "file.json", "list")
    assert error.value.finding.damage is Damage.CONTENT
    with pytest.raises(DamageFoundError):
        unseal_long(seal({"format": FORMAT, "a": {"list": []}}), FORMAT, "file.json", "list")
    with pytest.raises(DamageFoundError):
        unseal_long(seal_long({"format": "other"}, "list", []), FORMAT, "file.json", "list")


def test_a_long_array_is_made_and_read_an_item_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """json holds all other threads until it is through with what it was given."""
    sizes, loads, make = list[int](), json.loads, canonical

    def reading(text: str, **options: Any) -> object:
        sizes.append(len(text))
        return loads(text, **options)

    def making(members: dict[str, object]) -> bytes:
        made = make(members)
        sizes.append(len(made))
        return made

    monkeypatch.setattr(json, "loads", reading)
    monkeypatch.setattr(module, "canonical", making)
    items = [{"n": number} for number in range(5000)]
    sealed = seal_long(LONG, "list", items)
    assert read_long(sealed)["list"] == items
    assert max(sizes) < 1000 < len(sealed)
