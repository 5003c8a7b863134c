"""The ablation: what each variant switches off, and what it shares."""

import pytest

from d2plan.bench.ablation import VARIANTS, open_variant
from d2plan.bench.assemble import assemble
from d2plan.bench.job import make_entry
from d2plan.bench.runner import Runner
from d2plan.bench.shared.adapters import choose_training
from d2plan.errors import InputError
from tests.bench.toys import shared_backbone, toy_job


def test_figure_8a_has_the_whole_method_and_each_part_off():
    switches = {name: (one.calibrate, one.compose) for name, one in VARIANTS.items()}
    assert switches["full"] == (True, True)
    assert switches["no-cac"] == (False, True)
    assert switches["no-cnc"] == (True, False)
    assert switches["no-cac-no-cnc"] == (False, False)
    assert switches["as-paper"] == (True, True)
    assert [one.name for one in VARIANTS.values() if one.changes] == ["as-paper"]
    weights = {}
    for name, one in VARIANTS.items():
        training = choose_training(shared_backbone(), one.settings[0])
        weights[name] = (training.token_weight > 0, training.attention_weight > 0)
    assert weights["full"] == weights["no-cac"] == weights["no-cnc"] == (True, True)
    assert (weights["no-token"], weights["no-atten"], weights["no-losses"]) == (
        (False, True),
        (True, False),
        (False, False),
    )


def test_variants_that_learn_alike_learn_once(tmp_path):
    job = toy_job(tmp_path)
    paths = {name: job.state_path(make_entry(name, one), "rex") for name, one in VARIANTS.items()}
    assert paths["full"] == paths["no-cac"] == paths["no-cnc"] == paths["no-cac-no-cnc"] == paths["as-paper"]
    assert len(set(paths.values())) == 4


def test_an_unknown_variant_is_told():
    with pytest.raises(InputError, match="choose from full, no-cac"):
        open_variant("no-luck")


def test_variants_draw_with_the_rows_that_their_parts_need(tmp_path):
    job = toy_job(tmp_path)
    setting = {"steps": 0.2}
    rows = {}
    for name in ("full", "no-cac", "no-cac-no-cnc"):
        entry = make_entry(name, VARIANTS[name], setting)
        runner = Runner(job)
        list(runner.learn(entry)), list(runner.draw(entry))
        record = assemble(job, [entry], None).methods[0]
        assert record.failures == ()
        assert len(record.pictures) == len(job.suite.shots)
        rows[name] = {picture.shot: picture.cost.unet_rows for picture in record.pictures}
    # Two steps: one of warm-up with 2 rows, one of composition with one row an instance more.
    assert rows["full"]["rex.one-beach.00"] == 2 + 3
    assert rows["full"]["tom+rex.more-snow.00.0"] == 2 + 4
    assert rows["no-cac"] == rows["full"]
