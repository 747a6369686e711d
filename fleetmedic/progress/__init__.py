"""How a job says how far it is. Standard library only, so any job can import it.

    progress = Progress()                      training
    progress.step(n, loss=loss, seconds=took)
    progress.checkpoint(n)
    progress.close()

    with Pipeline("tokenise", expected_interval=3600) as pipeline:
        pipeline.records(1000, backlog=left)   any number of times
        pipeline.success()                     each time that the work is done

    serving = Serving("chat")                  a server that has no /metrics of its own
    serving.load(waiting=0, running=2)
    serving.answered(200, seconds=0.8, tokens=310)

A report goes into a file of FLEETMEDIC_PROGRESS_DIR, over the socket FLEETMEDIC_PROGRESS_SOCKET of the
node's exporter, or both, about twice a second at most. Nothing here ever raises into the job or waits
for anybody, and where neither is given it does nothing.
"""

from fleetmedic.progress.pipeline import Pipeline
from fleetmedic.progress.serving import Serving
from fleetmedic.progress.training import Progress

__all__ = ["Pipeline", "Progress", "Serving"]
