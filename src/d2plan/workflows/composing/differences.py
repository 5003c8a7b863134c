"""What two records of runs differ in, in words."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from types import MappingProxyType

from d2plan.documents import AdapterUse, FileUse, RunRecord, Scene, split_detector

_DIGITS = 12
_NAMING_FILES = MappingProxyType(
    {"instances": ("concept", "mask"), "style": ("adapter",), "controls": ("model", "image")}
)


def compare_requests(was: RunRecord, now: RunRecord) -> tuple[str, ...]:
    """Name what two records ask for differently; where files lie does not count, what they hold does.

    Args:
        was: of a picture that is there.
        now: of one to make.

    Returns:
        One clause a difference, such as "seed was 3 and is 4"; none when both ask for the same picture.
    """
    found = _compare(_flatten(was.scene), _flatten(now.scene))
    bases = {"the base's weights": (was.base_fingerprint, now.base_fingerprint)}
    # The VAE's is of its numbers as they were open; those of another number format are others.
    if was.vae_fingerprint and was.machine.get("dtype") == now.machine.get("dtype"):
        bases["the base's VAE"] = (was.vae_fingerprint, now.vae_fingerprint)
    found += [f"{name} were {old} and are {new}" for name, (old, new) in bases.items() if old != new]
    found += _compare_adapters("instances[{}].concept", was.adapters, now.adapters)
    found += _compare_adapters("style[{}].adapter", was.styles, now.styles)
    found += _compare_adapters("variant_of[{}].concept", was.kept, now.kept)
    found += _compare_files(was.files, now.files)
    found += _compare(_name_detectors(was), _name_detectors(now))
    if was.settings:
        found += _compare(was.settings, now.settings)
    return tuple(found)


def compare_formats(was: RunRecord, now: RunRecord) -> tuple[str, ...]:
    """Name the number format and the device where they differ: pictures of one series share noise and parts.

    Args:
        was: of a picture that is there.
        now: of one to make.

    Returns:
        One clause a difference.
    """
    told = ("dtype", "device")
    return tuple(_compare(*({name: one.machine.get(name) for name in told} for one in (was, now))))


def compare_machines(was: RunRecord, now: RunRecord) -> tuple[str, ...]:
    """Name what two records were computed with differently: versions, devices, batches.

    Args:
        was: of a picture that is there.
        now: of one that was made again.

    Returns:
        One clause a difference.
    """
    found = _compare(was.versions, now.versions)
    found += _compare(was.machine, now.machine) if was.machine else []
    if was.together != now.together:
        found.append(f"it was composed in one batch of {was.together} scenes, and now in one of {now.together}")
    return tuple(found)


def _flatten(scene: Scene) -> dict[str, object]:
    """Give a scene's fields by their full names, without those that name files."""
    content = scene.model_dump()
    flat: dict[str, object] = {name: value for name, value in content.items() if not isinstance(value, tuple)}
    # Records that are older than the field were made without.
    flat["weave"] = flat["weave"] or "none"
    # What is allowed decides nothing of a picture; the adapters and the base do.
    for name in ("base", "detector", "other_base"):
        flat.pop(name, None)
    for field, left_out in (
        ("instances", ("concept", "mask")),
        ("variant_of", ("concept", "mask")),
        ("style", ("adapter",)),
        ("controls", ("model", "image")),
    ):
        for place, item in enumerate(content[field]):
            flat |= {f"{field}[{place}].{name}": value for name, value in item.items() if name not in left_out}
    return flat


def _name_detectors(record: RunRecord) -> dict[str, str]:
    """Give words and names of detectors; of folders the content is compared."""
    hashed = {use.field for use in record.files if use.sha256}
    return {field: name for field, name in split_detector(record.scene).items() if field not in hashed}


def _compare(was: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    names = dict.fromkeys((*was, *now))
    return [f"{name} was {was.get(name)} and is {now.get(name)}" for name in names if was.get(name) != now.get(name)]


def _compare_adapters(field: str, was: Sequence[AdapterUse], now: Sequence[AdapterUse]) -> list[str]:
    found = []
    for place, (old, new) in enumerate(zip_longest(was, now)):
        if old is not None and new is not None and old.sha256 != new.sha256:
            digests = f"{old.sha256[:_DIGITS]} and is {new.sha256[:_DIGITS]}"
            found.append(f"{field.format(place)} ({new.name}) has another content: SHA-256 was {digests}")
    return found


def _compare_files(was: Sequence[FileUse], now: Sequence[FileUse]) -> list[str]:
    old, new = ({use.field: use for use in uses} for uses in (was, now))
    return [
        f"{field} ({new[field].path}) has another content: SHA-256 was {old[field].sha256[:_DIGITS] or 'unknown'} "
        f"and is {new[field].sha256[:_DIGITS] or 'unknown'}"
        for field in old.keys() & new.keys()
        if old[field].sha256 != new[field].sha256
    ]
