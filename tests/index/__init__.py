"""Tests of netdump/index."""
