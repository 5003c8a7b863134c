"""Trainings that were stopped, however hard, and go on."""

import os
import resource
import signal
from pathlib import Path

from d2plan.backbone.load import load_backbone
from d2plan.dislora.checkpoint import last_step
from d2plan.dislora.train import StepReport
from d2plan.workflows.training.train import train_concept


def test_killed_inside_the_write_of_a_checkpoint_it_goes_on_to_the_same_file(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    asked = {"base": load_backbone(tiny_folder), "steps": 3, "batch_size": 1, "checkpoint_every": 1}
    whole = train_concept(pictures, tmp_path / "whole" / "rex.safetensors", **asked)
    target = tmp_path / "out" / "rex.safetensors"
    work = target.parent / "rex.train"

    def let_the_next_write_kill(report: StepReport) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        half = (work / "step-0000001.safetensors").stat().st_size // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

    child = os.fork()
    if child == 0:
        try:
            train_concept(pictures, target, **asked, on_step=let_the_next_write_kill)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXFSZ
    assert any(path.name.startswith(".tmp") for path in work.iterdir()) and last_step(work) == 1
    notes: list[str] = []
    train_concept(pictures, target, **asked, resume=True, on_note=notes.append)
    assert "going on after step 1 of 3" in notes
    assert target.read_bytes() == whole.read_bytes() and not work.exists()
