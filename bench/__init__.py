"""How fast it is, measured beside bare pyzmq and its peers, on one machine in one run: `python -m bench`.

    subject     what can be measured: one small interface; `ours`, `limits` and `peers` hold one file for each
    drive       the client process, and `serve` the server process; both run in the subject's own environment
    measure     one measurement: clients, their start, what came back; `stage` puts servers up for it
    rounds      many measurements, interleaved; `summary`, `table`, `report`, `plots` and `compare` read their lines
"""
