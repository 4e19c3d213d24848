"""Parameters of queries and forms are read as the standard library reads them."""

from urllib.parse import parse_qsl

from hypothesis import example, given
from hypothesis import strategies as st

from skerry_registry.http.request import parameters_in

PIECES = st.sampled_from(
    [b"%", b"&", b"=", b"+", b"%22", b"%C3%A9", b"%e9", b"\xe9", b"\xc3\xa9", b"%00", b";", b"a", b"2", b"/"]
)


@example(b"filter=eq(attributes/name,%22T1%22)&option=size(3)&option=&&x")
@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_parameters_are_read_as_the_standard_library_does(text: bytes):
    assert parameters_in(text) == parse_qsl(
        text.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="replace"
    )
