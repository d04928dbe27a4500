from __future__ import annotations

import contextlib
import string
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer._exceptions import ConfigurationError
from tracer._models import _MLFLOW_ALIASES, Feedback, SpanStatusCode, TraceState
from tracer.store import TraceQuery
from tracer.store.base import Store
from tracer.store.filter import parse_filter
from tracer.store.patterns import checked_pattern

from .rows import SECOND, START, batch, patch, running, simple, span, span_id, trace_id

pytest.importorskip("lark")

WORDS = ["name", "status", "tags", ".", "x", "`k`", "=", "!=", "LIKE", "RLIKE", "IN", "NOT", "AND", "OR", "(", ")", ","]
WORDS += ["'v'", "5", "-1.5e3", "IS", "NULL", "cost", "span", "type"]


async def fill(store: Store) -> Store:
    """1: plain; 2: an error, tagged; 3: running; 4: slow, two spans."""
    await store.write(
        simple(1, name="plain", model="gpt-5", usage={"input_tokens": 5, "total_tokens": 5}, cost=0.5, counted=True)
    )
    await store.write(
        simple(
            2,
            name="it's",
            state=TraceState.ERROR,
            status_code=SpanStatusCode.ERROR,
            tags={"env": "prod", "a.b c": "x", "only": ""},
            metadata={"m": "1"},
            session_id="s",
            user_id="u",
            text="a Needle in 100% hay_stack",
            attributes=b'{"server.port":443,"server.address":"api","ok":true,"list":["stop"]}',
        )
    )
    await store.write(batch([span(3, name="plain", end_time_ns=None)], [running(3, name="Plain", experiment="E")]))
    rows = [span(4), span(4, span_id=span_id(40), name="search", span_type="TOOL", model="gpt-4o", inputs=b'"query"')]
    await store.write(batch(rows, [patch(4, name="slow", tags={"env": "dev"}, end_time_ns=START + 14 * SECOND)]))
    return store


@pytest.fixture
async def filled(any_store: Store) -> Store:
    return await fill(any_store)


@pytest.mark.parametrize(
    ("filter_string", "numbers"),
    [
        # MLflow's documented forms
        ("trace.status = 'OK'", [4, 1]),
        ("status = 'ERROR'", [2]),
        ("attributes.status != 'OK'", [3, 2]),
        ("attribute.status IN ('ERROR', 'IN_PROGRESS')", [3, 2]),
        ("trace.name = 'plain'", [1]),
        ("name LIKE 'pla%'", [1]),
        ("name ILIKE 'pla%'", [3, 1]),
        ("name RLIKE '^[sp]l.w?'", [4, 1]),
        (f"trace.timestamp_ms >= {START // 10**6 + 3000}", [4, 3]),
        (f"timestamp < {START // 10**6 + 2000}", [1]),
        ("trace.execution_time_ms > 5000", [4]),
        ("tags.env = 'prod'", [2]),
        ("tag.env != 'prod'", [4]),
        ("tags.`a.b c` = 'x'", [2]),
        ('tags."a.b c" = "x"', [2]),
        ("tags.env IS NULL", [3, 1]),
        ("tags.env IS NOT NULL", [4, 2]),
        ("metadata.m = '1'", [2]),
        ("request_metadata.`m` = '2'", []),
        ("span.name = 'search'", [4]),
        ("span.type = 'TOOL' AND span.status = 'OK'", [4]),
        ("span.status = 'error'", [2]),
        ("span.attributes.`server.address` = 'api'", [2]),
        ("span.attributes.server.address LIKE '%p%'", [2]),
        ("span.attributes.server.port >= 443", [2]),
        ("span.attributes.list LIKE '%stop%'", [2]),
        ("span.content LIKE '%query%'", [4]),
        ("trace.text LIKE '%Needle%'", [2]),
        ("trace.text LIKE '%needle%'", []),
        ("trace.text ILIKE '%needle%'", [2]),
        ("text LIKE '%100[%]%'", []),
        ("text LIKE 'a %hay_stack'", [2]),
        ("tags.mlflow.traceName = 'plain'", [1]),
        ("tags.\"mlflow.traceName\" LIKE 'pla%'", [1]),
        ("tag.`mlflow.traceName` != 'plain'", [4, 3, 2]),
        ("metadata.`mlflow.trace.session` = 's'", [2]),
        ("request_metadata.mlflow.trace.user = 'u'", [2]),
        ("attributes.name = 'plain' AND attributes.execution_time < 5000", [1]),
        (f"attributes.end_time >= {START // 10**6 + 14_000}", [4]),
        ("trace.tags.env = 'prod'", [2]),
        ("attributes.usage.total_tokens = 5", [1]),
        # what goes beyond
        ("span.attributes.ok = true", [2]),
        ("span.attributes.ok = 'true'", [2]),
        ("span.attributes.ok != TRUE", []),
        ("span.attributes.ok IN (false)", []),
        ("span.attributes.`server.port` IN ('http', 443)", [2]),
        ("status = 'ERROR' OR name = 'plain'", [2, 1]),
        ("status = 'OK' AND name = 'plain' OR status = 'ERROR'", [2, 1]),
        ("status = 'OK' AND (name = 'plain' OR name = 'slow')", [4, 1]),
        ("NOT status = 'OK'", [3, 2]),
        ("NOT duration > 1", [3, 2, 1]),
        ("duration > 1.5", [4]),
        ("latency <= 0.5", [2, 1]),
        ("duration IS NULL", [3]),
        ("duration > -2", [4, 2, 1]),
        ("model = 'gpt-5'", [1]),
        ("model != 'gpt-5'", [4, 3, 2]),
        ("model IN ('gpt-5', 'gpt-4o')", [4, 1]),
        ("model NOT IN ('gpt-5')", [4, 3, 2]),
        ("model IS NULL", [3, 2]),
        ("total_tokens = 5", [1]),
        ("usage.input_tokens > 4 and cost >= 0.5", [1]),
        ("total_tokens IN (5, 6)", [1]),
        ("session_id = 's' AND user_id = 'u'", [2]),
        ("experiment = 'E'", [3]),
        # quoting
        ("name = 'it''s'", [2]),
        (r"name = 'it\'s'", [2]),
        ('name = "it\'s"', [2]),
        ("tags.only = ''", [2]),
        ("   ", [4, 3, 2, 1]),
    ],
)
async def test_a_filter_finds(filled: Store, filter_string: str, numbers: list[int]) -> None:
    page = await filled.search_traces(TraceQuery(filter_string=filter_string))
    assert [int(trace.info.trace_id, 16) for trace in page] == numbers


@pytest.mark.parametrize(
    ("filter_string", "words"),
    [
        ("statu = 'OK'", "position 1: unknown field 'statu'; did you mean 'status'?"),
        ("name = 'a' AND spam.x = 'OK'", "position 16: unknown field 'spam.x'"),
        ("run_id = 'x'", "unknown field 'run_id'"),
        ("span.nam = 'x'", "did you mean 'span.name'"),
        ("name = ", "position 8: found the end, expected 'text' in quotes or a number"),
        ("name", "found the end, expected . or = != >"),
        ("name = OK", "position 8: found 'OK', expected 'text' in quotes"),
        ("name = 'a' name", "position 12: found 'name', expected AND or OR or the end"),
        ("(name = 'a'", "found the end, expected )"),
        ("name == 'a'", "position 7: found \"= 'a'\""),
        ("name = 'a", "position 8"),
        ("name = 'a'; DROP TABLE traces", "position 11: found '; DROP TABLE traces'"),
        ("name = 5", "name is compared with text here: write '5' in quotes, got 5"),
        ("status = 'GOOD'", "status is one of IN_PROGRESS, OK, ERROR, INTERRUPTED, got 'GOOD'"),
        ("name IN ()", "position 10"),
        ("name RLIKE '('", "RLIKE needs a regular expression"),
        ("name RLIKE '(a+)+b'", "a repeated group holds a repetition"),
        ("name RLIKE '((a|b))*c'", "a repeated group holds"),
        ("name RLIKE '.*.*.*x'", "more than 2 repetitions"),
        ("name RLIKE '(a?){30}a{30}$'", "a repeated group holds a repetition"),
        ("name RLIKE '(a{0,1})+b'", "a repeated group holds a repetition"),
        ("name RLIKE '((?=a){9}){9}'", "a repeated group holds a repetition"),
        ("name RLIKE '" + "a?" * 30 + "a{30}$'", "too many choices"),
        ("name RLIKE '" + "a{0,30}" * 4 + "$'", "too many choices"),
        ("name RLIKE '" + "(a|a)" * 30 + "$'", "too many choices"),
        ("name RLIKE 'a{600}b{401}'", "repetitions of 1001 in all, at most 1000"),
        ("name RLIKE '(?x)(a+) +b'", "of the groups that begin with (?"),
        ("name RLIKE '(?P<n>a)(?P=n)'", "of the groups that begin with (?"),
        ("(" * 60 + "cost = 1" + ")" * 60, "at most 16 parentheses and NOTs, got 60"),
        ("NOT " * 60 + "cost = 1", "at most 16 parentheses and NOTs, got 60"),
        (" OR ".join(["cost = 1"] * 300), "at most 200 comparisons, got 300"),
        ("name = '" + "x" * 20_000 + "'", "at most 10,000 characters"),
    ],
)
async def test_a_wrong_filter_says_where_and_what(any_store: Store, filter_string: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await any_store.search_traces(TraceQuery(filter_string=filter_string))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "filter_string",
    [
        "(cost = 1 OR " * 16 + "tags.a = 'x'" + ")" * 16,
        "NOT " * 16 + "cost = 1",
        "cost = 2 OR " + "NOT (span.name = 'a' AND " * 8 + "tags.a = 'x'" + ")" * 8,
        " OR ".join(["cost = 1"] * 200),
        "name = '" + "x" * (10_000 - len("name = ''")) + "'",
    ],
    ids=["parentheses", "NOTs", "both", "comparisons", "characters"],
)
async def test_a_filter_at_its_limits_is_answered(any_store: Store, filter_string: str) -> None:
    assert not await any_store.search_traces(TraceQuery(filter_string=filter_string))


@pytest.mark.parametrize(
    ("filter_string", "place", "words"),
    [
        ("status > 'OK'", ">", "status has no order: compare it with = != or IN, not >"),
        ("name = 'a' AND\n  span.status <= 'OK'", "<=", "span.status has no order"),
        ("status = 5", "5", "status is one of IN_PROGRESS, OK, ERROR, INTERRUPTED, got 5"),
        ("status IN ('OK', 'BAD')", "'BAD'", "got 'BAD'"),
        ("span.status = true", "true", "span.status is one of OK, ERROR, UNSET, got true"),
        ("status = OK", "OK", "found 'OK', expected 'text' in quotes or a number; write 'OK' in quotes if it is text"),
        ("tags.ok = true", "true", "tags.ok is compared with text here: write 'true' in quotes, got true"),
        ("name IN ('a', 5)", "5", "write '5' in quotes, got 5"),
        ("name LIKE 5", "5", "write '5' in quotes, got 5"),
        ("span.attributes.x LIKE 5", "5", "write '5' in quotes, got 5"),
        ("span.attributes.ok > true", ">", "true has no order: compare it with = or !=, not >"),
        ("span.attributes.ok LIKE false", "LIKE", "false has no order"),
        ("name = 'a' AND duration = '5'", "'5'", "duration is a number of seconds: write it without quotes, got '5'"),
        ("duration > 'long'", "'long'", "duration is a number of seconds, got 'long'"),
        ("total_tokens = TRUE", "TRUE", "total_tokens is a number of tokens, got TRUE"),
        ("duration LIKE '5%'", "LIKE", "duration is a number of seconds: compare it with = != > >= < <= or IN"),
        ("timestamp_ms > '2026-01-01'", "'2026", "since= and until= of search_traces() take dates"),
        ("duration = 1e400", "1e400", "the number is too large, got 1e400"),
        ("cost > " + "9" * 5_000, "9", "the number is too large"),
        ("timestamp_ms > 1e19", "1e19", "the number is too large"),
        ("total_tokens IN (5, 9223372036854775808)", "922", "the number is too large"),
        ("span.attributes.x = -1e999", "-1e999", "the number is too large"),
        ("tags.env == 'prod'", "= 'p", "equality is a single ="),
        ("name <> 'a'", "> 'a'", "inequality is !="),
        ("name = NULL", "NULL", "write IS NULL or IS NOT NULL"),
        ("name = 'a\" AND cost > 1", "'a", "this quote is never closed"),
        ("name = \u201ca\u201d", "\u201ca", "text stands in straight quotes"),
        ("duration > 5s", "s", "write a number without unit and separators"),
        ("duration > 1,000", ",000", "write a number without unit and separators"),
        ("name = 'a' && cost > 1", "&&", "write AND"),
        ("name = 'a' || cost > 1", "||", "write OR"),
        ("duration BETWEEN 1 AND 2", "BETWEEN", "write … >= low AND … <= high"),
        ("name NOT LIKE 'x'", "LIKE", "write the NOT before the field"),
        ("'a' = name", "'a'", "the field comes first"),
        ("name IN 'a'", "'a'", "IN takes a list in parentheses"),
        ("cost > 1 AND tags = 'a'", "tags", "tags needs a name behind it: tags.<key>"),
        ("cost > 1 OR span = 'a'", "span", "span needs a name behind it: span.name"),
        ("span.name RLIKE '('", "'('", "RLIKE needs a regular expression that is quick to search"),
    ],
)
def test_a_wrong_filter_is_marked_where_it_is_wrong(filter_string: str, place: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_filter(filter_string)
    message, line, mark = str(caught.value).rsplit("\n", 2)
    assert words in message
    assert line[mark.index("^") :].startswith(place[:50]), str(caught.value)
    assert filter_string[int(message.split("position ")[1].split(":")[0]) - 1 :].startswith(place)


@pytest.mark.parametrize(
    ("filter_string", "words"),
    [
        ("(" * 17 + "cost = 1" + ")" * 17, "at most 16 parentheses and NOTs, got 17"),
        ("NOT " * 16 + "(cost = 1)", "at most 16 parentheses and NOTs, got 17"),
        (" OR ".join(["cost = 1"] * 201), "at most 200 comparisons, got 201"),
        (" and ".join(["cost = 1"] * 201), "at most 200 comparisons, got 201"),
        ("name = '" + "x" * (10_001 - len("name = ''")) + "'", "at most 10,000 characters, got 10,001"),
        ("total_tokens > -9223372036854775808", "the number is too large"),
    ],
)
def test_a_filter_just_beyond_a_limit_is_refused(filter_string: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_filter(filter_string)


def test_the_line_around_a_mistake_has_60_characters_on_both_sides() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_filter("name = '" + "x" * 100 + "' AND statu = '" + "y" * 100 + "'")
    _, line, mark = str(caught.value).split("\n")
    assert mark == " " * 64 + "^"
    assert line == "    " + "x" * 54 + "' AND " + "statu = '" + "y" * 51


def test_of_a_long_filter_the_part_around_the_mistake_is_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_filter("name = 'a' OR " * 100 + "statu = 'OK'" + " OR name = 'a'" * 50)
    _, line, mark = str(caught.value).split("\n")
    assert line[mark.index("^") :].startswith("statu = 'OK'")
    assert len(line) < 150


@pytest.mark.parametrize(
    "pattern",
    [
        r"^https?://.*\.com/.*",
        r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}",
        r"v\d+(\.\d+)?$",
        r"^(gpt-4|gpt-5(-mini)?|o[134]|claude|gemini|mistral|llama)$",
        r"(?i)error|(?:time|timed) ?out|fail(ed|ure)?",
        r"(ab)+[*?{]{2,}a{,3}{}[)]\)",
    ],
)
def test_ordinary_patterns_are_accepted(pattern: str) -> None:
    assert checked_pattern(pattern) == pattern


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(
        st.text(alphabet=string.printable, max_size=40),
        st.lists(
            st.sampled_from(WORDS),
            max_size=12,
        ).map(" ".join),
    )
)
async def test_any_text_is_either_a_filter_or_a_configuration_error(filled: Store, text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        await filled.search_traces(TraceQuery(filter_string=text))


def test_without_lark_the_message_names_the_extra() -> None:
    script = """
import sys
sys.modules["lark"] = None
from tracer.store.filter import parse_filter
try:
    parse_filter("name = 'x'")
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'openai-tracer[search]'" in done.stdout


@pytest.mark.parametrize(
    ("stored", "pattern", "hit"),
    [
        ("ÉCOLE", "école%", True),
        ("ÉCOLE", "ecole%", False),
        ("Die Straße", "%STRASSE", True),
        ("DIE STRASSE", "%straße", True),
        ("Москва", "МОСК%", True),
        ("e\u0301cole", "ÉCOLE", True),
        ("１００％", "１００％", True),
        ("１００x", "１００％", False),
        ("chess", "CHE__", True),
        ("天気ABC", "天気a_c", True),
    ],
)
async def test_ilike_ignores_the_case_of_all_letters(any_store: Store, stored: str, pattern: str, hit: bool) -> None:
    attributes = msgspec.json.encode({"k": stored, "other": 5})
    await any_store.write(simple(1, name=stored, attributes=attributes))
    for field in ("name", "span.name", "span.attributes.k"):
        page = await any_store.search_traces(TraceQuery(filter_string=f"{field} ILIKE '{pattern}'"))
        assert bool(page) is hit, field
    assert not await any_store.search_traces(TraceQuery(filter_string=f"span.attributes.none ILIKE '{pattern}'"))


async def test_half_a_surrogate_pair_is_found_nowhere(any_store: Store) -> None:
    assert await any_store.search_traces(TraceQuery(filter_string="name = 'x\ud800'")) == []


async def test_traces_are_found_by_what_they_lost(any_store: Store) -> None:
    await any_store.write(simple(1, dropped={"queue_full": 3, "chunks": 1}))
    await any_store.write(simple(2, dropped={"chunks": 8}))
    await any_store.write(simple(3))
    for text, numbers in {
        "dropped.chunks > 0": [2, 1],
        "dropped.queue_full >= 3": [1],
        "dropped.chunks > 1": [2],
    }.items():
        page = await any_store.search_traces(TraceQuery(filter_string=text))
        assert [int(trace.info.trace_id, 16) for trace in page] == numbers, text


MIXED = (0.9, 0.1, "n/a", "", "0.95", [1], True, None, {"a": 1}, 5)


@pytest.mark.parametrize(
    ("compared", "values"),
    [
        ("> 0.5", [0.9, 5]),
        (">= 0.1", [0.9, 0.1, 5]),
        ("< 100", [0.9, 0.1, 5]),
        ("= 1", []),
        ("= 5.0", [5]),
        ("!= 5", [0.9, 0.1]),
        ("IN (1, 0.9, 5.0)", [0.9, 5]),
        ("NOT IN (1, 0.9)", [0.1, 5]),
        ("= '0.95'", ["0.95"]),
        ("= '0.9'", [0.9]),
        ("IN ('n/a', 5.0)", ["n/a", 5]),
        ("NOT IN ('n/a', 5.0, true, 0.95)", [0.9, 0.1, "", "0.95", [1], {"a": 1}]),
        ("= true", [True]),
        ("LIKE '%1%'", [0.1, [1], {"a": 1}]),
    ],
)
async def test_numbers_are_compared_with_numbers_only(any_store: Store, compared: str, values: list[Any]) -> None:
    for number, value in enumerate(MIXED):
        await any_store.write(simple(number, attributes=msgspec.json.encode({"score": value})))
    page = await any_store.search_traces(
        TraceQuery(filter_string=f"span.attributes.score {compared}", order_by="start_time")
    )
    assert [MIXED[int(trace.info.trace_id, 16)] for trace in page] == values


async def test_feedback_compares_numbers_with_numbers_only(any_store: Store) -> None:
    values: tuple[bool | float | str, ...] = (0.9, 0.1, "n/a", "0.95", True, 5)
    for number, value in enumerate(values):
        await any_store.write(simple(number))
        told = Feedback(id=f"f{number}", trace_id=trace_id(number), name="score", value=value, created_ns=1)
        await any_store.add_feedback(told)
    for compared, expected in (("> 0.5", [0.9, 5]), ("IN ('n/a', 5.0)", ["n/a", 5]), ("= '0.95'", ["0.95"])):
        query = TraceQuery(filter_string=f"feedback.score {compared}", order_by="start_time")
        found = [values[int(trace.info.trace_id, 16)] for trace in await any_store.search_traces(query)]
        assert found == expected, compared


CALL = {
    "span_type": "CHAT_MODEL",
    "cost": 0.25,
    "counted": True,
    "inputs": b'{"messages":[{"role":"user","content":"hi"}]}',
    "outputs": b'"yes"',
    "attributes": b'{"gen_ai.request.model":"gpt-5","gen_ai.provider.name":"openai","tracer.operation":"chat",'
    b'"gen_ai.tool.definitions":[{"name":"look_up"}],"code.function.name":"app.Agent.ask"}',
    "usage": {"total_tokens": 5},
}


@pytest.mark.parametrize("alias", sorted(_MLFLOW_ALIASES))
async def test_what_mlflows_keys_mean_is_found_or_refused(any_store: Store, alias: str) -> None:
    """Each alias of `Span.get_attribute`: a filter finds what it answers, or says what to write instead."""
    await any_store.write(simple(1, **CALL))
    await any_store.write(simple(2, span_type="TOOL"))
    field = f"span.attributes.{alias}"
    value = (await any_store.get_trace(trace_id(1))).data.spans[0].get_attribute(alias)
    assert value is not None
    if alias == "mlflow.chat.tokenUsage":
        with pytest.raises(ConfigurationError, match=r"write usage\.input_tokens"):
            parse_filter(f"{field} = 'x'")
        return
    wanted = value["total_cost"] if alias == "mlflow.llm.cost" else _quoted(value)
    query = TraceQuery(filter_string=f"{field} = {wanted}")
    assert [trace.info.trace_id for trace in await any_store.search_traces(query)] == [trace_id(1)]
    query = TraceQuery(filter_string=f"{field} = 'something else' OR {field} > 100")
    assert await any_store.search_traces(query) == []


def _quoted(value: Any) -> str:
    return f"'{value if isinstance(value, str) else msgspec.json.encode(value).decode()}'"


@pytest.mark.parametrize(
    ("span_type", "attributes"),
    [
        ("CHAT_MODEL", b'{"gen_ai.operation.name":"chat"}'),
        ("UNKNOWN", b'{"tracer.operation":"decisions","code.function.name":"ask"}'),
        ("EMBEDDING", b'{"tracer.operation":"embeddings"}'),
        ("TOOL", b'{"gen_ai.operation.name":"chat","code.function.name":"a.a.b"}'),
    ],
)
async def test_forms_and_functions_are_those_of_the_span(any_store: Store, span_type: str, attributes: bytes) -> None:
    await any_store.write(simple(1, span_type=span_type, attributes=attributes))
    for alias in ("mlflow.message.format", "mlflow.spanFunctionName"):
        value = (await any_store.get_trace(trace_id(1))).data.spans[0].get_attribute(alias)
        test = "IS NULL" if value is None else f"= '{value}'"
        assert await any_store.search_traces(TraceQuery(filter_string=f"span.attributes.{alias} {test}")), (
            alias,
            value,
        )


async def test_a_key_of_mlflows_that_was_set_is_found_as_it_was_set(any_store: Store) -> None:
    await any_store.write(simple(1, span_type="TOOL", attributes=b'{"mlflow.spanType":"MINE"}'))
    await any_store.write(simple(2, span_type="TOOL"))
    for value, number in (("MINE", 1), ("TOOL", 2)):
        page = await any_store.search_traces(TraceQuery(filter_string=f"span.attributes.mlflow.spanType = '{value}'"))
        assert [trace.info.trace_id for trace in page] == [trace_id(number)]


@pytest.mark.parametrize(
    "key", ["mlflow.chat.tokenUsage", "mlflow.chat.tokenUsage.total_tokens", "mlflow.chunk.item.0"]
)
def test_a_key_of_mlflows_that_cant_be_compared_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"position 1: span.attributes.{key} can't be compared: .*write "):
        parse_filter(f"span.attributes.`{key}` > 0")


@pytest.mark.parametrize(
    ("filter_string", "numbers"),
    [
        ("error = 'RateLimitError'", [1]),
        ("error LIKE '%slow down%'", [1]),
        ("error ILIKE '%ratelimit%'", [1]),
        ("error IS NOT NULL", [2, 1]),
        ("error IS NULL", [4, 3]),
        ("error != 'RateLimitError'", [4, 3, 2]),
        ("trace.error RLIKE '^Rate'", [1]),
        ("finish = 'failed'", [2, 1]),
        ("finish IN ('Incomplete', 'abandoned')", [3]),
        ("span.finish != 'failed'", [4, 3]),
        ("time_to_first_token > 0.5", [3]),
        ("time_to_first_token IS NULL AND trace.time_to_first_token IS NULL", [4, 2, 1]),
        ("span_type = 'TOOL'", [4]),
        ("trace.span_type != 'TOOL'", [3, 2, 1]),
        ("tool = 'get_weather'", [4, 3]),
        ("tool = 'weather'", [4]),
        ("tool LIKE 'get%' AND tool IN ('look_up')", [3]),
        ("tool IS NULL", [2, 1]),
        ("tool != 'get_weather'", [2, 1]),
    ],
)
async def test_what_a_trace_met_with_is_a_field_of_it(any_store: Store, filter_string: str, numbers: list[int]) -> None:
    failed: dict[str, Any] = {"status_code": SpanStatusCode.ERROR, "finish": "failed", "state": TraceState.ERROR}
    told = "RateLimitError: please slow down"
    await any_store.write(simple(1, **failed, status_description=told, attributes=b'{"error.type":"RateLimitError"}'))
    await any_store.write(simple(2, **failed))
    asked = b'{"tracer.time_to_first_token":0.75,"tracer.tool_calls":[{"name":"get_weather"},{"name":"look_up"}]}'
    await any_store.write(simple(3, model="gpt-5", finish="incomplete", status_description="cut off", attributes=asked))
    tool = {"span_type": "TOOL", "attributes": b'{"gen_ai.tool.name":"get_weather"}'}
    await any_store.write(batch([span(4, name="weather", finish="completed", **tool)], [patch(4)]))
    page = await any_store.search_traces(TraceQuery(filter_string=filter_string))
    assert [int(trace.info.trace_id, 16) for trace in page] == numbers


@pytest.mark.parametrize(
    ("filter_string", "words"),
    [
        ("finish = 'stop'", "finish is one of completed, incomplete, failed, cancelled, abandoned, got 'stop'"),
        ("finish > 'failed'", "finish has no order"),
        ("time_to_first_token > '1'", "time_to_first_token is a number of seconds: write it without quotes"),
        ("eror = 'x'", "did you mean 'error'"),
    ],
)
def test_a_wrong_value_of_such_a_field_is_refused(filter_string: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_filter(filter_string)
