"""A drill: a small dump of the running system, sent as the capture kernel would send a real one.

`core` makes the dump, `chroot` starts the client of the capture image among the image's own files, `exercise` runs both
and tells how it went.
"""
