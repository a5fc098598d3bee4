"""The collector: takes dumps in (TLS, port 7461) and gives them out (HTTPS, port 7462).

One asyncio loop; disk and digests in threads.
"""
