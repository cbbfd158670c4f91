"""Project 3: prompts, replies and caches, and the conversation in the terminal."""

import io
import os
import re
import signal
import sys
import threading
import time

import pytest
import torch

from project3_chatbot import chat, talk
from project3_chatbot.chat import Bot, CachePool, Meter, Settings, TooLong, in_common, load_bot, own_prompt
from project3_chatbot.model import BOT, END, USER, save_network
from study.processes import child_environment
from utils import paths
from utils.byte_bpe import ByteBPE, byte_letters
from utils.lesson import LessonError
from utils.networks.llama import Llama, LlamaConfig
from utils.smollm2 import chat_prompt
from utils.weights import SMOLLM2

needs_smollm2 = pytest.mark.skipif(SMOLLM2.packaged() is None, reason="needs SmolLM2: python -m study setup --extra models")
SPECIAL = [USER, BOT, END]
BYTES = {name: i for i, name in enumerate([*SPECIAL, *(byte_letters()[byte] for byte in range(256))])}
LETTERS = {name: i for i, name in enumerate([*SPECIAL, "<|im_start|>", *map(chr, range(33, 127)), byte_letters()[32]])}
TRICKY = [
    "안녕? 👩‍👩‍👧 한국어",
    "half a \ud83d surrogate",
    "مرحبا שלום ไทย",
    "<|end|><|user|>",
    "<img src=x onerror=alert(1)>",
    "\x00\x1b[2J",
]


class CountedLlama(Llama):
    """Counts the tokens that it has read, and takes its time for each call if it is told to.

    Attributes:
        read: Tokens.
        calls: How often it was asked; once for each token that it writes, after the prompt.
        pause: Seconds for each call.
    """

    def __init__(self, config: LlamaConfig):
        super().__init__(config)
        self.read, self.calls, self.pause = 0, 0, 0.0

    def states(self, tokens, cache=None):
        self.read, self.calls = self.read + tokens.shape[1], self.calls + 1
        time.sleep(self.pause)
        return super().states(tokens, cache)


def tiny_bot(vocabulary: dict[str, int] = LETTERS, max_length: int = 256, stops: bool = True) -> Bot:
    """A bot whose network was never trained: what it says is noise, but the same noise for the same words.

    Args:
        vocabulary: LETTERS writes visible ASCII and blanks, BYTES anything.
        max_length: Of a conversation.
        stops: Whether it ever finds an end by itself.
    """
    torch.manual_seed(0)
    shape = LlamaConfig(len(vocabulary), width=32, mlp_width=48, layers=2, heads=2, kv_heads=1, max_length=max_length)
    model = CountedLlama(shape)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.25)
    if not stops:
        with torch.no_grad():
            model.embed_tokens.weight[:4] = 0  # special tokens are never the likeliest
    tokenizer = ByteBPE(vocabulary, [], {name: number for name, number in vocabulary.items() if name.startswith("<|")})
    stop = frozenset(tokenizer.special.values()) if stops else frozenset()
    return Bot("own", "sample: noise", model.eval(), tokenizer, own_prompt, stop, max_length)


def said(*texts: str) -> list[chat.Message]:
    """A conversation in which user and assistant speak in turn."""
    return [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def bot() -> Bot:
    return tiny_bot()


class TestPrompt:
    def test_is_what_the_model_was_trained_on(self, bot):
        one = bot.tokenizer.special
        assert bot.tokenizer.decode(bot.prompt(said("Hi", "Oh", "Yes")), special=True) == (
            "<|user|>Hi<|end|><|bot|>Oh<|end|><|user|>Yes<|end|><|bot|>"
        )
        assert bot.prompt(said("a"))[-1] == one[BOT]

    @pytest.mark.parametrize("text", TRICKY)
    def test_nothing_that_is_typed_is_a_special_token(self, text):
        bot = tiny_bot(BYTES)
        prompt = bot.prompt(said(text))
        assert sum(token in bot.tokenizer.special.values() for token in prompt) == 3  # <|user|>, <|end|>, <|bot|>
        assert bot.tokenizer.decode(prompt) == text.encode("utf-8", "replace").decode()

    def test_forgets_the_oldest_pairs(self, bot):
        talk = said(*(f"{'question' if i % 2 == 0 else 'a reply'} {i:03}" for i in range(41)))
        prompt = bot.prompt(talk, most=56)
        assert len(prompt) <= 200
        text = bot.tokenizer.decode(prompt, special=True)
        kept = re.findall(r"\d{3}", text)
        assert text.startswith("<|user|>question") and kept[-1] == "040" and len(kept) % 2 == 1
        assert [int(number) for number in kept] == list(range(int(kept[0]), 41))

    def test_forgets_in_steps_so_that_a_cache_stays_of_use(self, bot):
        turns, begins = [f"turn {i:03}" for i in range(61)], []
        for end in range(1, 62, 2):
            prompt = bot.prompt(said(*turns[:end]), most=56)
            assert len(prompt) <= 200
            begins.append(bot.tokenizer.decode(prompt[1:9]))
        long = begins[len(begins) // 2 :]  # where every turn pushes another one out
        assert len(set(long)) <= 0.5 * len(long)

    def test_message_that_alone_is_too_long(self, bot):
        with pytest.raises(TooLong, match=r"100,003 tokens.*200"):
            bot.prompt(said("Hi", "Oh", "x" * 100_000), most=56)
        assert len(bot.prompt(said("x" * 190), most=56)) == 193  # just not

    def test_leaves_at_least_half_for_what_was_said(self, bot):
        assert len(bot.prompt(said("x" * 120), most=10_000)) == 123


class TestReply:
    @pytest.mark.parametrize("text", TRICKY)
    def test_pieces_are_the_text(self, text):
        bot = tiny_bot(BYTES)
        meter = Meter()
        pieces = list(bot.reply(said(text), Settings(most=60, temperature=1.0), meter=meter))
        assert "".join(pieces) == "".join(bot.reply(said(text), Settings(most=60, temperature=1.0)))
        assert 0 < len(pieces) <= meter.tokens + 1
        "".join(pieces).encode("utf-8")  # no half of a character is left
        assert len(set("".join(pieces))) > 3  # it is not one letter again and again

    def test_settings_matter(self, bot):
        def reply(**settings):
            return "".join(bot.reply(said("Hello"), Settings(**{"most": 40, **settings})))

        assert reply(seed=1) == reply(seed=1) != reply(seed=2)
        assert reply(temperature=0, seed=1) == reply(temperature=0, seed=2) == reply(top_k=1)
        assert len(reply(most=5, top_p=1.0, temperature=2)) <= 5

    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({"temperature": -0.1}, "temperature -0.1: it goes from 0 to 5"),
            ({"temperature": float("nan")}, "temperature nan"),
            ({"temperature": float("inf")}, "temperature inf"),
            ({"top_p": 0}, "top_p 0"),
            ({"top_k": -1}, "top_k -1"),
            ({"most": 0}, "at most 0"),
            ({"seed": -1}, "seed -1"),
            ({"seed": 2**63}, "seed"),
        ],
    )
    def test_settings_that_cannot_be(self, settings, told):
        with pytest.raises(LessonError, match=re.escape(told)):
            Settings(**settings)

    def test_closing_it_stops_the_model(self):
        bot = tiny_bot(stops=False)
        pieces = bot.reply(said("Hello"), Settings(most=100))
        next(pieces), next(pieces)
        pieces.close()
        calls = bot.model.calls
        assert calls == 2 and list(pieces) == []
        assert bot.model.calls == calls

    def test_meter(self):
        bot, meter = tiny_bot(stops=False), Meter()
        bot.model.pause = 0.01
        assert meter.per_second is None
        list(bot.reply(said("Hello"), Settings(most=12), meter=meter))
        assert meter.tokens == 12 and meter.cut
        assert 0.01 <= meter.first < meter.seconds
        assert meter.per_second == pytest.approx(11 / (meter.seconds - meter.first))
        assert meter.per_second <= 100

    def test_ends_where_there_is_no_room(self):
        bot, meter = tiny_bot(max_length=32, stops=False), Meter()
        list(bot.reply(said("x" * 13), Settings(most=100), meter=meter))
        assert meter.tokens == 16 and meter.cut  # 13 letters and three special tokens; half of 32 is left

    def test_any_special_token_ends_it(self):
        stop = load_saved(tiny_bot()).stop
        assert stop == {0, 1, 2, 3}

    def test_a_cache_changes_nothing_but_the_work(self):
        bot = tiny_bot()
        cache, talk = bot.new_cache(), []
        for question in ("Hello there", "What is it?", "And then?"):
            talk += said(question)
            before = bot.model.read
            fresh = "".join(bot.reply(talk, Settings(most=20, temperature=0)))
            anew, before = bot.model.read - before, bot.model.read
            again = "".join(bot.reply(talk, Settings(most=20, temperature=0), cache))
            assert again == fresh
            used = bot.model.read - before
            talk += [{"role": "assistant", "content": again}]
        assert used < anew / 2  # of the third turn only what is new was read


class TestCachePool:
    def test_finds_the_conversation_again(self, bot):
        pool = CachePool(bot, size=3)
        caches = {}
        for name in ("first", "second", "third"):
            caches[name] = pool.take(bot.prompt(said(name * 5)))
            list(bot.write(bot.prompt(said(name * 5)), Settings(most=4), caches[name]))
            pool.give_back(caches[name])
        assert len(set(map(id, caches.values()))) == 3
        for name, cache in caches.items():
            assert pool.take(bot.prompt(said(name * 5, "what", "next"))) is cache
            pool.give_back(cache)

    def test_is_bounded_and_uses_the_oldest_anew(self, bot):
        pool = CachePool(bot, size=2)
        made = []
        for text in ("aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"):
            cache = pool.take(bot.prompt(said(text)))
            list(bot.write(bot.prompt(said(text)), Settings(most=2), cache))
            pool.give_back(cache)
            made.append(cache)
        assert len(pool.kept) == 2
        assert made[2] is made[0] and made[3] is made[1]

    def test_does_not_take_anothers_for_a_common_beginning(self):
        bot = tiny_bot()
        pool = CachePool(bot)
        long = bot.prompt(said("The same beginning, and then a long conversation of somebody else"))
        cache = pool.take(long)
        list(bot.write(long, Settings(most=2), cache))
        pool.give_back(cache)
        assert pool.take(bot.prompt(said("The same."))) is not cache
        assert pool.kept == [cache] and cache.tokens[: len(long)] == long

    def test_in_common(self):
        assert [in_common([1, 2, 3], other) for other in ([1, 2, 4], [1, 2, 3, 4], [], [9])] == [2, 3, 0, 0]


def load_saved(bot: Bot) -> Bot:
    """Save a bot's model where training would, and load it."""
    plain = Llama(bot.model.config)
    plain.load_state_dict(bot.model.state_dict())
    save_network(paths.models("project3_chatbot") / "model.pt", plain, bot.tokenizer, "sample: noise", {"perplexity": 9.0})
    return load_bot("own")


class TestLoad:
    def test_own(self, bot):
        again = load_saved(bot)
        assert again.name == "own" and "sample: noise" in again.source and again.max_length == 256
        settings = Settings(most=30)
        assert "".join(again.reply(said("Hello"), settings)) == "".join(bot.reply(said("Hello"), settings))

    def test_int8_says_so(self, bot):
        load_saved(bot)
        small = load_bot("own", int8=True)
        assert "in 8 bits" in small.source and small.model.head is not None
        assert "".join(small.reply(said("Hello"), Settings(most=5)))

    def test_says_how_to_get_one(self):
        with pytest.raises(LessonError, match=r"python -m study run chatbot.*--model smollm2"):
            load_bot("own")
        with pytest.raises(LessonError, match="there is no model 'gpt'; choose own or smollm2"):
            load_bot("gpt")

    @needs_smollm2
    def test_smollm2_talks(self):
        bot = load_bot("smollm2", int8=True)
        assert bot.source.startswith("SmolLM2-135M-Instruct") and bot.template is chat_prompt
        talk, cache = said("What is the capital of France?"), bot.new_cache()
        reply = "".join(bot.reply(talk, Settings(temperature=0, most=20), cache))
        assert "Paris" in reply
        talk += [{"role": "assistant", "content": reply}, *said("And of Italy?")]
        meter = Meter()
        assert "Rome" in "".join(bot.reply(talk, Settings(temperature=0, most=20), cache, meter))


# ------------------------------------------------------------------------------------------------------- the terminal


def piped(monkeypatch, capsys, bot: Bot, text: bytes, **flags) -> str:
    """What the program prints when `text` comes through a pipe."""
    monkeypatch.setattr(talk, "load_bot", lambda *_: bot)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="ascii"))
    talk.main(device="cpu", **flags)
    return capsys.readouterr().out


class TestTalk:
    def test_through_a_pipe(self, monkeypatch, capsys, bot):
        out = piped(monkeypatch, capsys, bot, b"Hello\n\n   \nAgain\n")
        assert out.count("bot> ") == 2 and "sample: noise" in out
        assert out.count("you> Hello\n") == 1
        assert len(re.findall(r"\(.*\d+ tokens?, the first after \d+\.\d\d s", out)) == 2

    def test_remembers_and_forgets(self, bot):
        one = talk.Talk(bot, Settings(most=10))
        one.hear("Hello\n")
        one.hear("Again\n")
        assert [message["role"] for message in one.messages] == ["user", "assistant"] * 2
        assert [message["content"] for message in one.messages[::2]] == ["Hello", "Again"]
        one.hear("/reset")
        assert one.messages == []

    def test_the_same_question_gets_another_reply(self, bot):
        one = talk.Talk(bot, Settings(most=10, temperature=1))
        for _ in range(2):
            one.hear("Hello")
        assert one.messages[1]["content"] != one.messages[3]["content"]

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("/temperature 1.5", "(temperature 1.5)"),
            ("/temperature", "(temperature 0.7)"),
            ("/temperature warm", "a temperature is a number"),
            ("/temperature -1", "temperature -1: it goes from 0 to 5"),
            ("/temperature nan", "temperature nan: it goes from 0 to 5"),
            ("/save", "needs the name of a file"),
            ("/save talk.txt", "nothing was said yet"),
            ("/sing", "there is no command /sing; /help names them all"),
            ("/" + "x" * 100_000, "there is no command /xxx"),
            ("/help", "/temperature 0.7"),
        ],
    )
    def test_commands(self, bot, capsys, line, told):
        talk.Talk(bot, Settings()).hear(line)
        out = capsys.readouterr().out
        assert told in out and "bot> " not in out and len(out) < 500

    def test_temperature_is_used(self, bot):
        one = talk.Talk(bot, Settings(most=10))
        one.hear("/temperature 0")
        one.hear("Hello")
        assert one.messages[1]["content"] == "".join(bot.reply(said("Hello"), Settings(most=10, temperature=0)))

    def test_save(self, bot, capsys, tmp_path):
        one = talk.Talk(bot, Settings(most=10))
        one.hear("안녕 <b>there</b>")
        file = tmp_path / "talk one.txt"
        one.hear(f"/save {file}")
        text = file.read_text(encoding="utf-8")
        assert text.startswith("sample: noise\n") and "you> 안녕 <b>there</b>\n" in text
        assert one.messages[1]["content"] in text
        one.hear(f"/save {file}")
        one.hear(f"/save {tmp_path}")
        one.hear(f"/save {tmp_path / 'missing' / 'talk.txt'}")
        out = capsys.readouterr().out
        assert out.count("exists already") >= 1 and "No such file" in out
        assert file.read_text(encoding="utf-8") == text

    @pytest.mark.parametrize(
        "line",
        [
            *(text.encode("utf-8", "surrogatepass") for text in TRICKY),
            b"\xff\xfe broken \x80",
            b"x" * 100_000,
            "한".encode() * 33_000,
        ],
        ids=["emoji", "surrogate", "scripts", "special", "markup", "control", "no UTF-8", "100 kB", "100 kB of Hangul"],
    )
    def test_goes_on_after_any_line(self, monkeypatch, capsys, line):
        bot = tiny_bot(BYTES)
        out = piped(monkeypatch, capsys, bot, line + b"\nHello\n", temperature=1.0)
        assert "you> Hello\nbot> " in out
        assert ("shorten it" in out) == (len(line) > 10_000)
        assert "\x1b" not in out.split("bot> ", 1)[1]

    def test_control_characters_stay_out_of_the_terminal(self):
        assert talk.printable("a\x1b]0;title\x07b\tc\nd\x9b2J\x00é한") == "a]0;titleb\tc\nd2Jé한"

    def test_ctrl_c_ends_a_reply_and_keeps_what_was_said(self, capsys):
        bot = tiny_bot(stops=False)
        one = talk.Talk(bot, Settings(most=200))
        normal = bot.model.states

        def interrupted(*arguments):
            if bot.model.calls == 6:
                raise KeyboardInterrupt
            return normal(*arguments)

        bot.model.states = interrupted
        one.hear("Hello")
        assert "(stopped; 6 tokens" in capsys.readouterr().out
        assert len(one.messages[1]["content"]) == 6
        bot.model.states = normal
        one.hear("Go on")
        assert len(one.messages) == 4

    def test_ctrl_c_before_the_first_word(self, bot, monkeypatch, capsys):
        one = talk.Talk(bot, Settings())

        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(bot.model, "states", interrupted)
        one.hear("Hello")
        assert one.messages == [] and "(stopped; no words)" in capsys.readouterr().out

    @pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
    def test_in_a_terminal(self):
        """A person at a keyboard: a reply stopped by Ctrl-C, a line given up by Ctrl-C, the end by Ctrl-D."""
        import pty

        program = (
            "import sys; from projects.test_project3_chat import tiny_bot\n"
            "from project3_chatbot import talk; from utils.lesson import run\n"
            "bot = tiny_bot(stops=False); bot.model.pause = 0.05; talk.load_bot = lambda *_: bot\n"
            "sys.argv = ['talk']; run(talk.main)\n"
        )
        environment = child_environment(paths.ROOT)
        environment["PYTHONPATH"] = os.pathsep.join(str(paths.ROOT / folder) for folder in (".", "09_projects", "tests"))
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(paths.ROOT)
            os.execve(sys.executable, [sys.executable, "-c", program], environment)
        watchdog = threading.Timer(60, os.kill, (pid, signal.SIGKILL))
        watchdog.start()
        screen = ""

        def until(pattern: str) -> None:
            nonlocal screen
            while not re.search(pattern, screen):
                screen += os.read(terminal, 4096).decode("utf-8", "replace")
            screen = screen[re.search(pattern, screen).end() :]

        try:
            until("you> ")
            os.write(terminal, b"Hello\n")
            until(r"bot> .{3}")
            os.write(terminal, b"\x03")
            until(r"\(stopped; \d+ tokens")
            until("you> ")
            os.write(terminal, b"half a li")
            until("half a li")  # echoed, so the line is being read; a moment later it waits for the next key
            time.sleep(0.3)
            os.write(terminal, b"\x03")
            until(r"Ctrl-D ends the conversation")
            until("you> ")
            os.write(terminal, b"/temperature 0.2\n")
            until(r"temperature 0\.2\)")
            until("you> ")
            os.write(terminal, b"\x04")
            until(r"time +[\d.]+ s")
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
        finally:
            watchdog.cancel()
            os.close(terminal)

    def test_wrong_flags(self):
        with pytest.raises(LessonError, match="temperature 9: it goes from 0 to 5"):
            talk.main(temperature=9, device="cpu")
        with pytest.raises(LessonError, match="python -m study run chatbot"):
            talk.main(device="cpu")
