"""Tests of netdump.image."""
