"""Tests with real processes, real dumps and the tools of the field."""
