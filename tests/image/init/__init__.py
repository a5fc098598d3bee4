"""Tests of netdump.image.init."""
