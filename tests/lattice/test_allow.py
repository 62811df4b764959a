from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice.allow import WEB_PORTS, AllowList, Pattern, address, allow_list, name, shown, split


def allowed(pattern: str, host: str, port: int = 443) -> bool:
    return AllowList.parse([pattern]).allows(host, port)


@pytest.mark.parametrize("host", ["example.com", "EXAMPLE.com", "example.com.", "Example.Com."])
def test_a_name_is_the_same_in_any_case_and_with_a_dot_at_its_end(host):
    assert allowed("example.com:443", host)
    assert allowed("Example.COM.:443", host)


@pytest.mark.parametrize(
    "host",
    ["example.com.evil.test", "notexample.com", "xexample.com", "example.co", "www.example.com", "example.com..", ""],
)
def test_a_name_that_only_looks_alike_is_not_allowed(host):
    assert not allowed("example.com:443", host)


def test_a_star_before_a_name_is_every_name_below_it_but_not_the_name_itself():
    assert allowed("*.example.com:443", "a.example.com")
    assert allowed("*.example.com:443", "b.a.EXAMPLE.com.")
    assert not allowed("*.example.com:443", "example.com")
    assert not allowed("*.example.com:443", "evilexample.com")
    assert not allowed("*.example.com:443", ".example.com")


def test_names_in_other_scripts_are_compared_as_they_are_looked_up():
    assert allowed("bücher.example:443", "xn--bcher-kva.example")
    assert allowed("xn--bcher-kva.example:443", "BÜCHER.example")
    assert allowed("straße.example:443", "xn--strae-oqa.example")
    assert not allowed("straße.example:443", "strasse.example")
    assert allowed("example.com:443", "ｅｘａｍｐｌｅ．com"), "full-width letters are the same letters"
    assert not allowed("apple.com:443", "аpple.com"), "a Cyrillic letter is another letter"


def test_ports_must_match_too():
    assert not allowed("example.com:443", "example.com", 80)
    assert allowed("example.com:*", "example.com", 1)
    assert not allowed("10.0.0.0/8:5432", "10.0.0.1", 5433)
    assert AllowList.parse(["example.com"], WEB_PORTS).allows("example.com", 80)
    assert not AllowList.parse(["example.com"], WEB_PORTS).allows("example.com", 8080)
    assert not AllowList.parse(["example.com:8080"], WEB_PORTS).allows("example.com", 80)


def test_addresses_and_networks():
    assert allowed("192.0.2.7:443", "192.0.2.7")
    assert not allowed("192.0.2.7:443", "192.0.2.8")
    assert allowed("10.0.0.0/8:443", "10.255.0.1")
    assert not allowed("10.0.0.0/8:443", "11.0.0.1")
    assert allowed("[2001:db8::7]:443", "[2001:DB8:0::7]")
    assert allowed("[2001:db8::/32]:443", "[2001:db8:1::]")
    assert allowed("[2001:db8::]/32:443", "[2001:db8:1::]")
    assert not allowed("[2001:db8::/32]:443", "[2001:db9::]")
    assert not allowed("[::]/0:443", "10.0.0.1")
    assert not allowed("0.0.0.0/0:443", "[2001:db8::1]")


def test_an_ipv4_address_is_the_same_however_it_is_wrapped():
    assert allowed("10.0.0.0/8:443", "[::ffff:10.0.0.1]")
    assert allowed("[::ffff:10.0.0.1]:443", "10.0.0.1")
    assert allowed("[::ffff:10.0.0.0/104]:443", "10.9.9.9")
    assert not allowed("[::/0]:443", "[::ffff:10.0.0.1]"), "a list of IPv6 networks is no way to an IPv4 host"
    assert not allowed("[::/0]:443", "[::ffff:a00:1]")


@pytest.mark.parametrize("host", ["internal.example", "localhost", "10.0.0.1.nip.example"])
def test_a_name_is_never_allowed_by_addresses_wherever_it_may_lead(host):
    patterns = ["10.0.0.0/8:*", "127.0.0.0/8:*", "0.0.0.0/0:*", "[::/0]:*"]
    assert not AllowList.parse(patterns).allows(host, 80)
    assert AllowList.parse(patterns).for_name(host) == ()


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "0x7f.1", "１２７.１"]
)
def test_numbers_that_resolvers_take_for_addresses_are_neither_names_nor_addresses(host):
    assert not allowed("127.0.0.0/8:*", host)
    with pytest.raises(ValueError):
        name(host)
    assert not allowed("*:*", host)


def test_a_star_is_everything_with_a_name_or_an_address():
    for host in ("example.com", "10.0.0.1", "[::1]"):
        assert allowed("*:443", host)
        assert not allowed("*:443", host, 80)
    for host in ("", "a b", "user@example.com", "[10.0.0.1]", "::1", "[fe80::1%eth0]", "a/b"):
        assert not allowed("*:443", host), host


def test_an_empty_list_allows_nothing():
    assert not AllowList.parse([])
    assert not AllowList.parse([]).allows("example.com", 443)
    assert allow_list(("example.com:1",)) is allow_list(("example.com:1",))


@pytest.mark.parametrize(
    "text",
    [
        "example.com",
        "*",
        ":80",
        "a b:1",
        "::1:80",
        "[1.2.3.4]:1",
        "10.0.0.1/8:1",
        "10.0.0.0/33:1",
        "example.com/8:1",
        "example.com:70000",
        "example.com:-1",
        "example.com:http",
        "example.com:",
        "*foo.com:1",
        "a.*.com:1",
        "*.*.com:1",
        "[::1%eth0]:1",
        "https://example.com:443",
        "user@example.com:443",
        "-a.example:1",
        "x" * 64 + ".example:1",
    ],
)
def test_what_is_no_pattern_is_refused_with_the_forms_there_are(text):
    with pytest.raises(ValueError, match=r"expected HOST:PORT, such as"):
        Pattern.parse(text)


def test_authorities_are_taken_apart():
    assert split("example.com") == ("example.com", None)
    assert split("example.com:") == ("example.com", None)
    assert split("[::1]:8080") == ("[::1]", 8080)
    for text in ("", ":80", "a:b", "a:1:2", "user@a:1", "a:65536", "[::1", "a/b"):
        with pytest.raises(ValueError):
            split(text)


def test_an_address_is_shown_as_a_pattern_that_allows_it():
    for text in ("10.0.0.1", "2001:db8::1", "::1"):
        host = ipaddress.ip_address(text)
        assert AllowList.parse([shown(host, 53)]).allows_address(host, 53)
        assert address(f"[{text}]" if ":" in text else text) == host


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_address_is_allowed_by_its_own_pattern_and_by_no_other_port(host, port):
    patterns = AllowList.parse([shown(host, port)])
    assert patterns.allows_address(host, port)
    assert not patterns.allows_address(host, (port + 1) % 65536)


@given(st.text(max_size=40))
def test_no_text_breaks_the_parsers(text):
    for parse in (Pattern.parse, name, split):
        try:
            parse(text)
        except ValueError:
            pass
    AllowList.parse(["*:*"]).allows(text, 80)
