"""Measures calls and events beside bare pyzmq and other products, on one machine in one run: `python -m bench`.

    subject     the interface of everything that can be measured; `ours`, `limits` and `peers` hold one file for each
    drive       the client process, and `serve` the server process; both run in the subject's own environment
    measure     one measurement: starts clients and collects their results; `stage` starts the servers
    rounds      many measurements, interleaved; `summary`, `table`, `report`, `plots` and `compare` read their lines
"""
