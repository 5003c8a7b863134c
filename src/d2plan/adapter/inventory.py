"""What a file's tensors are, told by their names and shapes alone, and whether d2plan can use them."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from d2plan.adapter.header import Header
from d2plan.adapter.names import Half, read_key, read_stem
from d2plan.errors import AdapterError

# Kind -> the ending that tells it. None of these is a sum of one low-rank product, so none can be added row by row.
_KINDS = (
    ("DoRA", re.compile(r"\.(?:dora_scale|lora_magnitude_vector)(?:\..+)?$")),
    ("LoHa", re.compile(r"\.hada_(?:w[12]_[ab]|t[12])(?:\..+)?$")),
    ("LoKr", re.compile(r"\.lokr_(?:w[12](?:_[ab])?|t2)(?:\..+)?$")),
    ("OFT", re.compile(r"\.oft_(?:blocks|diag|R)(?:\..+)?$")),
    ("GLoRA", re.compile(r"\.[ab][12]\.weight$")),
    ("IA3", re.compile(r"\.on_input$")),
    ("full-weight difference", re.compile(r"\.(?:diff|diff_b|set_weight)$|\.(?:w|b)_norm$")),
    ("bias update", re.compile(r"\.lora_(?:B|up|A|down)(?:\.[^.]+)?\.bias$|\.lora(?:_linear_layer)?\.up\.bias$")),
)
_TUCKER = re.compile(r"\.lora_mid\.weight$")
_EMBEDDING = re.compile(r"^(?:bundle_emb\..+|emb_params|clip_[lg]|string_to_param\..+)$")
_BESIDE = re.compile(
    r"(?:lora_unet_|unet_|lora_te[12]_|text_encoder_(?:2_)?|clip_[lg]_)?"
    r"(?:(?:down|up)_blocks_[0-9]+_(?:resnets|downsamplers|upsamplers)_.+|mid_block_resnets_.+|middle_block_[02]_.+"
    r"|(?:input|output)_blocks_[0-9]+_(?:[02]|1_conv).*|conv_(?:in|out)|(?:time|add)_embedding_.+|time_embed_.+"
    r"|label_emb_.+|out_[02]|(?:text_model_)?(?:text_projection|embeddings_.+))"
)
_ENDING = re.compile(
    r"(?:_lora|\.lora(?:_linear_layer)?)?\.(?:lora_)?(?:down|up|alpha|A|B)(?:\.[A-Za-z0-9_-]+)?(?:\.weight)?$"
)
_WHOLE_MODELS = re.compile(r"^(?:model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\.")
_ARCHITECTURES = (
    ("Flux", re.compile(r"double_blocks|single_blocks|single_transformer_blocks")),
    ("Stable Diffusion 3", re.compile(r"joint_blocks|transformer\.transformer_blocks|attn\.add_q_proj|context_block")),
    ("Stable Diffusion 1 or 2", re.compile(r"^lora_te_")),
    ("a transformer model", re.compile(r"^(?:transformer|diffusion_model|lora_transformer)[._]")),
)
_KOHYA = {"sgm": "sgm", "diffusers": "kohya", "": ""}
_WIDTHS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2"}
_FOUR_BLOCKS = re.compile(r"unet\.(?:down_blocks\.0|up_blocks\.3)\.")
# diffusers renames what PEFT gives it in attention layers alone, so a file that it wrote of other layers too has both.
_STOCK_MIXTURE = frozenset({"diffusers", "peft"})
WHOLE = "An SDXL LoRA of all attention layers has 560 in the U-Net (1120 tensors)"


@dataclass(frozen=True)
class Inventory:
    """The tensors of a file, sorted.

    Attributes:
        total: how many there are.
        layers: path of a layer to its tensors' names.
        namings: how many tensors follow each naming: "kohya", "sgm", "diffusers", "peft".
        kinds: other kinds of update, such as "LoHa", to names of layers.
        convolutions: names of layers outside of attention blocks, which only LoCon and the like train.
        embeddings: names of learnt words that lie in the file.
        strange: names that mean nothing here.
        doubles: names that mean a tensor which another name means too.
    """

    total: int
    layers: Mapping[str, Mapping[Half, str]]
    namings: Mapping[str, int]
    kinds: Mapping[str, tuple[str, ...]]
    convolutions: tuple[str, ...]
    embeddings: tuple[str, ...]
    strange: tuple[str, ...]
    doubles: tuple[str, ...]

    @property
    def naming(self) -> str:
        """The naming of most tensors; empty when none is known."""
        return max(self.namings, key=lambda name: self.namings[name], default="")


def take_inventory(header: Header) -> Inventory:
    """Sort a file's tensors by their names and shapes; nothing is refused here.

    Args:
        header: the file's.

    Returns:
        What it holds.
    """
    layers: dict[str, dict[Half, str]] = {}
    kinds: dict[str, dict[str, None]] = {}
    convolutions: dict[str, None] = {}
    embeddings, strange, doubles = [], [], []
    namings: Counter[str] = Counter()
    for name, entry in header.entries.items():
        key = read_key(name)
        kind = _find_kind(name)
        if kind is not None:
            kinds.setdefault(kind[0], {})[kind[1]] = None
        elif key is not None and (key.half == "alpha" or len(entry.shape) <= 3):
            if key.half != "alpha":
                namings[_KOHYA[key.blocks] if key.naming == "kohya" else key.naming] += 1
            if layers.setdefault(key.path, {}).setdefault(key.half, name) != name:
                doubles.append(name)
        elif _EMBEDDING.match(name):
            embeddings.append(name)
        elif key is not None or _is_beside(name):
            convolutions[_ENDING.sub("", _TUCKER.sub("", name))] = None
        else:
            strange.append(name)
    _drop_lonely_alphas(layers, kinds)
    return Inventory(
        len(header.entries),
        layers,
        _settle_text(namings),
        {kind: tuple(names) for kind, names in kinds.items()},
        tuple(convolutions),
        tuple(embeddings),
        tuple(strange),
        tuple(doubles),
    )


def check_inventory(source: Path, header: Header, held: Inventory) -> None:
    """Refuse a file that cannot be used whole.

    Args:
        source: the file, for the message.
        header: the file's.
        held: its tensors, sorted.

    Raises:
        AdapterError: with counts: another kind of update, another architecture, names that mean nothing, mixed
            namings, layers with half of their tensors.
    """
    _check_architecture(source, header, held)
    _check_kinds(source, held)
    if not held.total:
        raise AdapterError(f"{source} is no SDXL LoRA: it holds no tensors; copy it anew, or train it again.")
    if held.strange or not held.layers:
        raise AdapterError(
            f"{source} is no SDXL LoRA: {_count_strange(held)}. {WHOLE}; get the file for SDXL, or train the concept."
        )
    if held.doubles:
        raise AdapterError(
            f"{source} names {len(held.doubles)} of its {held.total} tensors twice in different ways, such as "
            f"{held.doubles[0][:80]!r}; get a file in one naming."
        )
    if len(held.namings) > 1 and not held.namings.keys() <= _STOCK_MIXTURE:
        counts = ", ".join(f"{count} tensors in {name} naming" for name, count in sorted(held.namings.items()))
        raise AdapterError(f"{source} mixes namings: {counts}; write it again in one of them, as the trainer does.")
    broken = [path for path, halves in held.layers.items() if not {"down", "up"} <= halves.keys()]
    if broken:
        raise AdapterError(
            f"{source} is incomplete: {len(broken)} of {len(held.layers)} layers lack one of their two tensors, "
            f"such as {broken[0]}; copy it anew, or train it again."
        )
    _check_count(source, header, held)


def _check_kinds(source: Path, held: Inventory) -> None:
    layers = len(held.layers)
    if held.kinds:
        kind = max(held.kinds, key=lambda name: len(held.kinds[name]))
        others = {name for names in held.kinds.values() for name in names}
        places = {place[0] if (place := read_stem(name)) else name for name in others}
        total = len(places | held.layers.keys()) + len(held.convolutions)
        raise AdapterError(
            f"{source} is no plain LoRA: {len(held.kinds[kind])} of {total} layers are {kind} "
            f"(such as {held.kinds[kind][0][:80]}), which cannot be added row by row; get a plain LoRA of it."
        )
    if held.convolutions:
        raise AdapterError(
            f"{source} is a LoCon: {len(held.convolutions)} of {layers + len(held.convolutions)} layers are "
            f"convolutions or embeddings (such as {held.convolutions[0][:80]}), which d2plan does not use; "
            f"`d2plan adapter convert {source} --to kohya --linear-only` makes a file of the others."
        )
    if held.embeddings:
        raise AdapterError(
            f"{source} holds {len(held.embeddings)} learnt words (such as {held.embeddings[0][:80]}) beside {layers} "
            "layers, which d2plan does not use; "
            f"`d2plan adapter convert {source} --to kohya --linear-only` makes a file without them."
        )


def _check_architecture(source: Path, header: Header, held: Inventory) -> None:
    whole = sum(bool(_WHOLE_MODELS.match(name)) for name in held.strange)
    if whole:
        raise AdapterError(
            f"{source} is a whole model ({whole} of {held.total} tensors), no adapter; use it as a base."
        )
    for name, pattern in _ARCHITECTURES:
        found = sum(bool(pattern.search(tensor)) for tensor in held.strange)
        if found:
            raise AdapterError(
                f"{source} is a LoRA for {name}, not for SDXL: {_count_strange(held)}. {WHOLE}; "
                "get the file for SDXL, or train the concept."
            )
    if "d2plan.base_fingerprint" in header.words or not any(_FOUR_BLOCKS.match(path) for path in held.layers):
        return
    widths = Counter(
        header.entries[halves["down"]].shape[-1]
        for path, halves in held.layers.items()
        if path.endswith(("attn2.to_k", "attn2.to_v")) and "down" in halves and header.entries[halves["down"]].shape
    )
    for width, name in _WIDTHS.items():
        if widths[width]:
            raise AdapterError(
                f"{source} is a LoRA for {name}, not for SDXL: {widths[width]} of {widths.total()} layers read texts "
                f"of width {width}, SDXL's are 2048 wide; get the file for SDXL, or train the concept."
            )


def _check_count(source: Path, header: Header, held: Inventory) -> None:
    told = header.words.get("d2plan.layers", "")
    if told and told != str(len(held.layers)):
        raise AdapterError(
            f"{source} is incomplete: it says that it has {told[:20]} layers, and holds {len(held.layers)}; "
            "copy it anew, or train it again."
        )


def _count_strange(held: Inventory) -> str:
    example = f", such as {held.strange[0][:80]!r}" if held.strange else ""
    return f"{len(held.strange)} of {held.total} tensors have other names{example}"


def _find_kind(name: str) -> tuple[str, str] | None:
    for kind, pattern in _KINDS:
        if match := pattern.search(name):
            return kind, name[: match.start()]
    return None


def _is_beside(name: str) -> bool:
    stem = _ENDING.sub("", _TUCKER.sub("", name))
    return stem != name and _BESIDE.fullmatch(stem.replace(".", "_")) is not None


def _drop_lonely_alphas(layers: dict[str, dict[Half, str]], kinds: Mapping[str, Mapping[str, None]]) -> None:
    """An alpha of a LoHa layer is no layer of its own."""
    places = {place[0] for names in kinds.values() for name in names if (place := read_stem(name))}
    for path in [path for path, halves in layers.items() if halves.keys() == {"alpha"} and path in places]:
        del layers[path]


def _settle_text(namings: Counter[str]) -> dict[str, int]:
    """Text encoders have no blocks: Kohya's names for them belong to either counting of the U-Net's."""
    text = namings.pop("", 0)
    namings["sgm" if namings["sgm"] and not namings["kohya"] else "kohya"] += text
    return {name: count for name, count in namings.items() if count}
