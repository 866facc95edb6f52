"""Folders on a local disk or on S3, and the small files in them, listed and read."""

from functools import cache

from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, PyFileSystem


@cache
def storage_of(folder: str) -> tuple[FileSystem, str]:
    """The file system that ``folder`` lies on, and its path there: a local disk, or what delta-rs
    reaches (``s3a://bucket/…``) with the credentials of the environment.
    """
    if "://" not in folder:
        return LocalFileSystem(), folder
    return PyFileSystem(DeltaStorageHandler(folder)), ""


def files_in(folder: str) -> dict[str, float]:
    """The files right in ``folder``, by name, and when each was written (epoch seconds); none where
    there is no such folder.

    Raises:
        OSError: it cannot be listed.
    """
    files, path = storage_of(folder)
    found = files.get_file_info(FileSelector(path or "/", allow_not_found=True))
    return {info.base_name: info.mtime.timestamp() for info in found if info.type == FileType.File}


def read_bytes(folder: str, name: str) -> bytes:
    """What the file ``name`` in ``folder`` holds.

    Raises:
        OSError: it cannot be read.
    """
    files, path = storage_of(folder)
    with files.open_input_file(f"{path}/{name}") as file:
        content: bytes = file.read()
    return content


def read_lines(folder: str, name: str) -> list[str]:
    """The lines of the text file ``name`` in ``folder``.

    Raises:
        OSError: it cannot be read.
    """
    return read_bytes(folder, name).decode().splitlines()


def delete_file(folder: str, name: str) -> None:
    """Remove the file ``name`` from ``folder``.

    Raises:
        OSError: it cannot be removed.
    """
    files, path = storage_of(folder)
    files.delete_file(f"{path}/{name}")
