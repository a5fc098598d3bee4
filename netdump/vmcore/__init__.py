"""What a core is: its headers, notes and memory, the dead kernel's log, and the plan by which its pages are sent.

Modules are imported one by one; this package re-exports nothing, so that a program loads only what it uses.
"""
