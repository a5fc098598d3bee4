"""The tree of errors keeps its promises, and docs/errors.md shows it."""

from __future__ import annotations

from pathlib import Path

from tests.architecture.errors_page import all_errors, first_line, page

ROOT = Path(__file__).parents[2]


def test_codes_and_statuses_are_unique() -> None:
    errors = list(all_errors())
    assert len({error.code for error in errors}) == len(errors)
    assert len({error.exit_status for error in errors}) == len(errors)


def test_statuses_stay_clear_of_the_shells() -> None:
    assert all(error.exit_status not in {0, 2} and error.exit_status < 120 for error in all_errors())


def test_every_error_has_its_own_sentence() -> None:
    sentences = [first_line(error) for error in all_errors()]
    assert all(sentence.endswith(".") for sentence in sentences)
    assert len(set(sentences)) == len(sentences)


def test_the_page_is_current() -> None:
    assert (ROOT / "docs" / "errors.md").read_text() == page(), (
        "run: python -m tests.architecture.errors_page > docs/errors.md"
    )
