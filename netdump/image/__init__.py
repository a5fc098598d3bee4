"""Builds the capture image on the healthy system, and arms the machine with it.

The modules, from the outside in: arming (kexec), build (what goes into the image), network and devices (what the
running system uses), kmodules, kconfig, closure (which files of Python), compiled (bytecode), elfobject, cpio. The
package `init` is what runs inside the image; it obeys the rules of the capture side.
"""
