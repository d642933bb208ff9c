"""A shop for airships: three services, each with a store of its own. They know each other only by name.

    client --HTTP--> gateway --rpc--> products (Redis) <--+
                        |                                 | order_created
                        +-----rpc--> orders (SQL) --------+

Run it, with a Redis on this machine:

    $ zmqservices run examples.shop.products examples.shop.orders examples.shop.gateway -c examples/shop/config.yaml

or each in a process, or on a host, of its own, as `python -m examples.shop.demo` does.
"""
