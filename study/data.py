"""Data sets: what is on disk, what there is to fetch. The catalogue itself is utils/catalogue.py; its Korean words stand here."""

import re
from pathlib import Path

from study import lessons
from study.messages import Problem, companion, language, paint, say

OPINIONS = "영어와 한국어로 지어낸 감상 4,000 + 1,000개"
FACES = "직접 그린 얼굴. 어떻게 그렸는지 모두 알고 있다"
PEOPLE_AND_FILMS = "취향을 정해 둔 가상의 600명과 지어낸 영화 300편. 필요할 때 만든다"
MOVIELENS = "GroupLens 자체 조건: 공부와 연구용, 재배포 금지, 상업적 이용은 허락을 받아야 함"

# Name: title, licence and sample of utils.catalogue, in Korean.
IN_KOREAN = {
    "mnist": (
        "MNIST: 손글씨 숫자 60,000 + 10,000장, 28x28 흑백",
        "CC BY-SA 3.0",
        "scikit-learn의 숫자: 실제 손글씨 1,797장, 8x8",
    ),
    "cifar10": (
        "CIFAR-10: 동물과 탈것 사진 50,000 + 10,000장, 32x32 컬러",
        "밝히지 않음. 만든 이는 Krizhevsky(2009)의 인용을 부탁한다",
        "그림책: 사진 위에 그린 물체 10가지, 32x32. 필요할 때 그린다",
    ),
    "hymenoptera": (
        "Hymenoptera: 개미와 벌 사진 244 + 153장",
        "밝히지 않음. 웹에서 모은 사진, 공부용",
        "그림책: 구별하기 어려운 두 클래스를 같은 크기로 그린다",
    ),
    "beijing_pm25": (
        "베이징 PM2.5: 2010~2014년의 시간별 대기질과 날씨",
        "CC BY 4.0",
        "없음. 늘 들어 있는 시애틀 날씨가 기본값이다",
    ),
    "aapl": (
        "AAPL: 어느 주식의 일별 가격, 2006~2017년",
        "출처 페이지 참고",
        "없음. 늘 들어 있는 주식 다섯 종목의 월별 가격을 써도 된다",
    ),
    "airline_passengers": (
        "항공 승객: 1949~1960년 월별 승객 수, 단위는 천 명(Box와 Jenkins, 1976)",
        "밝히지 않음",
        "없음. 늘 들어 있는 시애틀 날씨가 기본값이다",
    ),
    "tinyshakespeare": (
        "Tiny Shakespeare: 셰익스피어 희곡의 대사 1,115,394자",
        "퍼블릭 도메인(희곡)",
        "영어와 한국어로 된 짧은 이야기. 필요할 때 쓴다",
    ),
    "imdb": (
        "IMDb: 영어 영화 리뷰 25,000 + 25,000개, 긍정과 부정",
        "밝히지 않음. 만든 이들은 Maas 외(2011)의 인용을 부탁한다",
        OPINIONS,
    ),
    "nsmc": ("NSMC: 짧은 한국어 영화 리뷰 150,000 + 50,000개, 긍정과 부정", "CC0", OPINIONS),
    "rt_polarity": (
        "MR, sentence polarity v1.0: 영어 영화 리뷰에서 뽑은 문장 10,662개, 긍정과 부정",
        "밝히지 않음. 만든 이들은 Pang과 Lee(2005)의 인용을 부탁한다",
        OPINIONS,
    ),
    "multi30k": (
        "Multi30k: 사진을 설명한 문장 29,000 + 1,014 + 1,000개, 영어·독일어·프랑스어",
        "연구와 교육용(사진에 대한 조건)",
        "없음. 레슨이 문장을 직접 만든다",
    ),
    "korean_english": (
        "Tatoeba: 영어와 한국어로 된 일상 문장 수천 개",
        "CC BY 2.0(프랑스)",
        "없음. 레슨이 문장을 직접 만든다",
    ),
    "bbc_news": (
        "BBC News Summary: 영어 기사 2,225개, 기사마다 골라낸 문장으로 만든 요약",
        "밝히지 않음. 기사는 BBC의 것, 비상업적 연구용",
        "영어와 한국어로 된 짧은 보도. 필요할 때 쓴다",
    ),
    "bccd": ("BCCD: 현미경으로 본 혈액 사진 364장, 세포를 감싼 상자 4,888개", "MIT", "없음. 레슨이 장면을 직접 그린다"),
    "camvid": (
        "CamVid, SegNet판: 차에서 찍은 장면 367 + 101 + 233장, 480x360, 픽셀마다 클래스",
        "CC BY-NC 4.0, 개인과 연구용(저장소에 대한 조건)",
        "없음. 레슨이 장면을 직접 그린다",
    ),
    "style_pictures": (
        "스타일 전이용 그림: 사진 한 장(amber)과 스타일 두 장(mosaic, udnie)",
        "BSD-3-Clause(저장소)",
        "scikit-learn의 사진 두 장과 직접 그린 스타일 두 장",
    ),
    "olivetti": (
        "Olivetti 얼굴(AT&T): 40명의 흑백 사진 400장, 64x64",
        "밝히지 않음. AT&T Laboratories Cambridge를 출처로 밝혀 달라고 한다",
        FACES,
    ),
    "lfw": (
        "Labeled Faces in the Wild: 5,749명의 사진 13,233장, 250x250 컬러",
        "밝히지 않음. 만든 이들은 Huang 외(2007)의 인용을 부탁한다",
        FACES,
    ),
    "celeba": (
        "CelebA: 속성 40개가 달린 얼굴 사진 202,599장, 178x218 컬러",
        "자체 약관: 비상업적 연구용, 재배포 금지",
        FACES,
    ),
    "flickr8k": (
        "Flickr8k: 사진 6,000 + 1,000 + 1,000장, 사진마다 영어 문장 다섯 개",
        "비상업적 연구와 교육용. 사진의 권리는 찍은 사람에게 있다",
        "색이 있는 도형으로 그린 장면과 영어, 한국어 문장 하나씩",
    ),
    "movielens_100k": (
        "MovieLens 100k: 943명이 영화 1,682편에 매긴 평점 100,000개, 1997~1998년",
        MOVIELENS,
        PEOPLE_AND_FILMS,
    ),
    "movielens_1m": (
        "MovieLens 1M: 6,040명이 영화 3,706편에 매긴 평점 1,000,209개, 2000~2003년",
        MOVIELENS,
        PEOPLE_AND_FILMS,
    ),
    "fsdd": (
        "Free Spoken Digit Dataset: 6명이 영어로 읽은 숫자 녹음 3,000개, 8 kHz",
        "CC BY-SA 4.0",
        "영어나 한국어로 숫자를 말하는, 계산으로 만든 목소리",
    ),
    "korean_chat": ("Chatbot_data: 한국어 질문과 다정한 답 11,823쌍", "MIT", "한국어 chatterbot-corpus, 약 700쌍"),
    "daily_dialog": ("DailyDialog: 영어 일상 대화 13,118개", "CC BY-NC-SA 4.0", "영어 chatterbot-corpus, 약 1,250쌍"),
}

# What utils.catalogue says of a failed download, and the same in Korean. What the system itself says of the network stays.
SENTENCES = (
    (
        r"(\w+) cannot be fetched from here: get (.+) from (\S+) and put it into datasets/",
        r"\1: 여기서 내려받을 수 없습니다. \3에서 \2을(를) 받아 datasets/에 넣으세요",
    ),
    (
        r"(\w+) could not be downloaded \((.*)\)\. Check the network, or put the files into (\S+) yourself, or use (.*)",
        r"\1: 내려받지 못했습니다(\2). 네트워크를 확인하거나, 파일을 \3에 직접 넣거나, \4을 쓰세요",
    ),
    (
        r"(\w+) could not be downloaded: (.*); what came was thrown away\. Try again later",
        r"\1: 내려받지 못했습니다(\2). 받은 것은 지웠습니다. 나중에 다시 해 보세요",
    ),
    (r"no answer within (\S+) s", r"\1초 안에 응답이 없음"),
    (
        r"(\S+) sent a web page instead of data; does this network ask for a login\?",
        r"\1에서 데이터 대신 웹 페이지가 옴, 로그인이 필요한 네트워크일 수 있음",
    ),
    (r"(\S+) sent an incomplete file", r"\1에서 온 파일이 온전하지 않음"),
    (r"(\S+) sent a file with another checksum", r"\1에서 온 파일의 체크섬이 다름"),
    (r"(\S+) sent a file of another size", r"\1에서 온 파일의 크기가 다름"),
    (r"(\S+) sent a zip in which (\S+) is damaged", r"\1에서 온 zip의 \2이(가) 손상됨"),
    (r"(\S+) sent a zip without ([^\s)]+)", r"\1에서 온 zip에 \2이(가) 없음"),
)


def show() -> None:
    """Print every data set: where it lies, or how large it is and how to fetch it."""
    from utils import catalogue

    for name, entry in catalogue.CATALOGUE.items():
        place = catalogue.find(name)
        english = (entry.title, entry.licence, entry.sample)
        title, licence, sample = IN_KOREAN.get(name, english) if language() == "ko" else english
        print(f"{paint('[OK]', 'green') if place else '[--]'} {paint(name, 'bold')}  {title}")
        if place:
            print(f"     {say('on disk', '위치')}: {place}")
        else:
            if entry.files:
                print(f"     {say('fetch it', '받기')}: {companion()} data {name}  ({entry.bytes / 1e6:.1f} MB)")
            else:
                print(f"     {say('put it there yourself', '직접 넣기')}: datasets/{entry.places[0]}")
            print(f"     {say('until then', '그 전까지')}: {sample}")
        print(paint(f"     {say('licence', '라이선스')}: {licence} · {say('source', '출처')}: {entry.homepage}", "dim"))


def fetch(names: list[str]) -> None:
    """Download data sets, one after the other, except those that are there.

    Raises:
        Problem: there is no such data set, or it cannot be had.
    """
    from utils import catalogue
    from utils.lesson import LessonError

    known = list(catalogue.CATALOGUE)
    chosen = [lessons.find(name, known, listed_by="data") for name in names]  # a typing error is told before any download
    for name in chosen:
        place: Path | None = catalogue.find(name)
        if place is None:
            try:
                place = catalogue.fetch(name)
            except LessonError as error:
                raise Problem(say(str(error), translated(str(error)))) from None
        print(f"{paint('[OK]', 'green')} {name}: {place}")


def translated(sentence: str) -> str:
    """What utils.catalogue says of a failed download, in Korean."""
    for english, korean in SENTENCES:
        sentence = re.sub(english, korean, sentence)
    return sentence
