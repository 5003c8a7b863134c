import json

import pytest

from d2plan.config import BaseDefaults, DisLoRASettings, IspSettings, load_defaults
from d2plan.errors import FileError, InputError


def test_the_defaults_are_the_papers_numbers():
    training, composing = DisLoRASettings(), IspSettings()
    assert (training.rank, training.unet_rate, training.text_rate) == (128, 3e-4, 3e-6)
    assert (training.token_weight, training.attention_weight) == (1e-3, 1e-2)
    assert (composing.steps, composing.guidance_scale, composing.warmup) == (50, 7.5, 15)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (2, 1), (5, 2), (30, 9), (50, 15), (1000, 300)])
def test_the_warm_up_is_the_rounded_part_of_the_steps(steps, warmup):
    assert IspSettings(steps=steps).warmup == warmup


def test_a_base_without_a_file_has_sdxls_defaults(tmp_path):
    assert load_defaults(None) == load_defaults(tmp_path) == BaseDefaults()
    assert (BaseDefaults().height, BaseDefaults().width) == (1024, 1024)


def test_a_base_brings_its_own_defaults(tmp_path):
    own = {"steps": 30, "guidance_scale": 5, "height": 128, "width": 128, "rank": 16, "identifiers": ["<v1>", "<v2>"]}
    (tmp_path / "d2plan.json").write_text(json.dumps(own))
    defaults = load_defaults(tmp_path)
    assert defaults == BaseDefaults(
        steps=30, guidance_scale=5.0, height=128, width=128, rank=16, identifiers=("<v1>", "<v2>")
    )
    assert defaults.training().rank == 16
    assert defaults.composing().warmup == 9


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "no JSON object"),
        ("{", "not readable as JSON"),
        ('{"stepz": 3}', "stepz is not a field"),
        ('{"steps": "3"}', "write a whole number"),
        ('{"steps": true}', "write a whole number"),
        ('{"steps": 0}', "must be 1..1000"),
        ('{"guidance_scale": NaN}', "guidance_scale"),
        ('{"height": 100}', "a multiple of 8"),
        ('{"identifiers": "v"}', "write a list of words"),
        ('{"weave": 3}', "write text in quotes"),
    ],
)
def test_a_damaged_file_is_one_sentence_that_names_it(tmp_path, text, told):
    path = tmp_path / "d2plan.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"d2plan\.json") as caught:
        load_defaults(tmp_path)
    assert told in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "d2plan.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises((InputError, FileError)):
        load_defaults(tmp_path)


@pytest.mark.parametrize("change", [{"rank": 0}, {"unet_rate": float("nan")}, {"joint_fraction": 2.0}, {"steps": 0}])
def test_settings_that_cannot_train_are_refused_by_name(change):
    with pytest.raises(InputError, match=next(iter(change))):
        DisLoRASettings(**change)


def test_a_base_brings_its_own_warmup_and_margin_and_sdxl_keeps_the_papers() -> None:
    assert BaseDefaults(steps=30, warmup_fraction=0.1).composing().warmup == 3
    assert BaseDefaults(mask_margin=0.1).composing().mask_margin == 0.1
    with pytest.raises(InputError, match="mask_margin"):
        BaseDefaults(mask_margin=0.6)
    assert BaseDefaults().composing().warmup == 15
    with pytest.raises(InputError, match="warmup_fraction"):
        BaseDefaults(warmup_fraction=1.5)
