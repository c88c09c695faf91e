"""The exceptions that rtc raises.

```
RtcError
 ├── InvalidArgument     a value outside its legal range (also a ValueError)
 ├── Unsupported         an operator, a policy or a task that cannot do what a method needs
 ├── IllegalEvent        an event that the controller's state does not allow (also a RuntimeError)
 ├── CheckpointError     a checkpoint that is missing, truncated, or made for something else
 ├── DatasetError        demonstrations that are missing, truncated, or made for something else
 ├── OutputExists        a file or folder that would be overwritten
 ├── RenderUnavailable   no MuJoCo rendering backend works on this machine
 └── WorkerDied          a worker process that ended in the middle of its job
```

A message says what was given, what would be right, and how to get there.
"""

from __future__ import annotations


class RtcError(Exception):
    """Anything that rtc refuses; the command line prints it as one line and exits with code 2."""


class InvalidArgument(RtcError, ValueError):
    """A value outside its legal range."""


class Unsupported(RtcError):
    """An operator, a policy or a task that cannot do what a method needs."""


class IllegalEvent(RtcError, RuntimeError):
    """An event that the controller's state does not allow; nothing has changed."""


class CheckpointError(RtcError):
    """A checkpoint that is missing, truncated, or made for something else."""


class DatasetError(RtcError):
    """Demonstrations that are missing, truncated, or made for something else."""


class OutputExists(RtcError):
    """A file or folder that would be overwritten."""


class RenderUnavailable(RtcError):
    """No MuJoCo rendering backend works on this machine."""


class WorkerDied(RtcError):
    """A worker process that ended in the middle of its job; what was finished before counts."""
