"""Tests of netdump/analyze."""
