"""The page of an invoice: in two languages, with every figure, and with nothing that a name could break."""

from html.parser import HTMLParser

import pytest

from billing.core.invoicing import Document, InvoiceLine, LineKey
from billing.invoice_page import WORDS, invoice_page, unit_price
from billing.months import month_of

EVIL = '<script>alert("x")</script>'
LINES = (
    InvoiceLine(LineKey("web", EVIL, "", "prompt_tokens", "standard", 3, 150_000), 1_234_567, 185_185),
    InvoiceLine(LineKey("web", "", "nvidia/H100", "device_seconds", "standard", 3, 900_000_000), 90, 81_000),
    InvoiceLine(LineKey("web", "lab/own", "", "completion_tokens"), 5, 0),
)


def document(**changes: object) -> Document:
    made = {"number": 12, "kind": "invoice", "tenant": "acme", "display_name": "Acme & Söhne"}
    made |= {"period": month_of("2026-03"), "issued_ms": 1_775_347_200_000, "lines": LINES}
    return Document(**{**made, **changes})  # type: ignore[arg-type]


class Texts(HTMLParser):
    """What a page says, and the names of its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def test_a_page_has_every_figure_and_nothing_to_run() -> None:
    page = Texts(invoice_page(document()))
    for text in ("Invoice INV-000012", "1,234,567", "0.15", "0.185185", "900", "0.081000", "0.266185"):
        assert text in page.texts, text
    assert {"2026-03-01 to 2026-03-31 (UTC)", "Acme & Söhne (acme)", EVIL, "no price"} <= set(page.texts)
    assert not {"script", "link", "img", "iframe"} & page.names


def test_a_credit_note_in_chinese_names_what_it_corrects() -> None:
    lines = (InvoiceLine(LINES[0].key, -10, -2),)
    text = invoice_page(document(kind="credit_note", lines=lines, refers_to=7, number=13), "zh")
    page = Texts(text)
    assert {"贷项通知单 CRN-000013", "INV-000007", "-0.000002", "输入 token(未缓存)"} <= set(page.texts)
    assert 'lang="zh-CN"' in text


def test_both_languages_say_the_same_things() -> None:
    assert WORDS["en"].keys() == WORDS["zh"].keys()


@pytest.mark.parametrize(
    ("price", "text"),
    [(0, "0"), (1, "0.000001"), (150_000, "0.15"), (10**7, "10"), (10**12, "1,000,000"), (None, "")],
)
def test_a_price_is_exact(price: int | None, text: str) -> None:
    assert unit_price(price) == text


@pytest.mark.parametrize("text", ["2026", "2026-3", "2026-13", "26-03", "2026-03-01", "x", "1969-12"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        month_of(text)
