"""What our RLlib algorithms do differently from RLlib's own: they leave nothing behind."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any


class Housekept:
    """Mixin for RLlib algorithms built outside Tune: a temporary folder in place of one under `~/ray_results`."""

    _storage: Any
    _logdir: str

    def _setup_logdir(self) -> None:
        if self._storage:
            super()._setup_logdir()  # type: ignore[misc]
        else:
            self._logdir = tempfile.mkdtemp(prefix="rl-markets-")

    def cleanup(self) -> None:
        """Stops RLlib's actors, then removes the temporary folder."""
        super().cleanup()  # type: ignore[misc]
        if not self._storage:
            shutil.rmtree(self._logdir, ignore_errors=True)
