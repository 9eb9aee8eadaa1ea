"""treecast: one big array on every host of a cluster, once per host, as a numpy array in every process.

A worker maps what an agent (``treecast recv``) has published on its host::

    a = treecast.attach("table.npy", timeout=60)

and somebody sends it::

    ref = treecast.send(a, "table.npy", hosts="node[001-128]", key_file="job.key")

The standard library alone, and numpy when an array is asked for. `treecast.ipyparallel` and `treecast.dask` go with
those packages. See treecast(1), treecast-api(7).
"""

from . import errors
from ._attach import Status, attach, status, wait, wait_async
from ._folder import Description
from ._ref import Ref, remove
from ._send import Progress, send
from .errors import (AuthError, CoordinatorLostError, DeadlineError, IntegrityError, InterruptedSendError,
                     NotFoundError, PartialError, ResourceError, SourceError, TreecastError, UsageError, VersionError)

__version__ = "0.1.0"
__all__ = ["attach", "wait", "wait_async", "send", "status", "remove", "Ref", "Status", "Progress", "Description",
           "errors", "TreecastError", "UsageError", "PartialError", "AuthError", "IntegrityError", "ResourceError",
           "DeadlineError", "VersionError", "CoordinatorLostError", "SourceError", "InterruptedSendError",
           "NotFoundError"]
