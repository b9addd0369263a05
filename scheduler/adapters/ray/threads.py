"""The threads in which Ray is asked. A look at the cluster must come through whatever else goes on: a control
process that gets no answer for long ends."""

from __future__ import annotations

from common.threads import Threads

in_ray_thread = Threads("ray", 6).run
