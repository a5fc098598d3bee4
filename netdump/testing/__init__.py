"""Doubles for tests and the demo: what fails on purpose, and what builds inputs. Nothing in production imports it."""
