"""Clients, collector, network, disk and clocks in one process without sockets, threads or sleep: a seed is a run.

What runs is the production code of both roles: netdump.client.delivery and session on one side; ingest, reception,
arrival and the store on the other. The simulation stands in for what is around them: the TLS link (network.py), the
event loop and its thread pools (loop.py), the disk (netdump.testing.memory_files) and the clocks (world.py). Not
covered: TLS itself, the listener's limits, the index, restoring `vmcore`, and the reading of a core.
"""
