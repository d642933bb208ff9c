"""The live map of a cluster: a web page that `zmqservices dashboard` serves.

Internal.

`collector` asks the nodes, `cluster_state` keeps what they say, `picture` and `details` are what the page is told, `pages` and
`server` serve it. Nothing else imports this package.
"""
