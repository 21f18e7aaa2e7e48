package main

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/deferredqueue/deferredqueue/deferred"
)

// signedFields are those of RFC 6376, section 5.4.1, that say something here. A field
// that stands twice in the list cannot be added to a signed message.
var signedFields = []string{
	"From", "From", "To", "To", "Cc", "Cc", "Subject", "Subject", "Date", "Date", "Message-ID", "Message-ID",
	"Reply-To", "Reply-To", "In-Reply-To", "References", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
	"List-Unsubscribe", "List-Unsubscribe-Post",
}

// A key signs for one domain.
type key struct {
	domain, selector string
	private          crypto.Signer
}

// A signer signs with DKIM.
type signer struct{}

// sign adds a signature as the first field. It becomes durable with the success of the
// callback, or not at all: a message that is tried again has none.
func (signer) sign(ctx context.Context, t *tenant, m *deferred.Message) error {
	s, err := dkim.NewSigner(&dkim.SignOptions{
		Domain: t.key.domain, Selector: t.key.selector, Signer: t.key.private,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
		HeaderKeys: signedFields,
	})
	if err != nil {
		return fmt.Errorf("signing for %s: %w", t.key.domain, err)
	}
	defer s.Close()
	content, err := m.Open() // with the edits so far
	if err != nil {
		return err
	}
	if _, err := io.Copy(s, content); err != nil {
		return fmt.Errorf("signing for %s: %w", t.key.domain, err)
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("signing for %s: %w", t.key.domain, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	h, err := m.Header()
	if err != nil {
		return err
	}
	h.PrependRaw([]byte(s.Signature())) // byte for byte
	return nil
}

// record is the TXT record of the domain that publishes the key.
func (k key) record() (name, value string, err error) {
	kind, public := "", []byte(nil)
	switch pub := k.private.Public().(type) {
	case ed25519.PublicKey:
		kind, public = "ed25519", pub
	case *rsa.PublicKey:
		kind = "rsa"
		if public, err = x509.MarshalPKIXPublicKey(pub); err != nil {
			return "", "", err
		}
	default:
		return "", "", fmt.Errorf("a key of type %T cannot sign mail", pub)
	}
	return k.selector + "._domainkey." + k.domain, "v=DKIM1; k=" + kind + "; p=" + base64.StdEncoding.EncodeToString(public), nil
}

// readKey reads a private key in PEM, PKCS #8, as openssl genpkey writes it.
func readKey(path string) (crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s has no PEM block", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	private, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T cannot sign", path, k)
	}
	return private, nil
}
