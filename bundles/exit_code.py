"""How a command on a bundle ends: its exit code, and its errors as one sentence."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable


def exit_code(work: Callable[[], None]) -> int:
    """Do a command's work.

    Returns:
        0 when it is done, 1 after one sentence on a rule broken, 130 after Ctrl-C. Any other error
        is raised.
    """
    quiet_libraries()
    try:
        work()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        sentence = _root_cause(error)
        if not isinstance(sentence, (ValueError, OSError)):
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    return 0


def quiet_libraries() -> None:
    """No more of what libraries tell their own developers, and of MONAI's reminder that a config
    is a program."""
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category)
    warnings.filterwarnings("ignore", message="parsing config_file")


def _root_cause(error: BaseException) -> BaseException:
    """What went wrong below the layers in which MONAI wraps an error."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error
