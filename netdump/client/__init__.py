"""The capture-kernel sender: delivers one image to one of several collectors, and always ends by its deadline.

Blocking, one pass, constant memory, standard library and zstandard only (through netdump.codec). From the outside in:

    command arguments         the process: what it is asked for, its signals and exit status
    config address words      the bundle and the kernel command line
    delivery retry            which collector is tried when
    session ledger            one connection to one collector, and what was sent to it before
    link credentials resolve  TLS over a socket
    image stream              what is sent: one image, its chunks made ready
    effort tcpinfo            how hard chunks are compressed
    progress tally report     what people and programs are told
    watchdog                  ends the process if all else hangs
"""
