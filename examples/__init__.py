"""Services to read and run; `make demo` runs `examples.demo` and `examples.shop.demo`."""
