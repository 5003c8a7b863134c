"""What an adapter file's header says in words: for other programs, for people, and for d2plan itself."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from d2plan.adapter.adapter import Adapter, Delta, find_widest
from d2plan.adapter.names import COMPONENTS, Naming
from d2plan.adapter.sdxl import is_sdxl
from d2plan.errors import AdapterError

PEFT_WORDS = "lora_adapter_metadata"
ARCHITECTURE = "stable-diffusion-xl-v1-base/lora"
# Ours -> the name that sd-scripts gives the same thing; what a training did not note is left out.
_SD_SCRIPTS = {
    "steps": "ss_steps",
    "unet_rate": "ss_unet_lr",
    "text_rate": "ss_text_encoder_lr",
    "batch_size": "ss_total_batch_size",
    "seed": "ss_seed",
    "pictures": "ss_num_train_images",
    "base": "ss_sd_model_name",
    "resolution": "ss_resolution",
}
_LOSSES = ("token_weight", "attention_weight", "token_reduction", "prior_weight", "plain_weight", "masked")


def write_words(adapter: Adapter, naming: Naming, payload: memoryview) -> dict[str, str]:
    """Say in the header what the common programs look for.

    Args:
        adapter: what the file holds.
        naming: of its tensors; diffusers and PEFT keep the alphas here.
        payload: the tensors' bytes as they stand in the file, for the hashes.

    Returns:
        Name to text. What another program wrote is kept, but for what would no longer be true.
    """
    words = {**describe(adapter), **adapter.header}
    words = {name: text for name, text in words.items() if name not in _TECHNICAL and not name.startswith("d2plan.")}
    widest = find_widest(adapter.deltas)
    digest = hashlib.sha256(payload).hexdigest()
    words |= {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(widest.down.shape[0]),
        "ss_network_alpha": str(widest.alpha),
        "ss_network_args": "{}",
        "sshs_model_hash": digest,
        "modelspec.hash_sha256": f"0x{digest}",
        **_own_words(adapter),
    }
    if naming in ("diffusers", "peft"):
        words[PEFT_WORDS] = json.dumps(_write_peft(adapter.deltas), sort_keys=True)
    return words


def describe(adapter: Adapter) -> dict[str, str]:
    """Write the words by which people and programs know a concept, in the names of sd-scripts and ModelSpec.

    Args:
        adapter: what the file holds.

    Returns:
        Name to text.
    """
    settings, trigger = adapter.settings, adapter.trigger_phrase
    words = {
        "ss_v2": "False",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_output_name": adapter.name,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": ARCHITECTURE,
        "modelspec.implementation": "https://github.com/huggingface/diffusers",
        "modelspec.title": adapter.name,
    }
    words |= {theirs: settings[ours] for ours, theirs in _SD_SCRIPTS.items() if ours in settings}
    resolution = settings.get("resolution") or ("1024x1024" if is_sdxl(adapter.deltas) else "")
    if resolution:
        words["modelspec.resolution"] = resolution
    if trigger:
        count = settings.get("pictures", "")
        words["modelspec.trigger_phrase"] = trigger
        words["modelspec.usage_hint"] = f"Write {trigger} where the concept shall stand."
        words["ss_tag_frequency"] = json.dumps({adapter.name: {trigger: int(count) if count.isdecimal() else 1}})
    if "prediction_type" in settings:
        words["modelspec.prediction_type"] = settings["prediction_type"].removesuffix("_prediction")
    return words


def keep_foreign(adapter: Adapter, words: Mapping[str, str]) -> dict[str, str]:
    """Find what a header says beyond what ``write_words`` would say anyway.

    Args:
        adapter: as read, with an empty ``header``.
        words: the file's.

    Returns:
        What only this file knows, to be kept.
    """
    own = describe(adapter)
    return {
        name: text
        for name, text in words.items()
        if own.get(name) != text and name not in _TECHNICAL and not name.startswith("d2plan.")
    }


def read_settings(source: Path, text: str) -> dict[str, str]:
    """Read ``d2plan.settings``.

    Args:
        source: the file, for the message.
        text: a JSON table.

    Returns:
        Setting to value.

    Raises:
        AdapterError: it is no table.
    """
    content = _read_table(source, text, "d2plan.settings")
    return {name: str(value) for name, value in content.items()}


def read_alphas(source: Path, words: Mapping[str, str], ranks: Mapping[str, int]) -> dict[str, float]:
    """Read the alphas that diffusers and PEFT keep in the header, or in ``adapter_config.json`` beside the file.

    Args:
        source: the file.
        words: its header's.
        ranks: layer to rank.

    Returns:
        Layer to alpha; empty when nothing is said, which means that alpha is the rank.

    Raises:
        AdapterError: what is said cannot be used, or is no plain LoRA.
    """
    if PEFT_WORDS in words:
        tables = _split_components(_read_table(source, words[PEFT_WORDS], PEFT_WORDS))
    else:
        beside = source.with_name("adapter_config.json")
        if not (beside.is_file() and source.stem == "adapter_model" and beside.stat().st_size < 2**20):
            return {}
        table = _read_table(source, beside.read_text(encoding="utf-8", errors="replace"), beside.name)
        tables = dict.fromkeys(COMPONENTS, table)
    tables = {component: _simplify(table) for component, table in tables.items()}
    alphas = {}
    for path, rank in ranks.items():
        component, _, rest = path.partition(".")
        if component in tables:
            alphas[path] = _read_alpha(source, tables[component], rest, rank)
    return alphas


_TECHNICAL = frozenset(
    {
        PEFT_WORDS,
        "format",
        "ss_network_module",
        "ss_network_dim",
        "ss_network_alpha",
        "ss_network_args",
        "sshs_model_hash",
        "sshs_legacy_hash",
        "modelspec.hash_sha256",
    }
)


def _own_words(adapter: Adapter) -> dict[str, str]:
    words = {
        "d2plan.name": adapter.name,
        "d2plan.class_word": adapter.class_word,
        "d2plan.identifier": adapter.identifier,
        "d2plan.base_fingerprint": adapter.base_fingerprint,
        "d2plan.layers": str(len(adapter.deltas)),
    }
    losses = {name: adapter.settings[name] for name in _LOSSES if name in adapter.settings}
    tables = {"d2plan.losses": losses, "d2plan.settings": dict(adapter.settings)}
    words |= {name: json.dumps(table, sort_keys=True) for name, table in tables.items() if table}
    return {name: text for name, text in words.items() if text}


def _write_peft(deltas: Mapping[str, Delta]) -> dict[str, object]:
    table: dict[str, object] = {}
    for component in COMPONENTS:
        own = {_tail(path): delta for path, delta in sorted(deltas.items()) if path.startswith(f"{component}.")}
        if not own:
            continue
        rank = _commonest(delta.down.shape[0] for delta in own.values())
        alpha = _commonest(delta.alpha for delta in own.values())
        content = {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": list(own),
            "rank_pattern": {tail: d.down.shape[0] for tail, d in own.items() if d.down.shape[0] != rank},
            "alpha_pattern": {tail: d.alpha for tail, d in own.items() if d.alpha != alpha},
        }
        table |= {f"{component}.{name}": value for name, value in content.items()}
    return table


def _tail(path: str) -> str:
    # PEFT compares the ends of paths, and so finds it in encoders with and without a text_model level.
    return path.partition(".")[2].removeprefix("text_model.")


def _commonest(values: Iterable[float]) -> float:
    return Counter(values).most_common(1)[0][0]


def _split_components(table: Mapping[str, object]) -> dict[str, dict[str, object]]:
    split: dict[str, dict[str, object]] = {}
    for name, value in table.items():
        component, _, rest = name.partition(".")
        if component in COMPONENTS:
            split.setdefault(component, {})[rest] = value
    # diffusers writes one component's file without a prefix.
    return split or {"unet": dict(table)}


def _simplify(table: Mapping[str, object]) -> dict[str, object]:
    # PEFT takes these names for patterns. Compared as plain texts they mean the same, and none can take for ever.
    marks = re.compile(r"[\\^$]")
    return {
        name: {marks.sub("", key): item for key, item in value.items()} if isinstance(value, dict) else value
        for name, value in table.items()
    }


def _read_alpha(source: Path, table: Mapping[str, object], path: str, rank: int) -> float:
    for name in ("use_dora", "lora_bias"):
        if table.get(name):
            raise AdapterError(f"{source} is no plain LoRA: its settings say {name}; get a plain LoRA of it.")
    told = _look_up(table.get("rank_pattern"), path, table.get("r", rank))
    if told != rank:
        raise AdapterError(
            f"{source}: its settings say that {path} has rank {str(told)[:20]}, and its tensors have {rank}; "
            "get the file anew."
        )
    value = _look_up(table.get("alpha_pattern"), path, table.get("lora_alpha", rank))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AdapterError(f"{source}: lora_alpha of {path} is {str(value)[:40]!r}, no number; get the file anew.")
    return float(value) * (math.sqrt(rank) if table.get("use_rslora") else 1)


def _look_up(pattern: object, path: str, otherwise: object) -> object:
    """Find a layer in PEFT's table of exceptions by the ends of its path."""
    if isinstance(pattern, dict) and pattern:
        parts = path.split(".")
        for start in range(len(parts)):
            if (tail := ".".join(parts[start:])) in pattern:
                return pattern[tail]
    return otherwise


def _read_table(source: Path, text: str, name: str) -> dict[str, object]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{source}: {name} is not readable ({error}); get the file anew.") from error
    if not isinstance(content, dict):
        raise AdapterError(f"{source}: {name} is no table; get the file anew.")
    return content
