"""Settings of the whole process: the memory allocator and the garbage collector.

Internal; `zmqservices.keep_large_blocks` is the public name of the one setting that programs change.
"""
