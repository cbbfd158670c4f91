"""argparse in Korean: its own words, usage and errors, for a Korean reader."""

import argparse

from study.messages import say

# argparse's English texts, as it looks them up by gettext. One that is not here, or is worded otherwise by another Python, stays
# English.
KOREAN = {
    "usage: ": "사용법: ",
    "positional arguments": "인자",
    "options": "옵션",
    "show this help message and exit": "이 도움말을 보여 주고 끝냄",
    "%(prog)s: error: %(message)s\n": "%(prog)s: 오류: %(message)s\n",
    "argument %(argument_name)s: %(message)s": "%(argument_name)s: %(message)s",
    "unrecognized arguments: %s": "알 수 없는 인자: %s",
    "the following arguments are required: %s": "빠진 인자: %s",
    "expected one argument": "값을 하나 주어야 합니다",
    "expected at least one argument": "값을 하나 이상 주어야 합니다",
    "ignored explicit argument %r": "값을 받지 않는 옵션입니다: %r",
    "ambiguous option: %(option)s could match %(matches)s": "%(option)s에 맞는 옵션이 여럿입니다: %(matches)s",
    "invalid choice: %(value)r (choose from %(choices)s)": "고를 수 없는 값 %(value)r. 고를 수 있는 값: %(choices)s",
    "invalid %(type)s value: %(value)r": "%(type)s 값이 아닙니다: %(value)r",
}


def speak_the_readers_language() -> None:
    """Let argparse say everything in the reader's language."""
    argparse._ = lambda text: say(text, KOREAN.get(text, text))  # the name under which it imports gettext, in every Python 3
