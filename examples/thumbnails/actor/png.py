"""As much of PNG as thumbnails need: 8 bits a channel, grey or colour, with or without alpha, not interlaced."""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
MOST = 1_000_000  # pixels


class NotReadable(ValueError):
    """Not a PNG, or one that cannot be read here; says why."""


def thumbnail(data: bytes, side: int) -> bytes:
    """`data`, a PNG, made smaller so that it fits into a square of `side` pixels. Raises NotReadable."""
    width, height, colour, rows = read(data)
    step = max(1, -(-max(width, height) // side))
    channels = CHANNELS[colour]
    picked = [range(x * channels, (x + 1) * channels) for x in range(0, width, step)]
    small = [bytes(row[i] for pixel in picked for i in pixel) for row in rows[::step]]
    return write(len(picked), len(small), colour, small)


def read(data: bytes) -> tuple[int, int, int, list[bytes]]:
    """Width, height, colour type, and the rows of pixels."""
    if not data.startswith(SIGNATURE):
        raise NotReadable("this is not a PNG")
    head, packed, at = b"", b"", len(SIGNATURE)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            head = content
        elif kind == b"IDAT":
            packed += content
        at += 12 + size
    try:
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    except struct.error:
        raise NotReadable("this PNG has no header") from None
    if depth != 8 or colour not in CHANNELS or interlaced or not 0 < width * height <= MOST:
        raise NotReadable(f"only PNGs of up to {MOST} pixels with 8 bits a channel, not interlaced, can be read here")
    length = width * CHANNELS[colour]
    try:
        raw = zlib.decompressobj().decompress(packed, height * (length + 1) + 1)
    except zlib.error as error:
        raise NotReadable(f"this PNG is damaged: {error}") from error
    if len(raw) != height * (length + 1):
        raise NotReadable("this PNG is not as long as its header says")
    return width, height, colour, unfiltered(raw, length, CHANNELS[colour])


def unfiltered(raw: bytes, length: int, step: int) -> list[bytes]:
    """Each row is written as differences to what stands left of it and above it (PNG, section 9)."""
    rows: list[bytes] = []
    above = bytes(length)
    for begin in range(0, len(raw), length + 1):
        row = bytearray(raw[begin + 1 : begin + 1 + length])
        match raw[begin]:
            case 0:
                pass
            case 1:
                for i in range(step, length):
                    row[i] = (row[i] + row[i - step]) & 255
            case 2:
                row = bytearray((a + b) & 255 for a, b in zip(row, above, strict=True))
            case 3:
                for i in range(length):
                    row[i] = (row[i] + ((row[i - step] if i >= step else 0) + above[i]) // 2) & 255
            case 4:
                for i in range(length):
                    left, corner = (row[i - step], above[i - step]) if i >= step else (0, 0)
                    row[i] = (row[i] + nearest(left, above[i], corner)) & 255
            case other:
                raise NotReadable(f"this PNG has a row with the unknown filter {other}")
        above = bytes(row)
        rows.append(above)
    return rows


def nearest(left: int, above: int, corner: int) -> int:
    """Paeth's predictor."""
    guess = left + above - corner
    return min((abs(guess - left), 0, left), (abs(guess - above), 1, above), (abs(guess - corner), 2, corner))[2]


def write(width: int, height: int, colour: int, rows: list[bytes]) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    return SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
