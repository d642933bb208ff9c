"""A shop for airships: three services that know each other only by name. Products and orders have their own databases.

    client --HTTP--> gateway --rpc--> products (Redis) <--+
                        |                                 | order_created
                        +-----rpc--> orders (SQL) --------+

Run it, with a Redis on this machine:

    $ zmqservices run examples.shop.products examples.shop.orders examples.shop.gateway -c examples/shop/config.yaml

Each service can also run in its own process, as in `python -m examples.shop.demo`, or on its own host.
"""
