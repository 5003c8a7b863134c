import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from d2plan.errors import FileError, InputError, PlannerError
from d2plan.etp.chat import ChatPlanner
from d2plan.etp.local import LocalChat
from tests.etp.test_reply import REQUEST

TURNS = [{"role": "system", "content": "plan"}, {"role": "user", "content": "Rex runs"}]
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"


def write_model(folder, window=8192, template=TEMPLATE):
    """A random chat model whose tokens are letters."""
    letters = sorted({chr(code) for code in range(32, 127)})
    core = Tokenizer(models.WordLevel({"<end>": 0, "<odd>": 1, **{c: n + 2 for n, c in enumerate(letters)}}, "<odd>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", unk_token="<odd>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(letters) + 2, n_positions=window, n_embd=8, n_layer=1, n_head=1, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("chat"))


class Counting(LocalChat):
    """Counts how often it is asked."""

    asked = 0

    def reply(self, messages, schema):
        self.asked += 1
        return super().reply(messages, schema)


def test_a_random_model_fails_clearly_after_its_three_attempts(tmp_path):
    chat = Counting(write_model(tmp_path / "random", window=32768), most_tokens=4)
    with pytest.raises(
        PlannerError, match=r"random gave no plan that can be used in 3 attempts \(the last fault: .*cut off"
    ):
        ChatPlanner(chat).plan(REQUEST)
    assert chat.asked == 3


def test_the_models_own_chat_template_is_used(folder):
    assert LocalChat(folder)._write(TURNS) == "[system]plan[user]Rex runs[assistant]"


def test_a_model_without_a_template_gets_plain_turns(tmp_path):
    assert LocalChat(write_model(tmp_path, template=None))._write(TURNS) == "system: plan\nuser: Rex runs\nassistant: "


def test_an_answer_that_fills_its_length_counts_as_cut_off(folder):
    with pytest.raises(InputError, match="cut off"):
        LocalChat(folder, most_tokens=5).reply(TURNS, {})


def test_an_answer_that_takes_too_long_is_told(folder):
    chat = LocalChat(folder, most_tokens=8, seconds=1e-9)
    with pytest.raises(PlannerError, match="did not finish within"):
        chat.reply(TURNS, {})


def test_the_likeliest_tokens_are_taken_until_the_end_token(folder):
    chat = LocalChat(folder, most_tokens=5)
    wanted = chat.tokenizer.convert_tokens_to_ids(["o", "k", "<end>"])

    class Script(torch.nn.Module):
        def forward(self, hidden):
            place = min(max(Script.length - start, 0), 2)
            scores = torch.zeros(*hidden.shape[:-1], chat.model.config.vocab_size)
            scores[..., wanted[place]] = 1.0
            Script.length += 1
            return scores

    start = Script.length = 0
    chat.model.lm_head = Script()
    # Words of this tokenizer are joined by spaces.
    assert chat.reply(TURNS, {}) == "o k"


def test_a_conversation_longer_than_the_model_reads_is_told_at_once(tmp_path):
    chat = Counting(write_model(tmp_path / "short", window=64))
    with pytest.raises(PlannerError, match="reads 64 tokens, but the instruction and the story take"):
        ChatPlanner(chat).plan(REQUEST)
    assert chat.asked == 1


def test_a_folder_that_is_no_model_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="holds no config.json"):
        LocalChat(tmp_path / "nothing")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(FileError, match="cannot be opened as a chat model"):
        LocalChat(tmp_path)


def test_weights_of_another_format_than_safetensors_are_not_opened(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FileError, match="cannot be opened"):
        LocalChat(tmp_path)
