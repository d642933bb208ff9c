"""Nodes and the calls and events between them: joins the wire, the sockets, the directory and the rules of resilience.

Internal. It knows no service class. Services use `zmqservices.rpc` and `zmqservices.events`, other programs
`zmqservices.standalone`.
"""
