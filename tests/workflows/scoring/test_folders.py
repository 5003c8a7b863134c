import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from d2plan.errors import FileError, InputError
from d2plan.eval.encoders import open_encoder
from d2plan.eval.statistics import estimate_cells
from d2plan.media.images import read_image, write_png
from d2plan.workflows.scoring.folders import score_folders
from d2plan.workflows.scoring.report import check_scores, compare_sets, list_rows, summarise_set, write_scores
from d2plan.workflows.scoring.sources import ScoreRequest, find_sources
from d2plan.world.cast import identity_from_seed
from d2plan.world.folders import write_concept
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render
from tests.eval.tiny_encoders import write_tiny_clip, write_tiny_dino
from tests.workflows.scoring.test_score import write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tiny encoders, a dog's references, and two methods' pictures: one draws this dog, the other another dog."""
    root = tmp_path_factory.mktemp("score")
    write_tiny_clip(root / "clip")
    write_tiny_dino(root / "vit")
    write_concept(root / "rex", "dog", 7, count=4)
    for name, seed in (("mine", 7), ("theirs", 9)):
        (root / name).mkdir()
        rng = stream_rng("heldout", 960, 0)
        for number in range(4):
            image = render(sample_scene(rng, [identity_from_seed("dog", seed)])).image
            write_png(root / name / f"{number}.png", image)
            (root / name / f"{number}.txt").write_text(f"a photo of a <v1> dog {'running' if number % 2 else ''}")
    return root


def ask(place, *paths, **others):
    return ScoreRequest(
        **{
            "paths": tuple(place / path for path in paths),
            "clip": f"clip:{place / 'clip'}",
            "dino": f"dino:{place / 'vit'}",
            "detector": "none",
            "lineups": False,
            "references": {"rex": place / "rex"},
            **others,
        }
    )


def test_the_means_are_those_of_the_embeddings(place):
    scored = score_folders(ask(place, "mine"))
    clip, dino = open_encoder(f"clip:{place / 'clip'}"), open_encoder(f"dino:{place / 'vit'}")
    images = [read_image(place / "mine" / f"{number}.png") for number in range(4)]
    references = [read_image(place / "rex" / name) for name in sorted(p.name for p in (place / "rex").glob("*.png"))
                  if ".mask" not in name]  # fmt: skip
    summary = summarise_set(scored.sets[0])
    for encoder, name in ((clip, "image"), (dino, "dino")):
        pairs = encoder.embed_images(images) @ encoder.embed_images(references).T
        assert summary[name].mean == pytest.approx(pairs.mean(), abs=1e-5)
    texts = clip.embed_texts(["a photo of a dog", "a photo of a dog running"] * 2)
    cosines = (clip.embed_images(images) * texts).sum(1)
    assert summary["text"].mean == pytest.approx(cosines.mean(), abs=1e-5)
    assert summary["text_scaled"].mean == pytest.approx((2.5 * np.maximum(cosines, 0)).mean(), abs=1e-5)
    assert summary["text"].count == 4


def test_every_number_stands_beside_the_encoder_that_made_it(place):
    scored = score_folders(ask(place, "mine"))
    assert set(scored.encoders) == {"clip", "dino"}
    assert scored.encoders["clip"].startswith(str(place / "clip"))
    assert not any("embedded" in note for note in scored.notes)


def test_a_difference_is_paired_picture_by_picture(place):
    scored = score_folders(ask(place, "mine", against=(place / "theirs",)))
    first, second = scored.sets
    found = compare_sets(first, second)
    rows = [{row[0]: row for row in list_rows(one, "dino")} for one in (first, second)]
    cells = {"rex": {}}
    for key, row in rows[0].items():
        cells["rex"].setdefault(row[2], []).append(row[3] - rows[1][key][3])
    assert found["dino"] == estimate_cells(cells)
    assert found["dino"].mean == pytest.approx(summarise_set(first)["dino"].mean - summarise_set(second)["dino"].mean)


def test_unequal_numbers_of_pictures_are_told_and_nothing_is_lost(place, tmp_path):
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for number in (0, 1, 2):
        for ending in ("png", "txt"):
            (fewer / f"{number}.{ending}").write_bytes((place / "theirs" / f"{number}.{ending}").read_bytes())
    scored = score_folders(ask(place, "mine", against=(fewer,)))
    assert "mine has 4 pictures and fewer has 3; differences are over the 3 whose names are in both" in scored.notes
    assert summarise_set(scored.sets[0])["image"].count == 4
    assert compare_sets(*scored.sets)["image"].count == 3


@pytest.fixture(scope="module")
def judged(place):
    return score_folders(ask(place, "mine", against=(place / "theirs",), detector="judge"))


def test_the_judge_tells_the_right_dog_from_another(judged):
    first, second = (summarise_set(one) for one in judged.sets)
    assert first["identity"].mean > second["identity"].mean + 0.2
    assert compare_sets(*judged.sets)["identity"].low > 0
    assert {"image_instance", "dino_instance", "present"} <= set(first)


def test_pictures_without_a_detectable_instance_are_counted_and_kept(place, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "0.png").write_bytes((place / "mine" / "0.png").read_bytes())
    write_png(folder / "1.png", np.full((128, 128, 3), 120, np.uint8))
    scored = score_folders(ask(place, "mine", paths=(folder,), detector="judge", prompts="a photo of a dog"))
    told = [note for note in scored.notes if "no instance of rex is found in 1 of 2 pictures" in note]
    assert len(told) == 1
    summary = summarise_set(scored.sets[0])
    assert (summary["identity"].count, summary["identity_found"].count) == (2, 1)
    assert summary["image"].count == 2


def test_a_class_that_the_judge_does_not_know_is_told_not_counted_as_absent(place):
    request = ask(place, "mine", detector="judge", references={"smaug:dragon": place / "rex"}, prompts="smaug flies")
    scored = score_folders(request)
    assert any("does not know what a dragon is" in note for note in scored.notes)
    summary = summarise_set(scored.sets[0])
    assert "present" not in summary and "image" in summary


def test_a_reference_that_no_prompt_names_is_told(place):
    scored = score_folders(ask(place, "mine", references={"tom:man": place / "rex"}))
    assert "tom: no prompt names it or its class, so no picture is compared with it" in scored.notes


def test_a_folder_is_a_series_when_that_is_said(place):
    assert "consistency_all" not in summarise_set(score_folders(ask(place, "mine")).sets[0])
    summary = summarise_set(score_folders(ask(place, "mine", "theirs", series=True)).sets[0])
    assert summary["consistency_all"].count == 2
    assert {"consistency_adjacent", "scene_kept", "scene_kept_adjacent"} <= set(summary)


def test_what_nobody_asked_for_is_not_counted_and_a_series_of_one_says_so(place, tmp_path):
    shutil.copy(place / "mine" / "0.png", tmp_path / "0.png")
    (tmp_path / "0.txt").write_text("the beach at night")
    scored = score_folders(ask(place, paths=(tmp_path,), series=True, detector=None))
    assert "count" in summarise_set(score_folders(ask(place, "mine", detector=None)).sets[0])
    assert "count" not in summarise_set(scored.sets[0])
    assert any(note.endswith("a series of one picture has no consistency") for note in scored.notes)


def test_true_pictures_give_distances_of_sets(place):
    scored = score_folders(ask(place, "mine", real=place / "rex"))
    distances = scored.sets[0].distances
    assert set(distances) == {"clip", "dino"}
    assert distances["dino"].fid > 0 and distances["dino"].true_count == 4
    assert any("too large by far" in note for note in scored.notes)


def test_missing_folders_are_told_before_anybody_looks(place, tmp_path):
    for wrong in ({"references": {"rex": tmp_path}}, {"real": tmp_path / "gone"}):
        with pytest.raises(FileError, match="is no folder with PNG, JPEG or WebP pictures"):
            find_sources(ask(place, "mine", **wrong))
    with pytest.raises(FileError, match="holds no run .* and no PNG"):
        find_sources(ask(place, "mine", paths=(tmp_path,)))


def test_runs_bring_their_own_prompts_and_concepts(place, tmp_path):
    for number in range(2):
        write_run(tmp_path / f"run-{number}", identity_from_seed("dog", 7), number)
    request = ask(place, "mine", paths=(tmp_path,), detector="judge")
    scored = score_folders(request)
    assert [item.name for item in scored.sets[0].items] == ["run-0", "run-1"]
    assert all(item.phrases[0].startswith("a photo of a dog") for item in scored.sets[0].items)
    assert {"text_instance", "identity", "attributes"} <= set(summarise_set(scored.sets[0]))
    with pytest.raises(InputError, match="runs know their own"):
        find_sources(replace(request, prompts="a dog"))
    with pytest.raises(InputError, match='"rxe" is no concept here'):
        find_sources(replace(request, references={"rxe": place / "rex"}))
    with pytest.raises(InputError, match='"rex:dragon", but in these runs rex is a dog; .* write rex=FOLDER'):
        find_sources(replace(request, references={"rex:dragon": place / "rex"}))
    assert find_sources(replace(request, references={"rex:dog": place / "rex"})).known["rex"].class_word == "dog"
    with pytest.raises(InputError, match="--base other"):
        find_sources(replace(request, base="other"))


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("clip", "dino:{}/vit", "cannot read texts"),
        ("clip", "clip:{}/vit", "this name needs clip"),
        ("clip", "clip:{}/gone", "is not a folder"),
        ("dino", "clip:{}/clip", "--dino clip:.*is a clip encoder"),
        ("face", "mini-vit", "finds no faces"),
        ("detector", "nobody", "detector"),
    ],
)
def test_a_missing_or_foreign_encoder_is_one_sentence(place, option, value, told):
    with pytest.raises((InputError, FileError), match=told):
        score_folders(ask(place, "mine", **{option: value.format(place)}))


def test_scores_are_written_with_all_that_they_rest_on(judged, place, tmp_path):
    request = ask(place, "mine", against=(place / "theirs",), detector="judge")
    write_scores(tmp_path / "scores.json", request, judged)
    content = json.loads((tmp_path / "scores.json").read_text())
    assert [one["title"] for one in content["sets"]] == ["mine", "theirs"]
    assert content["encoders"] == dict(judged.encoders)
    picture = content["sets"][0]["pictures"][0]
    assert picture["instances"][0]["concept"] == "rex"
    assert picture["values"]["text"] == judged.sets[0].measured[0].values["text"]
    assert content["differences"]["dino"]["mean"] == compare_sets(*judged.sets)["dino"].mean


def test_the_same_question_may_replace_its_scores_and_another_may_not(judged, place, tmp_path):
    request = ask(place, "mine", against=(place / "theirs",), detector="judge")
    out = tmp_path / "scores.json"
    check_scores(out, request)
    write_scores(out, request, judged)
    check_scores(out, request)
    check_scores(out, replace(request, seed=1), overwrite=True)
    for other in (replace(request, seed=1), replace(request, against=())):
        with pytest.raises(FileError, match="--overwrite"):
            check_scores(out, other)
    out.write_text("mine")
    with pytest.raises(FileError, match="--overwrite"):
        check_scores(out, request)
    with pytest.raises(FileError, match="does not exist"):
        check_scores(tmp_path / "gone" / "scores.json", request)
