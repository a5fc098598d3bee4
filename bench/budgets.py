"""Goals and whether they are met."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

GOALS: Final = Path(__file__).with_name("budgets.toml")


@dataclass(frozen=True, slots=True)
class Goal:
    """One entry of budgets.toml. by: who measures it, if not the benchmark."""

    figure: str
    text: str
    most: float | None = None
    least: float | None = None
    by: str = ""

    @property
    def bound(self) -> str:
        """The goal, for people."""
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"

    def is_met(self, value: float) -> bool:
        """Whether a measured value meets it."""
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def verdict(self, figures: Mapping[str, float]) -> str:
        """In a word or two."""
        if self.by:
            return f"see {self.by}"
        if self.figure not in figures:
            return "not measured"
        return "met" if self.is_met(figures[self.figure]) else "NOT MET"


def load_goals() -> list[Goal]:
    """The goals of budgets.toml."""
    return [Goal(**entry) for entry in tomllib.loads(GOALS.read_text())["goal"]]
