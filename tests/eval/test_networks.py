import json

import numpy as np
import pytest
import torch

from d2plan.errors import FileError, InputError
from d2plan.eval.networks import (
    DENSE_LABELS,
    HEADS,
    PARTS,
    WHOLE_HEADS,
    build_networks,
    crop_instances,
    head_labels,
    hide_background,
    load_networks,
    run_segmenter,
    save_networks,
    split_heads,
)
from d2plan.world.cast import ACTIONS, CLASSES


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    networks = build_networks(3)
    save_networks(networks, folder)
    return networks, folder


def test_networks_come_back_from_their_folders_in_half_precision(saved):
    networks, folder = saved
    back = load_networks(folder)
    for name, network in networks.parts().items():
        again = back.parts()[name].state_dict()
        for key, value in network.state_dict().items():
            assert torch.equal(again[key], value.half().to(again[key].dtype)), key


def test_the_folders_fit_into_five_megabytes(saved):
    _, folder = saved
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 5e6


def test_weights_of_another_world_are_refused(saved, tmp_path):
    save_networks(saved[0], tmp_path)
    path = tmp_path / "attributes" / "config.json"
    config = json.loads(path.read_text())
    config["id2label"]["0"] = "class: dragon"
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="another world"):
        load_networks(tmp_path)


def test_a_missing_network_is_named(saved, tmp_path):
    with pytest.raises(FileError, match="segmenter"):
        load_networks(tmp_path)


def test_outputs_have_the_documented_shapes(saved):
    networks = saved[0]
    for part in networks.parts().values():
        part.eval()
    with torch.no_grad():
        assert run_segmenter(networks.segmenter, torch.zeros(1, 3, 128, 160)).shape == (1, len(DENSE_LABELS), 32, 40)
        heads = split_heads(networks.attributes(torch.zeros(2, 4, 96, 96)).logits, HEADS)
        whole = split_heads(networks.place(torch.zeros(2, 3, 64, 64)).logits, WHOLE_HEADS)
        assert networks.identity(torch.zeros(2, 4, 96, 96)).logits.shape == (2, 64)
    assert {name: part.shape[1] for name, part in {**heads, **whole}.items()} == {
        name: len(labels) for name, labels in {**HEADS, **WHOLE_HEADS}.items()
    }


def test_every_action_of_every_class_has_a_label():
    assert {word for words in ACTIONS.values() for word in words} == set(HEADS["action"])
    assert set(CLASSES) == set(HEADS["class"])
    assert len(head_labels(HEADS)) == len(set(head_labels(HEADS)))
    assert tuple(build_networks().parts()) == PARTS


def test_the_same_seed_gives_the_same_weights():
    first, second, other = (build_networks(seed).place.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


def test_a_crop_shows_its_box_in_the_middle():
    images = -torch.ones(1, 3, 128, 128)
    masks = torch.zeros(1, 128, 128)
    images[:, :, 20:60, 80:100] = 1.0
    masks[:, 20:60, 80:100] = 1.0
    crop = crop_instances(images, masks, torch.tensor([[80.0, 20.0, 100.0, 60.0]]), size=48, room=1.2)[0]
    # 40 px high is the longer side: 48 px are shown, one to one.
    assert crop.shape == (4, 48, 48)
    expected = np.zeros((48, 48), bool)
    expected[4:44, 14:34] = True
    assert np.array_equal(crop[3].numpy() > 0.5, expected)
    assert np.array_equal(crop[0].numpy() > 0.5, expected)


def test_beyond_the_picture_a_crop_is_grey():
    crop = crop_instances(torch.ones(1, 3, 64, 64), torch.ones(1, 64, 64), torch.tensor([[0.0, 0.0, 64.0, 64.0]]))[0]
    assert crop[:, 0, 0].tolist() == [0.0] * 4
    assert crop[:, 48, 48].tolist() == [1.0] * 4


def test_the_hidden_background_is_grey_and_the_rest_stays():
    crops = torch.full((1, 4, 2, 2), 0.5)
    crops[0, 3] = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    hidden = hide_background(crops)[0]
    assert hidden[0].tolist() == [[0.5, 0.0], [0.5, 0.0]]
    assert torch.equal(hidden[3], crops[0, 3])
