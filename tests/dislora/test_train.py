import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from d2plan.adapter.attach import attach_adapter
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import null_states
from d2plan.dislora.apparatus import make_optimiser, set_rates
from d2plan.dislora.checkpoint import load_checkpoint
from d2plan.dislora.draw import BatchDraw
from d2plan.dislora.lessons import LessonChoices, prepare_lessons
from d2plan.dislora.objective import compute_losses
from d2plan.dislora.request import describe_request, reserved_identifiers
from d2plan.dislora.train import Keeping, finish_training, train_steps
from d2plan.errors import InputError
from tests.dislora.concept import CHOICES, SETTINGS, make_data, make_request, same


def _digest(backbone: Backbone) -> str:
    digest = hashlib.sha256()
    for model in (backbone.unet, *backbone.text_encoders, backbone.vae):
        for name, tensor in model.state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def test_the_same_request_gives_the_same_adapter_and_another_seed_another(tiny: Backbone) -> None:
    torch.manual_seed(1)
    first = finish_training(train_steps(tiny, make_data(), make_request()))
    torch.manual_seed(2)
    again = finish_training(train_steps(tiny, make_data(), make_request()))
    other = finish_training(train_steps(tiny, make_data(), make_request(seed=1)))
    assert same(first, again)
    assert not same(first, other)


def test_every_attention_layer_learns_and_the_base_is_left_as_it_was(tiny: Backbone) -> None:
    before = _digest(tiny)
    steps = train_steps(tiny, make_data(), make_request())
    reports = [next(steps) for _ in range(2)]
    adapter = finish_training(steps)
    assert _digest(tiny) == before
    assert (adapter.class_word, adapter.identifier, adapter.name) == ("dog", "<v1>", "rex")
    assert adapter.base_fingerprint == tiny.fingerprint
    parts = {path.split(".")[0] for path in adapter.deltas}
    assert parts == {"unet", "text_encoder", "text_encoder_2"}
    # The last layer of each text encoder lies behind the states that the U-Net reads.
    idle = [path for path, delta in adapter.deltas.items() if not delta.up.any()]
    assert all(path.startswith("text_encoder.") and ".layers.2." in path for path in idle)
    assert [report.step for report in reports] == [1, 2]
    for report in reports:
        weighted = report.ldm + 1e-3 * report.token + 1e-2 * report.attention
        assert report.loss == pytest.approx(weighted, rel=1e-5)
        assert report.images_per_second > 0 and 0 <= report.attention <= 1
    assert reports[0].token == pytest.approx(0, abs=1e-6)
    assert reports[1].token > 1e-6


def test_a_training_that_is_stopped_leaves_the_base_as_it_was(tiny: Backbone) -> None:
    before = _digest(tiny)
    grads = [parameter.requires_grad for parameter in tiny.unet.parameters()]
    steps = train_steps(tiny, make_data(), make_request())
    next(steps)
    steps.close()
    assert _digest(tiny) == before
    assert [parameter.requires_grad for parameter in tiny.unet.parameters()] == grads


def test_training_lowers_the_loss_on_the_concept(tiny: Backbone) -> None:
    data = make_data(size=64, captions=(None,))
    lessons = prepare_lessons(tiny, data, replace(CHOICES, masked=False))
    batch = BatchDraw(lessons, 2, 0.5, 0.0, 1000, 99).draw()
    nulls = null_states(tiny, 1)

    def measure() -> float:
        with torch.no_grad(), compute_losses(tiny, lessons, batch, plain, nulls) as losses:
            return float(losses.ldm)

    plain = replace(SETTINGS, attention_weight=0.0, steps=12)
    before = measure()
    for report in train_steps(tiny, data, replace(make_request(), settings=plain)):
        if report.step == plain.steps:
            after = measure()
    assert after < 0.995 * before


def test_words_that_the_base_cannot_use_are_refused_before_any_work(tiny: Backbone) -> None:
    assert reserved_identifiers(tiny.defaults)[0] == "<v1>"
    free = replace(tiny, defaults=replace(tiny.defaults, identifiers=("sks", "ohwx")))
    assert reserved_identifiers(free.defaults) == ()
    with pytest.raises(InputError, match="reserved"):
        next(train_steps(tiny, make_data(), replace(make_request(), choices=LessonChoices("dog", "sks"))))
    with pytest.raises(InputError, match="both 0"):
        next(train_steps(tiny, make_data(), make_request(unet_rate=0.0, text_rate=0.0)))


def test_a_loss_that_is_no_number_stops_the_training(tiny: Backbone) -> None:
    with torch.no_grad():
        tiny.unet.conv_out.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="step 1"):
        next(train_steps(tiny, make_data(), make_request()))


def test_a_gradient_that_is_no_number_stops_the_training_before_anything_learns_from_it(
    tiny: Backbone, tmp_path: Path
) -> None:
    steps = train_steps(tiny, make_data(), make_request(), Keeping(tmp_path, every=1))
    next(steps)
    handle = tiny.unet.conv_out.register_full_backward_pre_hook(lambda _, grads: tuple(g * torch.nan for g in grads))
    with pytest.raises(InputError, match="The gradient is nan at step 2; lower the learning rates"):
        next(steps)
    handle.remove()
    kept = load_checkpoint(tmp_path)
    assert kept is not None and kept.step == 1
    assert all(torch.isfinite(tensor).all() for tensor in kept.tensors.values())


def test_encoders_whose_rate_is_nothing_stay_as_they_are(tiny: Backbone) -> None:
    adapter = finish_training(train_steps(tiny, make_data(), make_request(text_rate=0.0, steps=1)))
    texts = [delta.up for path, delta in adapter.deltas.items() if path.startswith("text_encoder")]
    assert texts and not any(up.any() for up in texts)


def test_a_request_is_written_down_for_the_header() -> None:
    written = describe_request(make_request(seed=5))
    assert written["seed"] == "5" and written["rank"] == "2" and written["class_word"] == "dog"
    assert "template" not in written


def test_a_step_cut_into_several_calls_learns_what_one_call_does(tiny: Backbone) -> None:
    whole = list(train_steps(tiny, make_data(), make_request(batch_size=4)))
    cut = list(train_steps(tiny, make_data(), make_request(batch_size=2, gradient_accumulation=2)))
    for one, other in zip(whole, cut, strict=True):
        for name in ("loss", "ldm", "token", "attention"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-3, abs=1e-6), name


def test_activations_computed_twice_change_no_loss_and_the_unet_is_as_before(tiny: Backbone) -> None:
    plain = list(train_steps(tiny, make_data(), make_request()))
    calls = []
    handle = tiny.unet.up_blocks[0].resnets[0].register_forward_pre_hook(lambda *_: calls.append(1))
    twice = list(train_steps(tiny, make_data(), make_request(gradient_checkpointing=True)))
    handle.remove()
    assert [report.loss for report in twice] == pytest.approx([report.loss for report in plain], rel=1e-5)
    # Two steps: the own pass runs twice, the short pass for the class maps once.
    assert len(calls) == 6
    assert not any(getattr(module, "gradient_checkpointing", False) for module in tiny.unet.modules())


def test_without_text_encoders_only_the_unet_learns_and_the_token_loss_is_nothing(tiny: Backbone) -> None:
    steps = train_steps(tiny, make_data(), make_request(text_encoders=False))
    reports = [next(steps) for _ in range(2)]
    adapter = finish_training(steps)
    assert {path.split(".")[0] for path in adapter.deltas} == {"unet"}
    assert [report.token for report in reports] == [0, 0]


@pytest.mark.parametrize(
    ("changes", "weights"),
    [
        ({"token_weight": 0.0}, (1, 0, 1e-2)),
        ({"attention_weight": 0.0}, (1, 1e-3, 0)),
        ({"denoising_weight": 0.0}, (0, 1e-3, 1e-2)),
    ],
)
def test_each_loss_can_be_switched_off(
    tiny: Backbone, changes: dict[str, float], weights: tuple[float, float, float]
) -> None:
    for report in train_steps(tiny, make_data(), make_request(**changes)):
        parts = (report.ldm, report.token, report.attention)
        assert report.loss == pytest.approx(sum(w * part for w, part in zip(weights, parts, strict=True)), rel=1e-5)
    assert (report.token > 0) and (report.attention > 0) == (weights[2] > 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_learns_float32_updates_with_nearly_the_same_loss(tiny: Backbone, dtype: torch.dtype) -> None:
    exact = list(train_steps(tiny, make_data(), make_request()))
    for model in (tiny.unet, *tiny.text_encoders):
        model.to(dtype)
    steps = train_steps(tiny, make_data(), make_request())
    reports = [next(steps) for _ in range(2)]
    adapter = finish_training(steps)
    assert {delta.up.dtype for delta in adapter.deltas.values()} == {torch.float32}
    assert any(delta.up.any() for delta in adapter.deltas.values())
    assert tiny.unet.conv_in.weight.dtype == dtype
    for half, full in zip(reports, exact, strict=True):
        assert half.loss == pytest.approx(full.loss, rel=0.05)


def test_prior_preservation_starts_from_the_bases_own_answer_and_is_weighed_in(tiny: Backbone) -> None:
    reports = list(train_steps(tiny, make_data(), make_request(prior_weight=0.5, prior_images=2, steps=2)))
    for report in reports:
        others = report.ldm + 1e-3 * report.token + 1e-2 * report.attention
        assert report.prior > 0
        assert report.loss == pytest.approx(others + 0.5 * report.prior, rel=1e-5)
    without = list(train_steps(tiny, make_data(), make_request()))
    assert [report.prior for report in without] == [0, 0]


def test_the_plain_word_is_kept_by_its_weight_and_drifts_without_it(tiny: Backbone) -> None:
    asked = {"steps": 12, "unet_rate": 0.05}
    kept = list(train_steps(tiny, make_data(), make_request(plain_weight=5.0, **asked)))
    assert kept[0].plain < 1e-10  # an adapter that has learnt nothing moves nothing
    for report in kept:
        others = report.ldm + 1e-3 * report.token + 1e-2 * report.attention
        assert report.loss == pytest.approx(others + 5 * report.plain, rel=1e-5)
    loose = list(train_steps(tiny, make_data(), make_request(plain_weight=1e-6, **asked)))
    assert kept[-1].plain < 0.5 * loose[-1].plain
    assert [report.plain for report in train_steps(tiny, make_data(), make_request())] == [0, 0]


def test_a_report_tells_pace_memory_and_what_is_left(tiny: Backbone) -> None:
    first, last = train_steps(tiny, make_data(), make_request())
    assert first.memory > 100 and first.images_per_second > 0
    assert first.seconds_left == pytest.approx(2 / first.images_per_second, rel=1e-6)
    assert last.seconds_left == 0


def test_one_picture_of_one_colour_is_learnt_without_complaint(tiny: Backbone) -> None:
    data = make_data(captions=(None,))
    data.images[0][:] = 128
    assert all(report.loss < 1e3 for report in train_steps(tiny, data, make_request()))


def test_a_linear_schedule_lets_both_rates_fall_to_nothing(tiny: Backbone) -> None:
    constant = finish_training(train_steps(tiny, make_data(), make_request(steps=1)))
    linear = {"rate_schedule": "linear"}
    # The only step of a training has the whole rate; of four steps the last has a quarter.
    assert same(constant, finish_training(train_steps(tiny, make_data(), make_request(steps=1, **linear))))
    settings = replace(SETTINGS, steps=4, rate_schedule="linear", unet_rate=0.8, text_rate=0.4)
    with attach_adapter(tiny, 2, seed=0) as attached:
        optimiser = make_optimiser(attached, settings)
        rates = []
        for step in (1, 2, 4, 1):
            set_rates(optimiser, settings, step)
            rates.append([group["lr"] for group in optimiser.param_groups])
    assert rates == [
        [0.8, 0.4],
        [pytest.approx(0.6), pytest.approx(0.3)],
        [pytest.approx(0.2), pytest.approx(0.1)],
        [0.8, 0.4],
    ]
    with pytest.raises(InputError, match="constant or linear"):
        replace(SETTINGS, rate_schedule="cosine")
