"""Rows as one NumPy array a column, with a layout in bytes."""

from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

Marks = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


class ColumnArrays:
    """Base of dataclasses whose fields are arrays of one length n, named and typed in ``types``."""

    types: ClassVar[dict[str, "np.dtype[Any]"]]

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        return cls(*(np.empty(0, dtype) for dtype in cls.types.values()))

    @classmethod
    def join(cls, parts: Iterable[Self]) -> Self:
        """One after the other."""
        parts = [cls.empty(), *parts]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.types))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The inverse of ``to_bytes``."""
        n = len(raw) // sum(dtype.itemsize for dtype in cls.types.values())
        columns, start = [], 0
        for dtype in cls.types.values():
            columns.append(np.frombuffer(raw, dtype, n, start))
            start += n * dtype.itemsize
        return cls(*columns)

    def to_bytes(self) -> bytes:
        """All of the first column, then of the second, and so on; little-endian."""
        return b"".join(
            getattr(self, name).astype(dtype, copy=False).tobytes()
            for name, dtype in self.types.items()
        )

    def take(self, places: Places | Marks | slice) -> Self:
        """The rows at ``places`` (indices, a mask or a slice)."""
        return type(self)(*(getattr(self, name)[places] for name in self.types))

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self) * sum(dtype.itemsize for dtype in self.types.values())

    def __len__(self) -> int:
        return len(getattr(self, next(iter(self.types))))
