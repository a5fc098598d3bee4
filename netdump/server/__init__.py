"""The collector: takes dumps in (TLS, port 7461) and gives them out (HTTPS, port 7462).

One asyncio loop; disk and digests in threads. Along the way of a connection:

    collector config notify           all parts put together; settings; systemd
    listener tls                      TCP connections taken in, TLS
    gate acceptqueue ratelimit        how many: before TLS, waiting for it, in a minute
    ingest hostconnection senders     connections of hosts; whose certificate counts, by which clock
    headlines bufferpool pace         the memory that a connection may take, and how fast it must be
    reception admission seats         the answer to HELLO: which dump, whether it may come in, whose turn it is
    arrival                           chunks verified, stored and acknowledged
    space diskfailures                free room, and what the disk has failed to do
    recorder latecatalog              the index, told of all this; opened late if need be
    restorer views scrub              `vmcore` files made and given up; what is stored read again
    https api answers                 connections of the API, its routes and roles, the shape of answers
    enrolment                         what the API does for strangers: certificates
    dumps ranges packed runs          and for analysts: dumps, segments or parts of them, packed ones, run tables
    audit tally                       the log, and its events counted
    status health metrics             how the collector is
    upkeep owncertificate             looked after once a minute; its own certificate
"""
