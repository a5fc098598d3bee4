"""Tests of netdump.store."""
