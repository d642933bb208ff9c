"""Makes screenshots smaller: PNG in 256 colours. Pure."""

import struct
import zlib
from collections import Counter


def with_palette(png: bytes) -> bytes:
    """The picture in 256 colours. Each pixel has the nearest of them; a page has few others, all at the edges of letters."""
    width, height, channels, rows = decoded(png)
    pixels = [[row[at : at + 3] for at in range(0, width * channels, channels)] for row in rows]
    frequent = [colour for colour, _ in Counter(pixel for row in pixels for pixel in row).most_common()]
    palette = chosen(frequent)
    index = {colour: min(range(len(palette)), key=lambda at: distance(colour, palette[at])) for colour in frequent}
    lines = b"".join(b"\0" + bytes(index[pixel] for pixel in row) for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = {b"IHDR": header, b"PLTE": b"".join(palette), b"IDAT": zlib.compress(lines, 9), b"IEND": b""}
    return png[:8] + b"".join(chunk(kind, content) for kind, content in parts.items())


def chosen(frequent: list[bytes]) -> list[bytes]:
    """At most 256 of these colours, the first ones first, which differ from each other as much as their number allows."""
    least = 0
    while True:
        palette: list[bytes] = []
        for colour in frequent:
            if all(distance(colour, one) > least for one in palette):
                palette.append(colour)
                if len(palette) > 256:
                    break
        else:
            return palette
        least = least * 2 or 16


def distance(one: bytes, other: bytes) -> int:
    """The square of the distance of two colours."""
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 + (one[2] - other[2]) ** 2


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def decoded(png: bytes) -> tuple[int, int, int, list[bytes]]:
    """Width, height, bytes of a pixel, and the rows of a PNG as browsers write it: 8 bits, RGB or RGBA, not interlaced."""
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        chunks[kind] = chunks.get(kind, b"") + png[at + 8 : at + 8 + length]
        at += length + 12
    width, height, depth, colours, *_, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert depth == 8 and colours in (2, 6) and not interlaced, "this is no screenshot"
    channels = 3 if colours == 2 else 4
    stride = width * channels
    packed, rows, above = zlib.decompress(chunks[b"IDAT"]), [], bytearray(stride)
    for number in range(height):
        start = number * (stride + 1)
        above = unfiltered(packed[start], bytearray(packed[start + 1 : start + 1 + stride]), above, channels)
        rows.append(bytes(above))
    return width, height, channels, rows


def unfiltered(kind: int, row: bytearray, above: bytearray, channels: int) -> bytearray:
    """A row without its filter: section 9 of the PNG specification."""
    for at in range(len(row)):
        left = row[at - channels] if at >= channels else 0
        corner = above[at - channels] if at >= channels else 0
        if kind == 4:
            estimate = left + above[at] - corner
            guess = min((left, above[at], corner), key=lambda one: abs(estimate - one))
        else:
            guess = (0, left, above[at], (left + above[at]) // 2)[kind]
        row[at] = (row[at] + guess) & 255
    return row
