"""Talk to the chatbot in the terminal. · 터미널에서 챗봇과 이야기한다

    python -m study run chatbot/talk
    python -m study run chatbot/talk --model smollm2 --int8
    python -m study run chatbot/talk < questions.txt        every line is a question

Ctrl-C ends a reply, Ctrl-D (on Windows Ctrl-Z, Enter) the conversation; /help names the commands. The model of our own has to be
trained first: python -m study run chatbot
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from project3_chatbot.chat import Bot, Message, Meter, Name, Settings, load_bot
from utils import paths
from utils.device import pick_device
from utils.lesson import LessonError, check, explain, mention, run

HELP = """/reset              forget everything and begin anew
/temperature 0.7    how freely words are drawn: 0 takes the likeliest, 1 draws as the model believes
/save FILE          write the conversation to a new file
/help               this
Ctrl-C ends a reply, Ctrl-D the conversation (on Windows Ctrl-Z and Enter)"""
PROMPT = "you> "


class Talk:
    """A conversation in the terminal.

    Attributes:
        messages: What was said so far.
    """

    def __init__(self, bot: Bot, settings: Settings):
        self.bot, self.settings, self.cache = bot, settings, bot.new_cache()
        self.messages: list[Message] = []
        self.commands: dict[str, Callable[[str], str]] = {
            "/reset": self.reset, "/temperature": self.temperature, "/save": self.save, "/help": lambda _: HELP,
        }  # fmt: skip

    def hear(self, line: str) -> None:
        """Do what a line asks for: reply to it, or follow a command. What goes wrong is told in one sentence."""
        line = line.encode("utf-8", errors="replace").decode("utf-8").strip()  # half a surrogate becomes "?"
        command, _, rest = line.partition(" ")
        try:
            if command.startswith("/"):
                known = self.commands.get(command)
                check(known is not None, f"there is no command {command[:40]}; /help names them all")
                print(known(rest.strip()))
            elif line:
                self.reply(line)
        except LessonError as error:
            print(f"({error})")
        except OSError as error:
            print(f"({explain(error)})")
        except KeyboardInterrupt:  # before the first token was asked for
            print("\n(stopped)")

    def reply(self, line: str) -> None:
        """Print the bot's reply as it comes, and remember both. Ctrl-C ends it; what was said until then stays."""
        question = {"role": "user", "content": line}
        settings = replace(self.settings, seed=self.settings.seed + len(self.messages))  # the same question, another reply
        meter, said, note = Meter(), "", ""
        pieces = self.bot.reply([*self.messages, question], settings, self.cache, meter)
        print("bot> ", end="", flush=True)
        try:
            with contextlib.closing(pieces):
                for piece in pieces:
                    said += piece
                    print(printable(piece), end="", flush=True)
        except KeyboardInterrupt:
            note = "stopped; "
        if said:
            self.messages += [question, {"role": "assistant", "content": said}]
        if meter.cut and not note:
            note = "cut off; "
        print(f"\n     ({note}{summary(meter)})")

    def reset(self, rest: str) -> str:
        """Forget everything that was said."""
        self.messages = []
        return "(forgotten)"

    def temperature(self, rest: str) -> str:
        """Set the temperature, or say what it is."""
        if rest:
            try:
                self.settings = replace(self.settings, temperature=float(rest))
            except ValueError:
                raise LessonError(f"a temperature is a number, as in /temperature 0.7, and not {rest[:40]!r}") from None
        return f"(temperature {self.settings.temperature:g})"

    def save(self, rest: str) -> str:
        """Write the conversation to a file that does not exist yet."""
        check(rest != "", "/save needs the name of a file, as in /save talk.txt")
        check(self.messages != [], "nothing was said yet")
        path = Path(rest).expanduser()
        names = {"user": PROMPT, "assistant": "bot> "}
        turns = [f"{names[message['role']]}{message['content']}\n" for message in self.messages]
        try:
            with open(path, "x", encoding="utf-8", newline="\n") as file:
                file.write("\n".join([f"{self.bot.source}\n", *turns]))
        except FileExistsError:
            raise LessonError(f"{paths.short(path)} exists already, and stays as it is: choose another name") from None
        return f"(written: {paths.short(path)})"


def summary(meter: Meter) -> str:
    """One line about how fast a reply came: "12 tokens, the first after 0.31 s, then 21.5 a second"."""
    if meter.first is None:
        return "no words"
    then = f", then {meter.per_second:.1f} a second" if meter.per_second else ""
    return f"{meter.tokens} token{'s' * (meter.tokens > 1)}, the first after {meter.first:.2f} s{then}"


def printable(text: str) -> str:
    """Text without the control characters with which a model could move the cursor, or rename the terminal's window."""
    return "".join(letter for letter in text if letter in "\n\t" or not (ord(letter) < 32 or 127 <= ord(letter) < 160))


def lines() -> Iterator[str]:
    """What is typed, line by line, or comes through a pipe, until it ends. Ctrl-C leaves a line that was begun."""
    typed = sys.stdin.isatty()
    sys.stdin.reconfigure(encoding=None if typed else "utf-8", errors="replace")
    if typed:
        with contextlib.suppress(ImportError):  # not on Windows, whose console has the like
            import readline  # noqa: F401  arrow keys, and lines of more than 4,096 bytes
    while True:
        try:
            if typed:
                yield input(PROMPT)
            else:
                line = sys.stdin.readline()
                if not line:
                    return
                print(f"{PROMPT}{line.rstrip()}")
                yield line
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            if not typed:
                raise
            print("\n(Ctrl-D ends the conversation)")


def main(
    model: Name = "own",
    temperature: float = 0.7,
    seed: int = 0,
    int8: bool = False,
    file: Path | None = None,
    device: str = "auto",
) -> None:
    """Talk to a chatbot.

    Args:
        model: own, which you have trained, or smollm2, a published one.
        temperature: How freely words are drawn: 0 takes the likeliest, 1 draws as the model believes.
        seed: Of the draws.
        int8: Weights of one byte instead of four: a CPU writes more than twice as fast, nearly as well.
        file: Other weights than the usual ones.
        device: auto, cpu, cuda or mps.
    """
    settings = Settings(temperature=temperature, seed=seed)
    bot = load_bot(model, pick_device(device), file, int8)
    mention("data", bot.source)
    print(f"{bot.source}\n/help names the commands, Ctrl-D ends the conversation\n", flush=True)
    talk = Talk(bot, settings)
    for line in lines():
        talk.hear(line)


if __name__ == "__main__":
    run(main, all_cores=True)
