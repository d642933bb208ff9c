"""Settings of the whole process: the memory allocator, and (internal) the garbage collector.

    from zmqservices.process import keep_large_blocks

    keep_large_blocks()
"""

from zmqservices.process.allocator import keep_large_blocks

__all__ = ["keep_large_blocks"]
