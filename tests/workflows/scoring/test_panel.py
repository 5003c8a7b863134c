from d2plan.workflows.scoring.panel import open_panel


def test_only_what_an_embedded_one_does_is_to_be_named_for_other_pictures():
    panel, (note,) = open_panel(clip="none", detector="none")
    assert set(panel.sources) == {"dino"}
    assert "mini-vit, which know nothing" in note and note.endswith("for other pictures name --dino")
