"""netdump: carries kernel crash dumps from a capture kernel to a collector, and from there to an engineer."""

__version__ = "0.1.0"
