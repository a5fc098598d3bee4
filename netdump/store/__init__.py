"""The store: dumps on disk, written durably, read back verified (protocol/store.md).

Synchronous, for worker threads. `store` is where to begin: a Store finds, makes and deletes dumps; `dump` reads one,
`writer` receives one. `segment` and `restore` do without a store, so they serve the analyst's side too. What is
promised is checked for every implementation by netdump/testing/store_contract.py.
"""
