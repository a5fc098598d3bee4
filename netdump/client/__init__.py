"""The capture-kernel sender:

reads one image, delivers it to one of several collectors, and always ends by its deadline. Blocking, one pass,
constant memory, standard library and zstandard only (through netdump.codec). The modules, from the outside in:
command (arguments and exit status), delivery (which collector, when), session (one connection), stream (chunks made
ready), link (TLS over a socket), image (what is sent), and what they stand on: config, credentials, resolve, ledger,
retry, progress.
"""
