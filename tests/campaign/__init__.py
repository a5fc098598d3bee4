"""Long searches for faults, each deterministic by seed: `./run campaign`. docs/reliability.md has their figures.

A campaign is a module of this package with a `CAMPAIGN`; nothing needs to be registered. See frame.py.
"""
