"""Progress reports of jobs. Uses only the standard library, so that any job can import it.

    progress = Progress()                      training
    progress.step(n, loss=loss, seconds=took)
    progress.checkpoint(n)
    progress.close()

    with Pipeline("tokenise", expected_interval=3600) as pipeline:
        pipeline.records(1000, backlog=left)   any number of times
        pipeline.success()                     after each complete run

    serving = Serving("chat")                  a server without its own /metrics
    serving.load(waiting=0, running=2)
    serving.answered(200, seconds=0.8, tokens=310)

A report is written to a file in FLEETMEDIC_PROGRESS_DIR, sent to the exporter's socket
FLEETMEDIC_PROGRESS_SOCKET, or both, at most about twice a second. The functions never raise an
exception into the job and never block. If neither variable is set, they do nothing.
"""

from fleetmedic.progress.pipeline import Pipeline
from fleetmedic.progress.serving import Serving
from fleetmedic.progress.training import Progress

__all__ = ["Pipeline", "Progress", "Serving"]
