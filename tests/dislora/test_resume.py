from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from d2plan.adapter.adapter import Adapter
from d2plan.backbone.load import Backbone
from d2plan.dislora import request as requests
from d2plan.dislora.checkpoint import last_step, load_checkpoint
from d2plan.dislora.processes import Processes
from d2plan.dislora.request import TrainRequest
from d2plan.dislora.train import Keeping, StepReport, train_steps
from d2plan.errors import InputError
from tests.dislora.concept import make_data, make_request, same

STEPS = 3
LOSSES = ("loss", "ldm", "token", "attention", "prior", "plain")
REQUEST = make_request(
    steps=STEPS,
    rate_schedule="linear",
    batch_size=1,
    gradient_accumulation=2,
    prior_weight=0.5,
    prior_images=1,
    plain_weight=0.5,
)


def _run(
    backbone: Backbone, keeping: Keeping | None, until: int = STEPS, request: TrainRequest = REQUEST
) -> tuple[dict[int, tuple[float, ...]], Adapter | None]:
    """Train up to a step, and stop there as Ctrl-C does; gives the losses by step."""
    losses: dict[int, tuple[float, ...]] = {}
    with closing(train_steps(backbone, make_data(), request, keeping)) as steps:
        while True:
            try:
                report: StepReport = next(steps)
            except StopIteration as end:
                return losses, end.value
            losses[report.step] = tuple(getattr(report, name) for name in LOSSES)
            if report.step == until < STEPS:
                return losses, None


@pytest.fixture(scope="module")
def whole(_opened: Backbone) -> tuple[dict[int, tuple[float, ...]], Adapter]:
    losses, adapter = _run(_opened, None)
    assert adapter is not None
    return losses, adapter


@pytest.mark.parametrize("splits", [(1,), (1, 2), (3,)], ids=str)
def test_stopped_and_resumed_it_learns_the_very_bits(
    splits: tuple[int, ...], tiny: Backbone, tmp_path: Path, whole: tuple[dict[int, tuple[float, ...]], Adapter]
) -> None:
    told: dict[int, tuple[float, ...]] = {}
    for split in splits:
        part, _ = _run(tiny, Keeping(tmp_path, every=0, resume="same"), split)
        told.update(part)
        assert last_step(tmp_path) == split
    part, adapter = _run(tiny, Keeping(tmp_path, every=0, resume="same"))
    told.update(part)
    assert told == whole[0]
    assert adapter is not None and same(adapter, whole[1])


def test_a_stop_inside_a_step_falls_back_to_the_last_checkpoint_and_ends_the_same(
    tiny: Backbone, tmp_path: Path, whole: tuple[dict[int, tuple[float, ...]], Adapter]
) -> None:
    passes = []

    def fail(*_: object) -> None:
        passes.append(1)
        # A step has two pieces with at least two passes each: this one is inside the third step.
        if len(passes) == 3:
            raise RuntimeError("the power went")

    steps = train_steps(tiny, make_data(), REQUEST, Keeping(tmp_path, every=1))
    assert [next(steps).step for _ in range(2)] == [1, 2]
    handle = tiny.unet.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="power"):
        next(steps)
    handle.remove()
    assert last_step(tmp_path) == 2
    part, adapter = _run(tiny, Keeping(tmp_path, every=1, resume="same"))
    assert part == {step: losses for step, losses in whole[0].items() if step > 2}
    assert adapter is not None and same(adapter, whole[1])


def test_another_training_is_not_gone_on_with_unless_asked(tiny: Backbone, tmp_path: Path) -> None:
    _run(tiny, Keeping(tmp_path), 1)
    other = make_request(**{**vars(REQUEST.settings), "token_weight": 0.5})
    with pytest.raises(InputError, match=r"token_weight was 0\.001, is 0\.5.*--resume-changed"):
        _run(tiny, Keeping(tmp_path, resume="same"), request=other)
    fewer = make_data(captions=(None,))
    with pytest.raises(InputError, match="the pictures differ"):
        next(train_steps(tiny, fewer, REQUEST, Keeping(tmp_path, resume="same")))
    part, _ = _run(tiny, Keeping(tmp_path, resume="any"), request=other)
    assert sorted(part) == [2, 3]
    wider = make_request(**{**vars(REQUEST.settings), "rank": 5})
    with pytest.raises(InputError, match="another rank"):
        _run(tiny, Keeping(tmp_path, resume="any"), request=wider)


def test_a_finished_training_goes_on_when_more_steps_are_asked_for(tiny: Backbone, tmp_path: Path) -> None:
    short = make_request(**{**vars(REQUEST.settings), "steps": 2})
    _run(tiny, Keeping(tmp_path), request=short)
    notes: list[str] = []
    again, adapter = _run(tiny, Keeping(tmp_path, resume="same", on_note=notes.append), request=short)
    assert again == {} and adapter is not None and "going on after step 2 of 2" in notes
    part, _ = _run(tiny, Keeping(tmp_path, resume="same"))
    assert sorted(part) == [3]
    with pytest.raises(InputError, match="3 steps already"):
        _run(tiny, Keeping(tmp_path, resume="same"), request=short)


def test_asked_to_stop_it_saves_and_stops(tiny: Backbone, tmp_path: Path) -> None:
    wishes: Iterator[bool] = iter([False, True])
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for report in train_steps(tiny, make_data(), REQUEST, Keeping(tmp_path, 0, stop=lambda: next(wishes))):
            seen.append(report.step)
    assert seen == [1, 2] and last_step(tmp_path) == 2


def test_what_a_loss_without_a_number_leaves_is_the_checkpoint_before(tiny: Backbone, tmp_path: Path) -> None:
    steps = train_steps(tiny, make_data(), REQUEST, Keeping(tmp_path, every=1))
    next(steps)
    with torch.no_grad():
        tiny.unet.conv_out.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="The loss is nan at step 2"):
        next(steps)
    kept = load_checkpoint(tmp_path)
    assert kept is not None and kept.step == 1
    assert all(torch.isfinite(tensor).all() for tensor in kept.tensors.values())


def test_float16_goes_on_with_its_scale(tiny: Backbone, tmp_path: Path) -> None:
    for model in (tiny.unet, *tiny.text_encoders):
        model.to(torch.float16)
    losses, adapter = _run(tiny, None)
    first, _ = _run(tiny, Keeping(tmp_path), 2)
    rest, resumed = _run(tiny, Keeping(tmp_path, resume="same"))
    assert first | rest == losses
    assert adapter is not None and resumed is not None and same(adapter, resumed)


def test_a_checkpoint_from_before_a_setting_was_there_goes_on(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = make_request(steps=STEPS)
    with monkeypatch.context() as before:
        describe = requests.describe_training
        before.setattr(
            requests,
            "describe_training",
            lambda *given: {name: text for name, text in describe(*given).items() if name != "plain_weight"},
        )
        _run(tiny, Keeping(tmp_path), 1, usual)
    with pytest.raises(InputError, match=r"plain_weight was 0\.0, is 0\.5"):
        _run(tiny, Keeping(tmp_path, resume="same"), request=make_request(steps=STEPS, plain_weight=0.5))
    part, _ = _run(tiny, Keeping(tmp_path, resume="same"), request=usual)
    assert sorted(part) == [2, 3]


def test_another_base_number_format_seed_or_count_of_processes_is_told(tiny: Backbone, tmp_path: Path) -> None:
    _run(tiny, Keeping(tmp_path), 1)
    same_again = Keeping(tmp_path, resume="same")
    with pytest.raises(InputError, match="the base differs"):
        _run(replace(tiny, fingerprint="0" * 16), same_again)
    with pytest.raises(InputError, match="seed was 0, is 1"):
        _run(tiny, same_again, request=replace(REQUEST, seed=1))
    with pytest.raises(InputError, match="processes was 1, is 2"):
        train_steps(tiny, make_data(), REQUEST, same_again, Processes(0, 2))
    for model in (tiny.unet, *tiny.text_encoders):
        model.to(torch.float16)
    with pytest.raises(InputError, match=r"precision was torch\.float32, is torch\.float16"):
        _run(tiny, same_again)
    with pytest.raises(InputError, match="another number format; use the same --precision"):
        _run(tiny, Keeping(tmp_path, resume="any"))
