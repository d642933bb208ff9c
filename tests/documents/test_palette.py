"""Pictures of the documentation in 256 colours."""

import random
import struct
import zlib

import pytest

from docs.palette import chosen, chunk, decoded, distance, with_palette

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(rows, kinds):
    """A picture in RGB. `kinds`: the filter of each row, which is applied to it."""
    packed, above = b"", bytes(len(rows[0]) * 3)
    for row, kind in zip(rows, kinds, strict=True):
        plain = b"".join(row)
        guesses = [guess(kind, plain, above, at) for at in range(len(plain))]
        packed += bytes([kind]) + bytes((one - other) & 255 for one, other in zip(plain, guesses, strict=True))
        above = plain
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")


def guess(kind, row, above, at):
    left, corner = (row[at - 3], above[at - 3]) if at >= 3 else (0, 0)
    near = sorted((left, above[at], corner), key=lambda one: abs(left + above[at] - corner - one))[0]
    return (0, left, above[at], (left + above[at]) // 2, near)[kind]


def shown(indexed):
    """The pixels of a picture with a palette."""
    width, height = struct.unpack(">II", indexed[16:24])
    at = indexed.index(b"PLTE")
    (length,) = struct.unpack(">I", indexed[at - 4 : at])
    palette = [indexed[one : one + 3] for one in range(at + 4, at + 4 + length, 3)]
    at = indexed.index(b"IDAT")
    packed = zlib.decompress(indexed[at + 4 : -16])
    return [[palette[one] for one in packed[row * (width + 1) + 1 : (row + 1) * (width + 1)]] for row in range(height)]


@pytest.mark.parametrize("kinds", [[kind] * 5 for kind in range(5)] + [[0, 1, 2, 3, 4]])
def test_a_picture_of_few_colours_stays_as_it_is(kinds):
    drawn = random.Random(1)
    rows = [[bytes(drawn.randrange(256) for _ in range(3)) for _ in range(20)] for _ in range(5)]

    assert decoded(png(rows, kinds))[3] == [b"".join(row) for row in rows]
    assert shown(with_palette(png(rows, kinds))) == rows


def test_of_many_colours_each_pixel_gets_one_that_is_near():
    rows = [[bytes((16 * red, 16 * green, 128)) for red in range(16)] for green in range(16)]
    rows.append([bytes((16 * red + 1, 1, 128)) for red in range(16)])

    found = shown(with_palette(png(rows, [0] * 17)))

    assert len(chosen([pixel for row in rows for pixel in row])) <= 256
    far = max(distance(one, other) for row, told in zip(rows, found, strict=True) for one, other in zip(row, told, strict=True))
    assert 0 < far <= 16
