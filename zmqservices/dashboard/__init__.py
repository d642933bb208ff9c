"""The live map of a cluster: a web page that `zmqservices dashboard` serves.

Internal.

`collector` asks the nodes, `cluster_state` keeps their answers, `picture` and `details` compute what the page shows, `pages` and
`server` serve it. Only the command line imports this package.
"""
