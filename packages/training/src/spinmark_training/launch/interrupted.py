"""A run that was asked to end before it was done."""

RETRY = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, the same command goes on


class InterruptedRun(RuntimeError):
    """A signal ended the run after a step, and its checkpoint is on the disk.

    Args:
        step: The step that the checkpoint stands at.
        steps: Steps in all.
        signal: The name of the signal.
        requeued: Whether the scheduler was asked to start the job again, and agreed.
        is_main: Whether this process speaks for the run.
    """

    def __init__(
        self, step: int, steps: int, signal: str, *, requeued: bool = False, is_main: bool = True
    ) -> None:
        super().__init__(
            f"{signal} ended the run after step {step} of {steps}; its checkpoint is written"
            + (" and the job is queued again" if requeued else "")
        )
        self.step = step
        self.is_main = is_main
        # A launcher takes any other status of a helper for a crash, and kills the process that speaks.
        self.exit_status = RETRY if is_main else 0
