"""A chat model in this process, opened from disk with transformers."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from d2plan.errors import FileError, InputError, PlannerError
from d2plan.etp.chat import Message
from d2plan.etp.reply import Json

MOST_TOKENS = 1500
_SECONDS = 600.0


class LocalChat:
    """A chat model in memory; drop the object to free it before the pictures are made.

    Args:
        folder: a model with safetensors weights and tokenizer, as transformers saves it.
        device: such as "cpu" or "cuda".
        most_tokens: of an answer.
        seconds: for an answer.

    Raises:
        FileError: there is no such folder, or it cannot be opened; code in it is never run.
    """

    def __init__(
        self, folder: str | Path, device: str = "cpu", most_tokens: int = MOST_TOKENS, seconds: float = _SECONDS
    ) -> None:
        path = Path(os.path.expanduser(folder))
        if not (path / "config.json").is_file():
            raise FileError(f"{path}: holds no config.json; give the folder of a chat model with --llm-model.")
        try:
            self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
            self.model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
            reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            raise FileError(f"{path}: cannot be opened as a chat model ({reason[:200].rstrip('.')}).") from error
        self.model = self.model.to(device).eval()  # type: ignore[arg-type]  # transformers types this too narrowly
        self.folder = path
        self.most_tokens = most_tokens
        self.seconds = seconds

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @torch.no_grad()
    def reply(self, messages: Sequence[Message], schema: Json) -> str:
        """Answer a conversation; the schema stands in words in the instruction. See ``Chat``.

        Args:
            messages: the turns so far.
            schema: not enforced here; the strict reading of the answer does.

        Returns:
            The answer's text, the likeliest token each time.

        Raises:
            InputError: the answer was cut off.
            PlannerError: the conversation is longer than the model reads.
        """
        del schema
        encoded = self.tokenizer(self._write(messages), return_tensors="pt", add_special_tokens=False)
        tokens = encoded["input_ids"].to(self.model.device)
        window = getattr(self.model.config, "max_position_embeddings", None)
        room = self.most_tokens if window is None else min(self.most_tokens, int(window) - tokens.shape[1])
        if room < 1:
            raise PlannerError(
                f"{self.name} reads {window} tokens, but the instruction and the story take {tokens.shape[1]}; choose "
                "a chat model that reads more, or use --planner grammar."
            )
        started = time.monotonic()
        filler = self.tokenizer.pad_token_id
        written = self.model.generate(  # type: ignore[operator]  # mixed in by transformers
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=room,
            max_time=self.seconds,
            do_sample=False,
            pad_token_id=self.tokenizer.eos_token_id if filler is None else filler,
        )[0, tokens.shape[1] :]
        if len(written) >= room:
            raise InputError("the reply was cut off because it was too long; write fewer and shorter texts")
        if time.monotonic() - started >= self.seconds:
            raise PlannerError(f"{self.name} did not finish within {self.seconds:.0f} seconds; choose a smaller model.")
        return str(self.tokenizer.decode(written, skip_special_tokens=True))

    def _write(self, messages: Sequence[Message]) -> str:
        if self.tokenizer.chat_template:
            turns = [dict(message) for message in messages]
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        return "".join(f"{turn['role']}: {turn['content']}\n" for turn in messages) + "assistant: "
