"""What is checked before anybody looks: who may look, whether there is something to compare, and whether pictures open.

Whatever is wrong with the pictures is told here at once, not after minutes of work.
"""

from __future__ import annotations

import filecmp
import io
import shlex
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from PIL import Image

from d2plan.errors import FileError, InputError
from d2plan.eval.distribution import FEWEST, open_metrics
from d2plan.eval.encoders import JUDGE
from d2plan.eval.panel import Panel
from d2plan.media.decode import FORMATS, MAX_PIXELS, decode_picture, read_bytes
from d2plan.media.video import read_video
from d2plan.workflows.scoring.items import Known
from d2plan.workflows.scoring.score import Report, list_references
from d2plan.workflows.scoring.sources import Sources
from d2plan.world.cast import CLASSES

_REPORT_EVERY = 16


def check_independent(panel: Panel, chosen_by: Mapping[str, str]) -> None:
    """Refuse an encoder that chose a picture as the one with the best score of its own.

    Args:
        panel: who looks.
        chosen_by: encoders that chose pictures, each with one of them.

    Raises:
        InputError: one of them is in the panel.
    """
    looking = {JUDGE} if panel.judge is not None else set()
    looking |= {one.name for one in panel.pictures.values()}
    looking |= {
        f"clip:{Path(one.name.partition(':')[2]).name}" for one in panel.pictures.values() if one.kind == "clip"
    }
    for encoder, run in chosen_by.items():
        if encoder in looking:
            who = "the judge" if encoder == JUDGE else encoder
            raise InputError(
                f"{run}: {who} chose this picture among several, so it may not score it; leave the picture out, "
                "compose it without --candidates, or score with others."
            )


def check_measurable(panel: Panel, sources: Sources, has_real: bool) -> None:
    """Make sure that at least one number can come out.

    Args:
        panel: who looks.
        sources: the pictures, with what each was asked to show.
        has_real: there are pictures of the true kind.

    Raises:
        InputError: nobody looks, or those who look have nothing to compare the pictures with.
    """
    if not panel.sources:
        raise InputError(
            "nobody is left to measure anything: --clip, --dino, --detector and --face are all off or missing; name "
            "one of them."
        )
    items = [item for group in sources.sets.values() for item in group]
    wanted = [one for item in items for one in item.expected.instances]
    is_known = any(one.concept in sources.known for one in wanted)
    lengths = Counter(item.series for item in items if item.series is not None)
    has_others = is_known or has_real or any(length > 1 for length in lengths.values())
    possible = (
        panel.judge is not None,
        panel.clip is not None and (has_others or any(item.text for item in items)),
        panel.dino is not None and has_others,
        panel.faces is not None and is_known,
        panel.finder is not None and any(one.class_word for one in wanted),
    )
    if not any(possible):
        raise InputError(
            f"there is nothing that {', '.join(panel.sources)} could compare the pictures with; give --references, "
            "--real or --series, or for CLIP a --prompt."
        )


def check_distances(panel: Panel, sources: Sources, real: Path) -> None:
    """Make sure that sets can be compared with pictures of the true kind.

    Args:
        panel: who looks.
        sources: the pictures.
        real: folder of the true kind.

    Raises:
        InputError: no encoder looks, or there are too few pictures.
        MissingExtraError: torchmetrics is not installed.
    """
    if not panel.pictures:
        raise InputError(f"--real {real}: a distance of sets needs an encoder; name a --clip or a --dino.")
    counts = {f"--real {real}": len(list_references(real)), **{name: len(one) for name, one in sources.sets.items()}}
    for name, count in counts.items():
        if count < FEWEST:
            raise InputError(
                f"{name}: a distance of sets needs {FEWEST} pictures or more, and here is {count}; give more, or leave "
                "--real out."
            )
    open_metrics()


def check_readable(sources: Sources, real: Path | None, report: Report) -> None:
    """Make sure that all pictures can be read, those of references too.

    Args:
        sources: the pictures and the concepts.
        real: folder of pictures of the true kind.
        report: is told what is happening.

    Raises:
        FileError: some cannot; all of them are named.
    """
    folders = [*(known.folder for known in used_concepts(sources)), *([] if real is None else [real])]
    paths = [item.path for items in sources.sets.values() for item in items]
    paths = list(dict.fromkeys([*paths, *(path for folder in folders for path in list_references(folder))]))
    segments = [path for films in sources.films.values() for film in films for path in film.segments]
    paths += dict.fromkeys(segments)
    broken = []
    for number, path in enumerate(paths):
        if number % _REPORT_EVERY == 0:
            report("Opening pictures", number, len(paths))
        try:
            if path in segments:
                read_video(path)
            else:
                _open(path)
        except FileError as error:
            broken.append(str(error))
    report("Opening pictures", len(paths), len(paths))
    if broken:
        count = f"{len(broken)} of {len(paths)} pictures cannot be read. " if len(broken) > 1 else ""
        raise FileError(count + " ".join(broken))


def used_concepts(sources: Sources) -> list[Known]:
    """List the concepts with pictures of their own that some picture was asked to show."""
    used = {one.concept for items in sources.sets.values() for item in items for one in item.expected.instances}
    return [known for name, known in sources.known.items() if name in used]


def note_own_references(sources: Sources) -> tuple[str, ...]:
    """Tell where pictures are compared with themselves.

    Args:
        sources: the pictures and the concepts; all can be read.

    Returns:
        A sentence for each set and concept where some of the pictures are references of it.
    """
    notes = []
    for known in used_concepts(sources):
        by_size: dict[int, list[Path]] = defaultdict(list)
        for path in list_references(known.folder):
            by_size[path.stat().st_size].append(path)
        for title, items in sources.sets.items():
            shown = [item.path for item in items if any(one.concept == known.name for one in item.expected.instances)]
            same = sum(
                any(filecmp.cmp(path, other, shallow=False) for other in by_size.get(path.stat().st_size, ()))
                for path in shown
            )
            if same:
                notes.append(
                    f"{title}: {same} of {len(shown)} pictures of {known.name} are its references themselves (the same "
                    "bytes), so identity and image alignment are high by construction and say nothing"
                )
    return tuple(notes)


def note_missing_references(sources: Sources) -> tuple[str, ...]:
    """Tell whose own pictures are not there.

    Args:
        sources: the pictures and the concepts.

    Returns:
        A sentence where some picture was asked to show a concept without pictures of its own.
    """
    wanted = [one.concept for items in sources.sets.values() for item in items for one in item.expected.instances]
    names = list(dict.fromkeys(name for name in wanted if name and name not in sources.known))
    if not names:
        return ()
    options = shlex.join(word for name in names for word in ("-r", f"{name}=FOLDER"))
    return (
        f"identity and visual_confusion are not measured of {', '.join(names)}: they are compared with a concept's own "
        f"pictures, and none are given; give them with {options}",
    )


def note_foreign_classes(panel: Panel, sources: Sources) -> tuple[str, ...]:
    """Tell of which classes the judge knows nothing.

    Args:
        panel: who looks.
        sources: the pictures and the concepts.

    Returns:
        A sentence for each class that a picture or concept has; none where the judge finds nothing for this panel.
    """
    if panel.judge is None or panel.finder is not None:
        return ()
    words = {one.class_word for items in sources.sets.values() for item in items for one in item.expected.instances}
    words |= {known.class_word or "" for known in sources.known.values()}
    notes = []
    for word in sorted(word for word in words if word and word not in CLASSES):
        near = get_close_matches(word.lower(), CLASSES, 1)
        hint = f'did you mean "{near[0]}"? Else' if near else f"it knows {', '.join(CLASSES)}; for others"
        notes.append(
            f"the judge does not know what a {word} is, so no {word} is looked for; {hint} name another --detector"
        )
    return tuple(notes)


def _open(path: Path) -> None:
    """Read a picture whole but do not keep it; a JPEG at an eighth of its size, which is several times faster."""
    content = read_bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                if picture.width * picture.height <= MAX_PIXELS:
                    picture.draft("RGB", (1, 1))
                    picture.load()
                    return
    # Damaged bytes come out of Pillow's parsers as a dozen kinds of error.
    except Exception:
        pass
    # Only the decoder itself decides what cannot be read, and says why.
    decode_picture(path)
