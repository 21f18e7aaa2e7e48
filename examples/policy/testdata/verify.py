# Verifies the DKIM signature of the message on standard input; the arguments are the
# name and the value of the TXT record that the key is in.
import sys, dkim

name, value = sys.argv[1].encode(), sys.argv[2].encode()
print(dkim.verify(sys.stdin.buffer.read(), dnsfunc=lambda n, timeout=5: value if n == name else None))
