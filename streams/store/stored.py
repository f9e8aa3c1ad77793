"""Reads the fields of a claimed state that a worker keeps in memory, and checks them all."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from streams.checksums import DamagedError, checksum
from streams.state.snapshot import (
    Meta,
    Stored,
    check_fields,
    check_slice,
    decode_index,
    decode_meta,
    decode_names,
    decode_totals,
    registry_fields,
    slice_field,
)

HEAD = ("meta", "index", "totals")  # fields that every checkpoint writes


async def read_stored(
    owner: str,
    offset: bytes | None,
    look: Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]],
) -> Stored:
    """Return the state under the claim of `owner`; its `damage`, if it has any.

    `offset`: the field as it is stored; None if nothing was counted. `look`: as `Store.look`.
    """
    generation = checksum("owner", owner.encode())
    fields = dict(await look(HEAD))
    if not fields:
        return Stored(0, generation=generation)
    counted_to = 0
    try:
        meta = decode_meta(required(fields, "meta"))
        counted_to = meta.offset or 0
        # After the metadata, which tells how many names the registry has.
        fields |= await look(registry_fields(meta))
        counted_to = check_state(meta, offset, fields)
    except DamagedError as error:
        return Stored(counted_to, fields, generation, error)
    return Stored(counted_to, fields, generation)


def check_state(meta: Meta, offset: bytes | None, fields: Mapping[str, bytes]) -> int:
    """Check all fields beside the slices; return the offset. Raises DamagedError."""
    if offset is None:
        raise DamagedError("offset", "is missing")
    index, totals = required(fields, "index"), required(fields, "totals")
    check_fields(meta, offset, fields)
    # A program without checksums wrote fields that may not even be readable.
    decode_index(index)
    decode_totals(totals)
    decode_names(meta, fields)
    return int(offset)


class FieldCheck:
    """Checks the stored fields of one claimed partition, a few with each call."""

    def __init__(self, look: Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]) -> None:
        self._look = look
        self._unchecked: list[str] = []

    async def check_next(self, count: int) -> int:
        """Check the fields of the last checkpoint, and `count` further ones.

        Return the stored offset. Raises DamagedError, and the errors of `look`.
        """
        names, self._unchecked = self._unchecked[:count], self._unchecked[count:]
        fields = await self._look(["offset", *HEAD, *names])
        # Claimed, but nothing counted yet.
        if not fields.keys() & set(HEAD):
            return 0
        meta = decode_meta(required(fields, "meta"))
        offset = required(fields, "offset")
        index = decode_index(required(fields, "index"))
        check_fields(meta, offset, fields)
        decode_totals(required(fields, "totals"))
        slices = {slice_field(slice_id) for slice_id in index}
        stored = {*registry_fields(meta), *slices}
        for name in stored & set(names):
            data = required(fields, name)
            if name in slices:
                check_slice(name, data)
        if not self._unchecked:
            self._unchecked = sorted(stored)
        return int(offset)


def present(names: Sequence[str], values: Sequence[bytes | None]) -> dict[str, bytes]:
    """Return fields by name. Raises DamagedError if one is missing."""
    fields = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    return {name: required(fields, name) for name in names}


def required(fields: Mapping[str, bytes], name: str) -> bytes:
    """Return a field. Raises DamagedError if it is missing."""
    if name not in fields:
        raise DamagedError(name, "is missing")
    return fields[name]
