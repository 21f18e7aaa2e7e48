# Reads notices with Python's email package and checks what RFC 3464 and RFC 6522 ask for.
# Each line of the input is JSON: the notice in base64, and what it reports.
import base64, email, email.policy, json, sys

# What the package says of addresses that are UTF-8, which it does not read from octets.
OF_UTF8 = {"NonASCIILocalPartDefect", "UndecodableBytesDefect"}

# What is right, but of the past.
OF_THE_PAST = {"ObsoleteHeaderDefect"}


def fields(message, *names, fine=frozenset()):
    for name in names:
        values = message.get_all(name, [])
        assert len(values) == 1 and values[0], (name, values)
        found = {type(d).__name__ for d in values[0].defects} - fine
        assert not found, (name, str(values[0]), values[0].defects)


def blocks(raw, boundary):
    """The blocks of the second part, as the fields between its empty lines."""
    body = raw.split(b"\r\n--" + boundary)[2].split(b"\r\n\r\n", 1)[1]
    return [email.message_from_bytes(b + b"\r\n\r\n", policy=email.policy.SMTPUTF8) for b in body.rstrip(b"\r\n").split(b"\r\n\r\n")]


def check(raw, want):
    m = email.message_from_bytes(raw, policy=email.policy.SMTPUTF8)
    assert not m.defects, m.defects
    assert m.get_content_type() == "multipart/report", m.get_content_type()
    assert m.get_param("report-type") == "delivery-status"
    fine = OF_THE_PAST | (OF_UTF8 if want["utf8"] else set())
    fields(m, "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type", fine=fine)
    assert m["Auto-Submitted"] == "auto-replied" and m["MIME-Version"] == "1.0"
    assert m["Date"].datetime and m["From"].addresses and (m["To"].addresses or m["To"].groups)

    parts = list(m.iter_parts())
    assert len(parts) == want["parts"], len(parts)
    for part in parts:
        assert not part.defects, part.defects
    assert parts[0].get_content_type() == "text/plain" and parts[0].get_content()
    kind = "message/global-delivery-status" if want["utf8"] else "message/delivery-status"
    assert parts[1].get_content_type() == kind, parts[1].get_content_type()

    about, *recipients = blocks(raw, m.get_boundary().encode())
    assert about["Reporting-MTA"] and about["Arrival-Date"], about.as_string()
    assert len(recipients) == want["recipients"], len(recipients)
    if kind == "message/delivery-status":
        assert len(parts[1].get_payload()) == 1 + want["recipients"]
    for b in recipients:
        assert not b.defects, b.defects
        assert b["Final-Recipient"] and b["Action"] == want["action"] and b["Status"][0] in want["class"], b.keys()

    if len(parts) == 3:
        kind = parts[2].get_content_type()
        assert kind in ("text/rfc822-headers", "message/rfc822", "message/global", "message/global-headers"), kind
        encoding = parts[2]["Content-Transfer-Encoding"]
        assert encoding != "8bit" or m["Content-Transfer-Encoding"] == "8bit", encoding
        if want["returned"]:
            assert kind == "message/rfc822" and base64.b64decode(want["returned"]) in raw, kind


failed = 0
for number, line in enumerate(sys.stdin):
    want = json.loads(line)
    try:
        check(base64.b64decode(want["notice"]), want)
    except Exception as e:
        failed += 1
        print("notice %d: %s: %r" % (number, type(e).__name__, e))
print("%d notices were read" % (number + 1))
sys.exit(failed > 0)
