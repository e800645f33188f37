"""Texts that a model, or a data set, may hold to break a page."""

from __future__ import annotations

HOSTILE = (
    "<script>alert('pwned')</script>",
    "</template></details></main><img src=x onerror=alert(1)>",
    "| a | b |\n| --- | --- |\n| c | d |",
    "```\n</details>\n# A heading of mine\n````text\n<b>bold</b>",
    "[click me](javascript:alert(1)) ![x](http://example.com/x.png)",
    "safe \u202egnihtemos\u202c \u2066hidden\u2069 \u200b\u00ad",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "@somebody #12 https://example.com www.example.com",
    "a\x00b\x1b[31mred",
    "",
)
MEGABYTE = "word " * 200_000
