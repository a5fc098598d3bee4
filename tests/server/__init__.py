"""Tests of netdump/server."""
