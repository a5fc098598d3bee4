"""Tests of netdump.pki."""
