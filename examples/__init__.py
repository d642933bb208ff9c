"""Example services. `make demo` runs `examples.demo` and `examples.shop.demo`."""
