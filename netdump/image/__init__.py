"""Builds the capture image on the healthy system, and arms the machine with it.

From the outside in:

    arming armed commandline    loads kernel and image by kexec, and remembers what was loaded
    build tree                  puts the image together, as an archive or as a folder for another's kdump image
    network devices savetarget  what the capture kernel needs of this machine: interfaces, drivers, a disk
    kernel bzimage              the kernel that captures
    kmodules modprobe           its modules, in which order they are loaded and with which options
    closure probe rehearsal     which files of Python the image needs, found by running the client
    compiler                    their bytecode
    cpio compression elfobject  file formats
    init                        what runs inside the image; it obeys the rules of the capture side
    checkup drill               `netdump doctor`: whether all of this would work, and trying it
"""
