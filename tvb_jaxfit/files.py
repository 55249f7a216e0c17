"""Files that are there whole, or as they were before."""

import contextlib
import os
import uuid
from pathlib import Path


@contextlib.contextmanager
def whole(path):
    """Binary file that takes its name once it is written to the end, whatever happens before.

    Parameters
    ----------
    path : path-like
        Its directory is made where there is none. What has the name already is replaced.

    Yields
    ------
    file
        To write into.

    Raises
    ------
    OSError
        As of any writing: a full disk, a place that may not be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tvb_jaxfit.files import whole
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "new" / "file"
    >>> with whole(path) as file:
    ...     _ = file.write(b"all of it")
    >>> path.read_bytes(), [each.name for each in path.parent.iterdir()]
    (b'all of it', ['file'])
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(written, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(written, path)
    except BaseException:
        with contextlib.suppress(OSError):
            written.unlink()
        raise
