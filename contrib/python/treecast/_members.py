"""Files that hold several arrays: .npz with stored members, and .safetensors. Each member is mapped, none is copied."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from . import errors

SAFETENSORS_HEAD_MAX = 100_000_000  # its own rule


class Members(Mapping):  # type: ignore[type-arg]
    """Arrays by name, which are parts of one mapping of the file.

    Attributes
    ----------
    metadata : dict
        What a .safetensors file says of itself.
    dtypes : dict
        The name of each member's type as the file has it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.metadata: Dict[str, str] = {}
        self.dtypes: Dict[str, str] = {}
        self._get: Dict[str, Callable[[], Any]] = {}

    def __getitem__(self, key: str) -> Any:
        return self._get[key]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._get)

    def __len__(self) -> int:
        return len(self._get)

    def __repr__(self) -> str:
        return f"<{self.name}: {', '.join(f'{key} ({self.dtypes[key]})' for key in self)}>"


def reader_of(name: str) -> Optional[Callable[[Any, str], Members]]:
    """How to read a file of this name by members; None where it has none."""
    return _npz if name.endswith(".npz") else _safetensors if name.endswith(".safetensors") else None


def _wrong(name: str, why: str) -> errors.TreecastError:
    return errors.of_reason("format", f"{name}: {why} (raw=True attaches the bytes)")


def _part(file: Any, at: int, dtype: Any, shape: Tuple[int, ...], order: str = "C") -> Any:
    """A member of the file, which is mapped as bytes."""
    import numpy

    size = math.prod(shape) * dtype.itemsize
    if size == 0:
        return numpy.ndarray(shape, dtype, b"", order=order)
    return file[at:at + size].view(dtype).reshape(shape, order=order)


# -- .npz ------------------------------------------------------------------------------------------------------------


def _npz(file: Any, name: str) -> Members:
    members = Members(name)
    try:
        with zipfile.ZipFile(_Reader(file)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, struct.error) as error:
        raise _wrong(name, f"no .npz file: {error}") from None
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise _wrong(name, f"{info.filename} is compressed, so it cannot be mapped; write it with numpy.savez, not "
                               "savez_compressed")
        key = info.filename[:-4] if info.filename.endswith(".npy") else info.filename
        head = bytes(file[info.header_offset:info.header_offset + 30])
        if key in members._get or len(head) < 30 or head[:4] != b"PK\3\4":
            raise _wrong(name, f"the member {info.filename} is there twice, or not at all")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
        if start + info.file_size > file.size:
            raise _wrong(name, f"the member {info.filename} goes beyond the end")
        _add_npz(members, file, info.filename, key, start, info.file_size)
    return members


def _add_npz(members: Members, file: Any, filename: str, key: str, start: int, size: int) -> None:
    import numpy
    from numpy.lib import format as npy

    if not filename.endswith(".npy"):
        members.dtypes[key] = "|u1"
        members._get[key] = lambda: _part(file, start, numpy.dtype("u1"), (size,))
        return
    stream = _Reader(file[start:start + size])
    try:
        version = npy.read_magic(stream)
        if version[0] > 2:  # numpy has no public reader of the third alone, which differs in the encoding of names
            shape, fortran, dtype = _read_head_3(stream)
        else:
            read = npy.read_array_header_1_0 if version[0] == 1 else npy.read_array_header_2_0
            shape, fortran, dtype = read(stream)
    except ValueError as error:
        raise _wrong(members.name, f"{filename}: {error}") from None
    if dtype.hasobject:
        raise _wrong(members.name, f"{filename} holds Python objects")
    at = start + stream.tell()
    if math.prod(shape) * dtype.itemsize > size - stream.tell():
        raise _wrong(members.name, f"{filename} is cut off")
    members.dtypes[key] = dtype.str if dtype.names is None else str(dtype)
    members._get[key] = lambda: _part(file, at, dtype, shape, "F" if fortran else "C")


def _read_head_3(stream: "_Reader") -> Tuple[Any, bool, Any]:
    import ast

    from numpy.lib import format as npy

    (length,) = struct.unpack("<I", stream.read(4))
    try:
        head = ast.literal_eval(stream.read(min(length, 1 << 20)).decode())
        return head["shape"], bool(head["fortran_order"]), npy.descr_to_dtype(head["descr"])
    except (SyntaxError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"no header: {error!r}") from None


class _Reader(io.RawIOBase):
    """A mapping of bytes as a file to be read."""

    def __init__(self, memory: Any) -> None:
        super().__init__()
        self._memory, self._at = memory, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, len(self._memory))[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        piece = bytes(self._memory[self._at:self._at + len(buffer)])
        buffer[:len(piece)] = piece
        self._at += len(piece)
        return len(piece)


# -- .safetensors ----------------------------------------------------------------------------------------------------

_TYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
          "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8"}
# Types that numpy has only from ml_dtypes, and what they are without it: as many bytes of no meaning.
_OTHERS = {"BF16": ("bfloat16", "<u2"), "F8_E4M3": ("float8_e4m3fn", "u1"), "F8_E5M2": ("float8_e5m2", "u1"),
           "F8_E8M0": ("float8_e8m0fnu", "u1")}


def _dtype(word: str) -> Any:
    import numpy

    if word in _TYPES:
        return numpy.dtype(_TYPES[word])
    name, plain = _OTHERS[word]
    try:
        import ml_dtypes
        return numpy.dtype(getattr(ml_dtypes, name))
    except (ImportError, AttributeError):
        return numpy.dtype(plain, metadata={"safetensors": word})


def _safetensors(file: Any, name: str) -> Members:
    members = Members(name)
    length = int.from_bytes(bytes(file[:8]), "little")
    if file.size < 8 or length > SAFETENSORS_HEAD_MAX or length > file.size - 8:
        raise _wrong(name, "no .safetensors file: its header is longer than it or than 100 MB")
    try:
        head = json.loads(bytes(file[8:8 + length]).decode(), object_pairs_hook=_unique)
        members.metadata = head.pop("__metadata__", {}) if isinstance(head, dict) else None  # type: ignore[assignment]
        tensors = sorted((_tensor(key, said) for key, said in head.items()), key=lambda tensor: tensor[3:])
        if bytes(file[8:9]) != b"{" or not all(isinstance(text, str) for text in members.metadata.values()):
            raise ValueError("it begins with no brace, or its metadata are no texts")
    except (ValueError, AttributeError, RecursionError) as error:
        raise _wrong(name, f"no .safetensors file: {error}") from None
    _check_places(name, tensors, file.size - 8 - length)
    for key, word, shape, begin, _ in tensors:
        dtype, at = _dtype(word), 8 + length + begin
        members.dtypes[key] = word
        members._get[key] = lambda at=at, dtype=dtype, shape=shape: _part(file, at, dtype, shape)
    return members


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _tensor(key: str, said: Any) -> Tuple[str, str, Tuple[int, ...], int, int]:
    if not isinstance(said, dict) or set(said) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{key!r} is not described by dtype, shape and data_offsets")
    word, shape, places = said["dtype"], said["shape"], said["data_offsets"]
    if word not in _TYPES and word not in _OTHERS:
        raise ValueError(f"{key!r} has the type {word!r}, which is not known")
    numbers = [shape, places] if isinstance(shape, list) and isinstance(places, list) and len(places) == 2 else [[-1]]
    if any(type(number) is not int or number < 0 for part in numbers for number in part):
        raise ValueError(f"{key!r} has no shape or no data_offsets")
    if places[1] - places[0] != math.prod(shape) * _dtype(word).itemsize:
        raise ValueError(f"{key!r} has other bytes than its shape says")
    return key, word, tuple(shape), places[0], places[1]


def _check_places(name: str, tensors: List[Tuple[str, str, Tuple[int, ...], int, int]], size: int) -> None:
    """Its own rule: one behind the other, with no hole, to the end."""
    at = 0
    for key, _, _, begin, end in tensors:
        if begin != at:
            raise _wrong(name, f"{key!r} does not begin where the one before ends")
        at = end
    if at != size:
        raise _wrong(name, f"{size} bytes of data, of which the header describes {at}")
