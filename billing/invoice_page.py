"""An invoice or a credit note as one page of HTML that needs nothing else, to be read or printed (A4)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from html import escape
from typing import Literal

from billing.core.invoicing import Document, InvoiceLine, is_of_order
from common.clock import rfc3339
from common.units import format_credits

Language = Literal["en", "zh"]

WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "invoice": "Invoice",
        "credit_note": "Credit note",
        "number": "Number",
        "issued": "Issued",
        "period": "Period",
        "to": "to",
        "bill_to": "Bill to",
        "refers_to": "Adds to, or takes from",
        "project": "Project",
        "item": "Model or device",
        "meter": "What",
        "quantity": "Quantity",
        "price": "Credits per million",
        "book": "Price book",
        "amount": "Credits",
        "total": "Total",
        "unpriced": "no price",
        "note": "Each event was rounded half up to a millionth of a credit; a line is the sum of its events.",
        "prompt_tokens": "prompt tokens, not cached",
        "cached_tokens": "prompt tokens, cached",
        "completion_tokens": "completion tokens",
        "trained_tokens": "trained tokens",
        "device_seconds": "device-seconds",
        "covered_tokens": "tokens that an order has paid for",
        "covered_trained_tokens": "trained tokens that an order has paid for",
        "covered_device_seconds": "device-seconds that an order has paid for",
        "covered_microcredits": "paid by a voucher or credit, in millionths of a credit",
        "order": "order (pieces)",
        "order_refund": "refund of a cancelled order",
    },
    "zh": {
        "invoice": "账单",
        "credit_note": "贷项通知单",
        "number": "编号",
        "issued": "开具日期",
        "period": "计费周期",
        "to": "至",
        "bill_to": "付款方",
        "refers_to": "更正对象",
        "project": "项目",
        "item": "模型或设备",
        "meter": "计量项",
        "quantity": "数量",
        "price": "单价(点/百万)",
        "book": "价目表",
        "amount": "金额(点)",
        "total": "合计",
        "unpriced": "无价格",
        "note": "每笔用量四舍五入到百万分之一点;每行为其各笔之和。",
        "prompt_tokens": "输入 token(未缓存)",
        "cached_tokens": "输入 token(缓存命中)",
        "completion_tokens": "输出 token",
        "trained_tokens": "训练 token",
        "device_seconds": "设备·秒",
        "covered_tokens": "套餐已付 token",
        "covered_trained_tokens": "套餐已付训练 token",
        "covered_device_seconds": "套餐已付设备·秒",
        "covered_microcredits": "代金券或预付额已付(百万分之一点)",
        "order": "订单(件)",
        "order_refund": "取消订单退款",
    },
}
_TAGS: Mapping[Language, str] = {"en": "en", "zh": "zh-CN"}
_STYLE = """
@page { size: A4; margin: 18mm }
body { font: 10pt/1.45 system-ui, "Noto Sans SC", "Microsoft YaHei", sans-serif; color: #111;
  margin: 2em auto; max-width: 60em }
table { border-collapse: collapse; width: 100%; margin: 1.5em 0 }
th, td { text-align: left; padding: .3em .6em; border-bottom: 1px solid #ccc; vertical-align: top }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
tr { break-inside: avoid } thead { display: table-header-group }
tfoot td { font-weight: bold; border-bottom: 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1.5em } dd { margin: 0 }
p { color: #555 }
"""
_COLUMNS = ("project", "item", "meter", "quantity", "price", "book", "amount")
_NUMBERS = ("quantity", "price", "amount")


def invoice_page(document: Document, language: Language = "en") -> str:
    """The page; the same document always makes the same."""
    words = WORDS[language]
    title = f"{words[document.kind]} {document.name}"
    head = "".join(f"<dt>{escape(name)}<dd>{escape(value)}" for name, value in _facts(document, words))
    heads = "".join(f"<th{_class(name)}>{escape(words[name])}" for name in _COLUMNS)
    rows = "\n".join(_row(line, words) for line in document.lines)
    total = format_credits(document.microcredits)
    return (
        f'<!doctype html>\n<html lang="{_TAGS[language]}">\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n<h1>{escape(title)}</h1>\n<dl>{head}</dl>\n"
        f"<table>\n<thead><tr>{heads}</thead>\n<tbody>\n{rows}\n</tbody>\n"
        f'<tfoot><tr><td colspan="{len(_COLUMNS) - 1}">{escape(words["total"])}'
        f'<td class="n">{total}</tfoot>\n'
        f"</table>\n<p>{escape(words['note'])}</p>\n</html>\n"
    )


def _facts(document: Document, words: Mapping[str, str]) -> list[tuple[str, str]]:
    first, last = document.period.days()
    payer = f"{document.display_name} ({document.tenant})" if document.display_name else document.tenant
    facts = [
        (words["number"], document.name),
        (words["issued"], rfc3339(document.issued_ms)[:10]),
        (words["period"], f"{first} {words['to']} {last} ({document.period.zone})"),
        (words["bill_to"], payer),
    ]
    if document.refers_to is not None:
        facts.append((words["refers_to"], f"INV-{document.refers_to:06d}"))
    return facts


def _row(line: InvoiceLine, words: Mapping[str, str]) -> str:
    key = line.key
    cells = {
        "project": key.project,
        "item": " · ".join(part for part in (key.model, key.device_class) if part),
        "meter": words.get(key.meter, key.meter),
        "quantity": f"{line.quantity:,}",
        "price": "" if is_of_order(key) else unit_price(key.microcredits_per_million) or words["unpriced"],
        "book": key.book,
        "amount": format_credits(line.microcredits),
    }
    return "<tr>" + "".join(f"<td{_class(name)}>{escape(cells[name])}" for name in _COLUMNS)


def unit_price(microcredits_per_million: int | None) -> str:
    """Credits for a million units, exact and without needless zeros; empty where there is no price."""
    if microcredits_per_million is None:
        return ""
    return f"{Decimal(microcredits_per_million).scaleb(-6).normalize():,f}"


def _class(name: str) -> str:
    return ' class="n"' if name in _NUMBERS else ""
