"""Tests of netdump/wire; what is true of bytes alone is in protocol/vectors."""
