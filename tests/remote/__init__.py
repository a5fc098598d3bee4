"""Tests of netdump/remote."""
