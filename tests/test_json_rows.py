import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.json_rows import read_objects

FIELDS = {"name": pa.string(), "amount": pa.float64(), "zip": pa.string()}
SCHEMAS = [pa.schema(FIELDS), pa.schema(FIELDS | {"zip": pa.int64()})]
KINDS = {"name": str, "amount": (int, float), "zip": (str, int)}


def good(n):
    return json.dumps({"name": f"n {n}", "amount": n / 8, "other": {"deep": [n]}, "zip": f"{n}"})


NO_JSON = [
    "", " ", "{", "}", "{]", "nothing", "{nothing}", '{"amount": 1,}', '{"amount": 01}', "{,}",
    '{"amount": 1.}', '{"amount": .5}', '{"amount": +1}', '{"amount": 0x1}', '{"amount": 1_0}',
    '{"amount": -}', '{"amount": 1e}', "{'amount': 1}", '{"amount": 1} // }', '{"amount": 1}}',
    '{"name": "a\tb"}', '{"name": "a\nb"}', '{"name": "a\x00b"}', '{"other": "a\tb"}', '{"name": "\\q"}',
    '{"other": "\\q"}', '{"name": "\\u12"}', '{"name" "a"}', '{"name": "a" "zip": "b"}', "{1: 2}",
    '{"amount": 1}{"amount": 2}', '{"amount": 1} {"amount": 2}', '{"amount": 1}\r{"amount": 2}',
    '{"amount": 1}\n{"amount": 2}', '{"amount": 1}, {"amount": 2}', '{"amount": 1}\x00}',
    '{"other": nul}', '{"other": True}', '{"other": [1, 2}', '{"other": 01}', "{}{}", "{}\x00{}",
    '\ufeff{"amount": 1}', '{\xa0"amount": 1}', '{"amount": Inf}', '{"other": Inf}', '{"other":Inf}',
    '{"other": -Inf}', '{"other": [1,Inf]}', '{"other": [Inf]}', '{"other": -NaN}', '{"amount":-NaN}',
    '{"other": nan}', '{"other":\tInf}', '{"other": ' + 5000 * "9" + "}", '{"other": 1\x00}',
]  # fmt: skip

ODD_JSON = [
    "{}", "{ }", ' {"amount": 1}', '{"amount": 1} ', '{\n"amount": 1\n}', '{\r\t"amount": 1}', "[]",
    "[{}]", "null", '"{}"', "1", '{"amount": null, "name": null}', '{"zip": 7}', '{"zip": -0}',
    '{"zip": 9223372036854775807}', '{"zip": 9223372036854775808}', '{"zip": 1e3}', '{"zip": 1.0}',
    '{"zip": true}', '{"zip": ""}', '{"zip": []}', '{"zip": "7"}', '{"amount": "1"}', '{"amount": true}',
    '{"amount": {}}', '{"amount": [1]}', '{"amount": NaN}', '{"amount": Infinity}', '{"other": NaN}',
    '{"amount": -Infinity}', '{"other": -Infinity}', '{"amount": 1e400}', '{"amount": 1e-400}',
    '{"amount": -0}', '{"amount": 9007199254740993}', '{"amount": 1.7976931348623159e308}',
    '{"amount": ' + 400 * "9" + "}", '{"amount": 0.' + 4000 * "1" + "}", '{"amount": 2.5E-3}',
    '{"amount": 1, "amount": 2}', '{"amount": 1, "amount": null}', '{"amount": null, "amount": 1}',
    '{"name": "a", "name": 1}', '{"other": 1, "other": 2}', '{"other": {"a": 1, "a": 2}}',
    '{"\\u006eame": "a"}', '{"name": "\\u0000"}', '{"name": "\\ud83c\\udca1"}', '{"name": "\\ud800"}',
    '{"other": "\\ud800"}', '{"name": "🂡ß…\u2028\x7f"}', '{"name": "} {\\n"}', '{"name": {"a": 1}}',
    '{"name": 1}', '{"name": false}', '{"name": "Inf, Info"}', '{"name": " Infantry -NaN"}',
    '{"other": [[[[{"name": 1}]]]]}', '{"other": "\\u00e9", "name": "\\/"}', '{"": 1}',
    '{"other": ' + 500 * "[" + 500 * "]" + "}", '{"NAME": "a"}', '{"name\\u0000": "a"}',
]  # fmt: skip


def value_of(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def same(field, told, read):
    if told is None or read is None:
        return told is read
    if field == "amount":
        try:
            told = float(told)
        except OverflowError:
            told = math.inf
        return told == read or (math.isnan(told) and math.isnan(read))
    return read == (told if isinstance(told, str) else str(told))


def check(texts, schemas=SCHEMAS):
    """The places that are taken: none twice, each with the values that ``json.loads`` gives."""
    table, places, _ = read_objects(pa.array(texts, pa.string()), schemas)
    assert table.schema == schemas[0]
    assert len(table) == len(places) == len(set(places.tolist()))
    for row, place in zip(table.to_pylist(), places.tolist(), strict=True):
        told = value_of(texts[place])
        assert isinstance(told, dict), f"taken, though no JSON object: {texts[place][:80]!r}"
        for field, read in row.items():
            told_value = told.get(field)
            is_kind = told_value is None or isinstance(told_value, KINDS[field])
            assert is_kind, texts[place]
            assert not isinstance(told_value, bool), texts[place]
            assert same(field, told_value, read), f"{texts[place][:80]!r} read as {read!r}"
    return set(places.tolist())


@pytest.mark.parametrize("text", NO_JSON + ODD_JSON)
def test_a_text_alone_is_read_as_json_reads_it_or_left(text):
    check([text])


@pytest.mark.parametrize("text", NO_JSON)
def test_a_text_that_is_no_json_is_left_whatever_stands_beside_it(text):
    others = [good(1), good(2)]
    for texts in ([text, *others], [*others, text], [others[0], text, others[1]], [text, text]):
        assert not check(texts) & {n for n, one in enumerate(texts) if one == text}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_rows_too_many_in_one_text_do_not_make_up_for_rows_missing_in_another(number):
    doubles = ['{"amount": 1}{"amount": 2}', '{"amount": 1} {"amount": 2}', "{}\t{}"]
    lost = ["", " ", "\t", "{}\x00}", "{\x00}", "\x00"]
    for double in doubles:
        for missing in lost:
            for texts in ([double, missing], [missing, double]):
                assert check([good(0), *texts * number, good(1)]) <= {0, 2 * number + 1}


def test_plain_objects_are_all_taken_in_one_go():
    assert len(check([good(n) for n in range(3000)])) == 3000
    assert len(check(['{"zip": 7}'] * 3000)) == 3000


def test_odd_texts_among_thousands_cost_only_their_surroundings():
    texts = [good(n) for n in range(20_000)]
    odd = dict(zip(range(2_500, 20_000, 97), NO_JSON + ODD_JSON, strict=False))
    for at, text in odd.items():
        texts[at] = text
    taken = check(texts)
    assert set(range(2_400)) <= taken
    assert set(range(14_000, 20_000)) <= taken
    assert not taken & {at for at, text in odd.items() if text in NO_JSON}


def test_objects_however_deep_do_no_harm():
    deep = 100_000 * "["
    check([good(0), '{"amount": ' + deep + "}", '{"name": ' + deep + 100_000 * "]" + "}", good(1)])


def test_blocks_of_either_type_are_taken_as_the_first():
    texts = ['{"zip": "01"}'] * 100 + ['{"zip": 1}'] * 100
    table, places, _ = read_objects(pa.array(texts, pa.string()), SCHEMAS)
    assert table.schema == SCHEMAS[0]
    zips = dict(zip(places.tolist(), table["zip"].to_pylist(), strict=True))
    assert len(zips) > 100
    assert all(zips[n] == ("01" if n < 100 else "1") for n in zips)


@pytest.mark.parametrize("texts", [[], [""], ["[]", "x"]])
def test_nothing_to_take_is_an_empty_table(texts):
    table, places, _ = read_objects(pa.array(texts, pa.string()), SCHEMAS)
    assert table.schema == SCHEMAS[0]
    assert (len(table), len(places)) == (0, 0)
    assert places.dtype == np.intp


def test_a_slice_of_texts_is_read_from_its_own_beginning():
    texts = pa.array([good(n) for n in range(300)], pa.string())
    for part in (texts.slice(100, 50), texts.slice(100)):
        table, places, _ = read_objects(part, SCHEMAS)
        names = dict(zip(places.tolist(), table["name"].to_pylist(), strict=True))
        assert names == {n: f"n {100 + n}" for n in range(len(part))}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
objects = st.builds(
    lambda some, ascii: json.dumps(some, ensure_ascii=ascii),
    st.dictionaries(st.sampled_from([*FIELDS, "other"]), values, max_size=4),
    st.booleans(),
)
pieces = st.sampled_from(
    ["{", "}", '"', ":", ",", "1", "[", "]", "\n", " ", "\\", "\x00", "Inf", "}{"]
)


def broken(text, at, piece):
    return text[: at % (len(text) + 1)] + piece + text[at % (len(text) + 1) :]


@settings(max_examples=60, deadline=None)
@given(st.lists(objects | st.builds(broken, objects, st.integers(0, 99), pieces), max_size=6))
@example(['{"name": "\x7f"}', '{"amount": 5e-324}'])
def test_any_texts_are_read_as_json_reads_them_or_left(texts):
    for text in texts:
        check([text])
    check([good(0), *texts, *texts, good(1)])
