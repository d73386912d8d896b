"""Text is read as RFC 8259 has it, and long lists of numbers without an object for each."""

from __future__ import annotations

import json
import marshal
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.problem import BadValue, GradtraceError, InvalidJson
from service.engine import json_text, long_values, number_array
from service.engine.json_text import LONG_TEXT, MAX_DEPTH
from service.engine.number_array import CHUNK, NumberArray, read_with_orjson


@pytest.fixture(params=["the fastest reader", "orjson"], autouse=True, scope="module")
def _reader(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "orjson":
            patch.setattr(number_array, "reader", lambda: read_with_orjson)
        yield


def parse_json(body: bytes | memoryview) -> Any:
    """Read ``body`` as bytes and as the map of a file, which must be the same."""
    document, problem = outcome(body)
    if len(body):  # nothing cannot be mapped
        mapped = mmap.mmap(-1, len(body))
        mapped[:] = body
        again, same_problem = outcome(memoryview(mapped))
        assert repr(problem) == repr(same_problem)
        assert exactly(again) == exactly(document)
    if problem:
        raise problem
    return document


def outcome(body: bytes | memoryview) -> tuple[Any, GradtraceError | None]:
    try:
        return json_text.parse_json(body), None
    except GradtraceError as problem:
        return None, problem


def exactly(document: Any) -> bytes:
    """Return what tells 1 from 1.0 and -0.0 from 0.0, and finds NaN the same as itself."""
    return marshal.dumps(
        spelt_out(document), 2
    )  # from version 3 on equals may differ in references


def spelt_out(document: Any) -> Any:
    """Return a copy without arrays and views."""
    if isinstance(document, dict):
        return {key: spelt_out(value) for key, value in document.items()}
    if isinstance(document, list):
        return [spelt_out(item) for item in document]
    if isinstance(document, memoryview):
        return str(document, "ascii")
    return document.tolist() if isinstance(document, NumberArray) else document


NAMES = st.sampled_from(["leaves", "value", "a", "b", "a:b", ":", '"', "\\", "\u00e9", ""])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | NAMES
)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4)
)


class Pairs(list[tuple[str, Any]]):
    """An object as its members in order, which may have a key twice."""


OBJECTS_WITH_PAIRS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(NAMES, inner), max_size=4).map(Pairs)
    ),
)


def spell(document: Any, ascii_only: bool) -> str:
    """Return JSON text; where ``ascii_only``, every colon in a string is escaped."""
    if isinstance(document, Pairs):
        members = [f"{spell(k, ascii_only)} : {spell(v, ascii_only)}" for k, v in document]
        return "{" + ",".join(members) + "}"
    if isinstance(document, list):
        return "[" + ", ".join(spell(item, ascii_only) for item in document) + "]"
    text = json.dumps(document, ensure_ascii=ascii_only)
    return text.replace(":", "\\u003a") if ascii_only and isinstance(document, str) else text


def has_twice(document: Any) -> bool:
    if isinstance(document, Pairs):
        names = [name for name, _ in document]
        return len(set(names)) < len(names) or any(has_twice(item) for _, item in document)
    return isinstance(document, list) and any(map(has_twice, document))


def refusal(text: bytes) -> tuple[str, str]:
    with pytest.raises(InvalidJson) as caught:
        parse_json(text)
    error = caught.value
    assert len(error.detail) < 300
    assert error.errors[0].message == error.detail
    return error.errors[0].pointer, error.detail


@given(DOCUMENTS, st.booleans())
def test_what_is_json_is_read_as_python_reads_it(document: Any, ascii_only: bool) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only).encode()
    assert repr(parse_json(text)) == repr(json.loads(text))
    assert repr(parse_json(memoryview(text))) == repr(json.loads(text))


@given(OBJECTS_WITH_PAIRS, st.booleans())
def test_a_key_given_twice_is_always_found_and_nothing_else(document: Any, escape: bool) -> None:
    text = spell(document, escape).encode()
    if has_twice(document):
        assert "given twice" in refusal(text)[1]
    else:
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "pointer", "words"),
    [
        (b'{"a":1,"a":1}', "", 'the key "a" is given twice'),
        (b'{"x":[0,{"c/~":1,"c/~":2}]}', "/x/1", 'the key "c/~"'),
        (b'{"a":{"b":1,"b":2},"a":3}', "", 'the key "a"'),
        (b'{"a":1,"\\u0061":2}', "", 'the key "a"'),
        (b'{"a":"\\u003a","a":":"}', "", 'the key "a"'),
        (b"", "", "empty"),
        (b"   ", "", "empty"),
        (b'{"a":1,}', "", "line 1 column"),
        (b"[1\n,,2]", "", "line 2 column"),
        (b"[1] 2", "", "column 5"),
        (b"[01]", "", "leading zero"),
        (b"[+1]", "", "column 2"),
        (b"[.5]", "", "column 2"),
        (b"['a']", "", "column 2"),
        (b'["\t"]', "", "control character"),
        (b'["\\x41"]', "", "column"),
        (b'{"a":NaN}', "", 'NaN is not JSON; write the string "NaN": line 1 column 6'),
        (b"[Infinity]", "", '"Infinity"'),
        (b"[1, -Infinity]", "", '"-Infinity"'),
        (b'["\xff"]', "", "byte 2"),
        (b'["\xed\xa0\x80"]', "", "byte 2"),
        (b'\xef\xbb\xbf{"a":1}', "", "byte order mark"),
        ('{"a":1}'.encode("utf-16"), "", "byte 0"),
        (b'["\\ud800"]', "", "surrogate"),
        (b'["\\udc00\\ud800"]', "", "surrogate"),
    ],
)
def test_what_is_not_json_is_refused_and_named(text: bytes, pointer: str, words: str) -> None:
    where, message = refusal(text)
    assert words in message
    assert where == pointer


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":' * 200_000,
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b'{"a":[' * (MAX_DEPTH // 2) + b"[1]" + b"]}" * (MAX_DEPTH // 2),
        b'{"leaves":[{"value":' + b"[" * 200_000 + b"1" + b"]" * 200_000 + b"}]}",
    ],
)
def test_lists_and_objects_are_not_nested_without_end(text: bytes) -> None:
    assert f"more than {MAX_DEPTH} levels" in refusal(text)[1]


def test_lists_may_be_nested_to_the_limit() -> None:
    parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    parse_json(b'{"a":[' * (MAX_DEPTH // 2) + b"1" + b"]}" * (MAX_DEPTH // 2))
    parse_json(b'{"\\u003a":[' * (MAX_DEPTH // 2) + b"1" + b"]}" * (MAX_DEPTH // 2))


def test_a_number_beyond_float64_is_a_value_that_does_not_fit() -> None:
    with pytest.raises(BadValue, match="-1e400 is beyond") as caught:
        parse_json(b'{"leaves":[{"value":[0,-1e400]}]}')
    assert caught.value.errors[0].pointer == "/leaves/0/value/1"
    assert "NaN" in refusal(b"[1e400, NaN]")[1]
    assert "line 1 column" in refusal(b"[1e400,,]")[1]
    assert parse_json(b"[1e-400]") == [0.0]


@pytest.mark.parametrize(
    ("text", "pointer", "node"),
    [
        ('{"leaves":[{"id":"a"},{"id":"b","value":1,"value":2}]}', "/leaves/1", "b"),
        ('{"leaves":[{"value":1,"value":2}]}', "/leaves/0", None),
        ('{"ops":[{"id":"c","attrs":{"dim":[{"x":1,"x":2}]}}]}', "/ops/0/attrs/dim/0", "c"),
        ('{"ops":[{"id":"c","attrs":{"id":1,"id":2}}]}', "/ops/0/attrs", "c"),
        ('{"ops":[{"id":"c","id":"c"}]}', "/ops/0", None),
        ('{"ops":[{"id":"c","op":"add","op":"mul","id":"d"}]}', "/ops/0", None),
        ('{"ops":[{"id":7,"op":"add","op":"mul"}]}', "/ops/0", None),
        ('{"ops":{"0":{"id":"c","op":1,"op":2}}}', "/ops/0", None),
        ('{"ops":[{"id":"c","op":"add"}],"ops":[]}', "", None),
        ('{"backward":[{"node":"c","node":"d"}]}', "/backward/0", None),
    ],
)
def test_the_node_in_which_a_key_is_given_twice_is_named(
    text: str, pointer: str, node: str | None
) -> None:
    with pytest.raises(InvalidJson, match="given twice") as caught:
        parse_json(text.encode())
    (error,) = caught.value.errors
    assert (error.pointer, error.node) == (pointer, node)


# Long lists of numbers.


def request(value: str, before: str = '"leaves":[{"value":', after: str = ',"id":"a"}]') -> bytes:
    return ("{" + before + value + after + "}").encode()


def long_value(value: list[Any]) -> Any:
    """Return what becomes of ``value`` in a leaf of a long text."""
    text = request(json.dumps(value))
    assert len(text) >= LONG_TEXT
    document = parse_json(text)
    assert document["leaves"][0]["id"] == "a"
    return document["leaves"][0]["value"]


SHAPES = [(20_000,), (2, 10_000), (10_000, 2), (20_000, 1), (1, 1, 20_000), (30, 30, 20), (5,) * 6]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n\t", " :\r\n")])
@pytest.mark.parametrize("kind", ["floats", "integers", "mixed"])
def test_long_lists_come_as_arrays(
    shape: tuple[int, ...], separators: tuple[str, str], kind: str
) -> None:
    random = np.random.default_rng(0)
    floats, integers = random.standard_normal(shape), random.integers(-(2**63), 2**63 - 1, shape)
    plain = floats.tolist() if kind == "floats" else integers.tolist()
    if kind == "mixed":
        numbers: Any = np.where(
            random.integers(0, 2, shape) == 1, floats, np.arange(floats.size).reshape(shape)
        )
        plain = json.loads(json.dumps(numbers.tolist()).replace(".0,", ","))
    text = json.dumps({"leaves": [{"id": "a", "value": plain}]}, separators=separators)
    array = parse_json(text.encode())["leaves"][0]["value"]
    assert isinstance(array, NumberArray)
    assert array.numbers.shape == shape
    assert array.numbers.dtype == (np.int64 if kind == "integers" else np.float64)
    assert array.numbers.tolist() == plain
    assert array.tolist() == plain


def test_a_list_longer_than_a_chunk_is_read_whole() -> None:
    value: Any = np.arange(200_000).reshape(200, 10, 100).tolist()
    assert len(json.dumps(value)) > 4 * CHUNK
    array = long_value(value)
    assert isinstance(array, NumberArray)
    assert array.numbers.tolist() == value
    value[-1][-1][-1] = 0.5
    assert long_value(value).numbers.tolist() == value


@pytest.mark.parametrize(
    "odd",
    [True, None, "NaN", "x", {}, [], [1], 2**64, -(2**64), 10**22],
    ids=str,
)
@pytest.mark.parametrize("place", [0, 11_111, -1])
def test_a_list_that_is_not_all_numbers_comes_as_plain_python(odd: Any, place: int) -> None:
    value: list[Any] = [[number + 0.25 for number in range(30_000)] for _ in range(2)]
    value[1][place] = odd
    plain = long_value(value)
    assert type(plain) is list
    assert plain == value


@pytest.mark.parametrize("change", ["short", "long", "deep", "shallow", "empty"])
def test_a_ragged_list_comes_as_plain_python(change: str) -> None:
    value: list[Any] = [[row, row + 1, row + 2] for row in range(20_000)]
    changes: dict[str, Any] = {
        "short": [1, 2],
        "long": [1, 2, 3, 4],
        "deep": [[1], 2, 3],
        "shallow": 7,
        "empty": [],
    }
    value[12_345] = changes[change]
    plain = long_value(value)
    assert type(plain) is list
    assert plain == value


def test_rows_of_one_number_and_empty_rows_are_told_apart() -> None:
    value: list[Any] = [[row] for row in range(30_000)]
    assert isinstance(long_value(value), NumberArray)
    value[5] = []
    assert long_value(value) == value
    assert long_value([[]] * 30_000) == [[]] * 30_000


@pytest.mark.parametrize(
    "value",
    [
        "[{},]",
        "[,{}]",
        "[{}",
        "[{}]]",
        "[{}],[1]",
        "[[{}],[1]2]",
        "[5[,{}]]",
        "[[{},]5]",
        "[1 {}]",
        "[{}, 01]",
        "[{}, 1.]",
        "[{}, .5]",
        "[{}, 1e]",
        "[{}, --1]",
        "[{}, NaN]",
        "[{}, 1,, 2]",
        "[{} [1]]",
        "[{}] [1]",
        "-[{}]",
    ],
)
def test_a_long_text_that_is_not_json_is_refused(value: str) -> None:
    numbers = ",".join(map(str, range(100_000)))
    refusal(request(value.replace("{}", numbers)))


def test_what_surrounds_a_long_list_is_read_as_strictly_as_ever() -> None:
    numbers = json.dumps(list(range(30_000)))
    assert "given twice" in refusal(request(numbers, after=',"value":1}]'))[1]
    assert "given twice" in refusal(request(numbers, after=',"value":' + numbers + "}]"))[1]
    assert "given twice" in refusal(request(numbers, after='}],"leaves":1'))[1]
    assert "trailing comma" in refusal(request(numbers, after=",}]"))[1]
    refusal(request(numbers, after=',"id":NaN}]'))
    refusal(request(numbers, after=',"id":"\\ud800"}]'))
    with pytest.raises(BadValue, match="1e400"):
        parse_json(request(numbers, after=',"id":1e400}]'))
    assert parse_json(request(numbers, after=',"id":"\\u003a"}]'))["leaves"][0]["id"] == ":"


def test_only_values_of_leaves_and_gradients_of_roots_are_arrays() -> None:
    numbers = json.dumps(list(range(30_000)))
    plain = json.loads(numbers)
    for before, after in [
        ('"leaves":[{"values":', "}]"),
        ('"leaves":{"value":', "}"),
        ('"value":', ""),
        ('"ops":[{"attrs":{"value":', "}}]"),
        ('"leaves":[{"value":{"value":', "}}]"),
        ('"leaves":[{"gradient":', "}]"),
        ('"leaves":[{"x\\"value":', "}]"),
        ('"leaves":[{"value":[{"value":', "}]}]"),
    ]:
        text = request(numbers, before, after)
        assert parse_json(text) == json.loads(text)
    root = parse_json(request(numbers, '"backward":[{"gradient":', "}]"))["backward"][0]
    assert root["gradient"].numbers.tolist() == plain


def test_no_client_can_write_the_mark_of_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = json.dumps(list(range(30_000)))
    texts = [request(numbers, after=f',"id":"{"0" * 32} 0"}},{{"value":"{"0" * 32} 0"}}]')]
    monkeypatch.setattr(long_values, "MARK", "1" * 32)
    first, second = parse_json(texts[0])["leaves"]
    assert isinstance(first["value"], NumberArray)
    assert second["value"] == "0" * 32 + " 0"


def test_long_base64_stays_where_it_is() -> None:
    text = "AACAPw" * 20_000 + "=="
    for spelt in (text, text + "\\n", text + "\\/", text + "\u00e9", text[:5] + '\\"' + text):
        for before, after in [
            ('"leaves":[{"value_base64":', ',"id":"a"}]'),
            ('"leaves":[{"value_base64" :\n', "}]"),
            ('"backward":[{"gradient_base64":', "}]"),
            ('"ops":[{"attrs":{"value_base64":', "}}]"),
            ('"value_base64":', ""),
            ('"leaves":[{"value_base64":[', "]}]"),
        ]:
            body = request(f'"{spelt}"', before, after)
            document = parse_json(body)
            assert spelt_out(document) == json.loads(body)
            long_values.spell_out(document)
            assert document == json.loads(body)
    body = request(f'"{text}"', '"leaves":[{"value_base64":', "}]")
    view = parse_json(body)["leaves"][0]["value_base64"]
    assert isinstance(view, memoryview)
    assert view.obj is body
    assert "given twice" in refusal(request(f'"{text}"', after=',"value":1}]'))[1]
    refusal(request(f'"{text}', '"leaves":[{"value_base64":', "}]"))
    refusal(request(f'"{text}""', '"leaves":[{"value_base64":', "}]"))
    refusal(request(text, '"leaves":[{"value_base64":', "}]"))


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 3000), max_size=5), max_size=5))
def test_many_lists_in_one_text_keep_their_places(sizes: list[list[int]]) -> None:
    document: dict[str, Any] = {
        "leaves": [
            {"id": f"l{i}", "value": [[float(n)] * n for n in row]} for i, row in enumerate(sizes)
        ],
        "ops": [{"attrs": {"value": [0.5] * 9000}, "id": "x:y"}],
        "backward": [{"node": "a", "gradient": [1.5] * 9000}, {"gradient": None}],
    }
    text = orjson.dumps(document)
    parsed = parse_json(text)
    for part, key in (("leaves", "value"), ("backward", "gradient")):
        for holder in parsed[part]:
            if isinstance(holder[key], NumberArray):
                assert holder[key].numbers.tolist() == holder[key].tolist()
                holder[key] = holder[key].tolist()
    assert parsed == document
