"""Which setting a method competes with, and whether a results' folder agrees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import Field

from d2plan.bench.assemble import Tunings
from d2plan.bench.job import Chosen, Entry, make_entry
from d2plan.bench.protocol import Method
from d2plan.bench.records import TunedSetting
from d2plan.bench.store import METHOD, Store, read_plan, remove_tree, write_record
from d2plan.errors import D2PlanError, InputError
from d2plan.fields import Document


class EntryRecord(Document):
    """How a method competes in a folder.

    Attributes:
        code: digest of its code.
        setting: that it uses.
        chosen: how the setting was found.
        tuning: all that were tried.
    """

    code: str
    setting: dict[str, float]
    chosen: Chosen = "first"
    tuning: tuple[TunedSetting, ...] = Field(default=())


def read_entry(store: Store, name: str) -> EntryRecord | None:
    """Read how a method competes in a folder.

    Args:
        store: the folder.
        name: of the method.

    Returns:
        What is written there; None where it does not compete yet.

    Raises:
        FileError: the file cannot be read.
        InputError: the file is damaged.
    """
    path = store.method(name) / METHOD
    remedy = f"begin the method anew with --redo {name}"
    content = read_plan(path, remedy)
    if content is None:
        return None
    try:
        return EntryRecord.model_validate(content)
    except ValueError as error:
        raise InputError(f"{path}: is damaged; {remedy}.") from error


def enter(
    store: Store,
    name: str,
    method: Method,
    wanted: tuple[Mapping[str, float], Chosen] | None,
    tuning: tuple[TunedSetting, ...] = (),
) -> Entry:
    """Enter a method into a folder's competition.

    Args:
        store: the folder.
        name: of the method.
        method: the method.
        wanted: its setting and how it was found; None keeps the folder's, else takes the first.
        tuning: all settings that were tried.

    Returns:
        The entry.

    Raises:
        FileError: the folder cannot be read or written.
        InputError: what is there was made by other code, or with another setting.
    """
    found = read_entry(store, name)
    if wanted is None and found is not None:
        wanted = found.setting, found.chosen
    entry = make_entry(name, method, *(wanted or (None,)))
    refuse_changes(store, entry)
    tuning = tuning or (found.tuning if found is not None else ())
    record = EntryRecord(code=entry.code, setting=dict(entry.setting), chosen=entry.chosen, tuning=tuning)
    write_record(store.method(name) / METHOD, record)
    return entry


def refuse_changes(store: Store, entry: Entry, fields: Sequence[str] = ("code", "setting")) -> None:
    """Refuse to mix a method's results with those of other code or of another setting.

    Args:
        store: the folder.
        entry: the method as it would compete now.
        fields: what must be the same.

    Raises:
        FileError: the folder cannot be read.
        InputError: it is not.
    """
    found = read_entry(store, entry.name)
    now = {"code": entry.code, "setting": dict(entry.setting)}
    for field in fields if found is not None else ():
        if getattr(found, field) != now[field]:
            raise InputError(
                f"{store.method(entry.name)}: holds results of another version of {entry.name}: its {field} changed; "
                f"throw them away with --redo {entry.name}, or name another --out."
            )


def enter_others(
    store: Store, names: Sequence[str], open_one: Callable[[str], Method]
) -> tuple[list[Entry], dict[str, str]]:
    """Give the methods that are in a folder already and were not asked for now.

    Args:
        store: the folder.
        names: of these methods.
        open_one: gives a method by its name.

    Returns:
        The entries, and by name a sentence for each method whose results do not count any more.
    """
    entries, notes = [], {}
    for name in names:
        try:
            found = read_entry(store, name)
            if found is not None:
                entries.append(enter(store, name, open_one(name), None))
        except D2PlanError as error:
            notes[name] = f"{name} is left out: {error}"
    return entries, notes


def read_tunings(store: Store, entries: Sequence[Entry]) -> Tunings:
    """Read what was tried for each method."""
    found = {entry.name: read_entry(store, entry.name) for entry in entries}
    return {name: record.tuning for name, record in found.items() if record is not None}


def forget_failures(store: Store, name: str) -> None:
    """Forget what failed, so that it is tried again.

    Args:
        store: the folder.
        name: of the method.

    Raises:
        FileError: something cannot be removed.
    """
    tried = store.tuning(name, 0).root.parent
    for folder in (store.method(name), *tried.glob(f"*/methods/{name}")):
        remove_tree(folder / "failures")


def forget_method(store: Store, name: str) -> None:
    """Throw a method's results away, what it learnt included; states that others share stay.

    Args:
        store: the folder.
        name: of the method.

    Raises:
        FileError: something cannot be removed.
    """
    remove_tree(store.method(name))
    remove_tree(store.learned / name)
    remove_tree(store.tuning(name, 0).root.parent)
