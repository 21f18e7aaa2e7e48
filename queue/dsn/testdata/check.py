# Reads a notice with Python's email package and checks what RFC 3464 and RFC 6522 ask for.
import email, email.policy, sys

m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTPUTF8)
assert not m.defects, m.defects
assert m.get_content_type() == "multipart/report", m.get_content_type()
assert m.get_param("report-type") == "delivery-status"
assert m["Auto-Submitted"] == "auto-replied" and m["MIME-Version"] == "1.0"
assert m["Date"].datetime and m["From"].addresses and m["To"].addresses and m["Message-ID"]
parts = list(m.iter_parts())
assert len(parts) == 3, len(parts)
for part in parts:
    assert not part.defects, part.defects
assert parts[0].get_content_type() == "text/plain" and parts[0].get_content()
assert parts[1].get_content_type() in ("message/delivery-status", "message/global-delivery-status")
if parts[1].get_content_type() == "message/delivery-status":
    blocks = parts[1].get_payload()
    assert blocks[0]["Reporting-MTA"] and blocks[0]["Arrival-Date"]
    assert len(blocks) == 1 + int(sys.argv[1]), len(blocks)
    for b in blocks[1:]:
        assert b["Final-Recipient"] and b["Action"] == "failed" and b["Status"][0] == "5", b.as_string()
assert parts[2].get_content_type() in ("text/rfc822-headers", "message/rfc822", "message/global", "message/global-headers")
