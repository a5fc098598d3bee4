"""Tests of netdump; folders and files mirror the code."""
