package mail

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/agent/smime"
	"github.com/waxseal/waxseal/internal/testpki"
)

const carol = "carol@example.com"

// foreign writes mail with OpenSSL, signed by Alice and encrypted to Bob.
type foreign struct {
	t  *testing.T
	at func(string) string
}

func newForeign(t *testing.T, a, b *person) foreign {
	return foreign{t, files(t, map[string][]byte{"alice.pem": append(a.sign.CertPEM(), a.sign.KeyPEM()...), "bob.pem": b.encrypt.CertPEM()})}
}

func (f foreign) sign(content string, args ...string) []byte {
	return tool(f.t, []byte(content), "openssl", append([]string{"cms", "-sign", "-signer", f.at("alice.pem")}, args...)...)
}

func (f foreign) seal(entity []byte, args ...string) []byte {
	return tool(f.t, entity, "openssl", append(append([]string{"cms", "-encrypt", "-aes256"}, args...), f.at("bob.pem"))...)
}

// What is inside an encryption is judged by its own header, and comes out as one message.
func TestSignedInside(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	a, b := newPerson(t, ca, alice), newPerson(t, ca, bob)
	f := newForeign(t, a, b)
	const body = "Content-Type: text/plain\n\nHello\n"
	untyped := func(message []byte) []byte { return bytes.Replace(message, []byte("smime-type=signed-data; "), nil, 1) }
	tests := map[string]struct {
		sealed []byte
		fails  string // why the signature is not to be believed
	}{
		"each with a header": {f.seal(f.sign(body, "-from", alice, "-to", bob, "-subject", "in"), "-from", alice, "-to", bob, "-subject", "out"), ""},
		"another outside":    {f.seal(f.sign(body, "-from", alice), "-from", carol, "-to", bob), ""},
		"another inside":     {f.seal(f.sign(body, "-from", carol), "-from", alice, "-to", bob), "from carol@example.com, but was signed by alice"},
		"header of content":  {f.seal(f.sign("From: "+alice+"\n"+body, "-from", alice), "-from", alice), ""},
		"opaque, untyped":    {f.seal(untyped(f.sign(body, "-nodetach")), "-from", alice, "-to", bob), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out, inside, err := b.Decrypt(tt.sealed)
			if err != nil || inside == nil {
				t.Fatalf("no verdict: %v", err)
			}
			if tt.fails != "" {
				refuses(t, inside.Reason, tt.fails)
				return
			}
			if inside.Reason != nil || inside.From != alice || inside.Sender {
				t.Errorf("%+v", inside)
			}
			for _, m := range [][]byte{out.Message, inside.Message} {
				header, _, _ := strings.Cut("\n"+string(m), "\r\n\r\n")
				if strings.Count(header, "\nFrom: ") != 1 || strings.Contains(header, carol) || strings.Contains(header, "Subject: out") {
					t.Errorf("two From fields, or a field of outside: %q", header)
				}
			}
			if _, err := b.Verify(out.Message); err != nil {
				t.Errorf("what came out: %v", err)
			}
		})
	}
}

// A header inside the signature has the last word, so that nobody reads another name than the one that signed.
func TestHeaderInsideSignature(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	a, b := newPerson(t, ca, alice), newPerson(t, ca, bob)
	f := newForeign(t, a, b)
	const body = "Content-Type: text/plain\n\nHello\n"
	if _, err := b.Verify(f.sign("From: "+carol+"\n"+body, "-from", alice)); err == nil || !strings.Contains(err.Error(), "from "+carol) {
		t.Errorf("shown as from somebody else: %v", err)
	}
	v, err := b.Verify(f.sign("From: "+alice+"\n"+body, "-from", carol))
	if err != nil || v.From != alice || bytes.Contains(v.Message, []byte(carol)) {
		t.Errorf("%+v %v", v, err)
	}
}

// A signature with the content inside is known without smime-type, and is nothing to decrypt.
func TestOpaqueWithoutType(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	a, b := newPerson(t, ca, alice), newPerson(t, ca, bob)
	f := newForeign(t, a, b)
	for name, args := range map[string][]string{"DER": nil, "BER": {"-stream"}} {
		opaque := f.sign("Content-Type: text/plain\n\nHello\n", append(args, "-nodetach", "-from", alice)...)
		untyped := bytes.Replace(opaque, []byte("smime-type=signed-data; "), nil, 1)
		if bytes.Equal(untyped, opaque) || !smime.IsSigned(untyped) {
			t.Errorf("%s: not seen as signed: %q", name, untyped)
		}
		if _, err := b.Verify(untyped); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := b.Decrypt(untyped); !errors.Is(err, smime.ErrNotEncrypted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	sealed := f.seal([]byte("Content-Type: text/plain\n\nHello\n"), "-from", alice)
	if _, _, err := b.Decrypt(bytes.Replace(sealed, []byte("smime-type=enveloped-data; "), nil, 1)); err != nil {
		t.Errorf("encrypted: %v", err)
	}
}

// The Sender may have signed in place of whom the message is from (RFC 8550 section 3); the verdict says so.
func TestSender(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	a, b := newPerson(t, ca, alice), newPerson(t, ca, bob)
	signed := string(must2(t, a.Sign, message))
	header := func(fields string) string {
		return strings.Replace(signed, "From: Alice <alice@example.com>\r\n", fields, 1)
	}
	const other, sender = "From: Carol <carol@example.com>\r\n", "Sender: Alice <alice@example.com>\r\n"
	tests := map[string]struct {
		message string
		sender  bool
		by      string // empty: it is refused
	}{
		"from":               {signed, false, alice},
		"both":               {header("From: Alice <alice@example.com>\r\n" + sender), false, alice},
		"from another one":   {header(other), false, ""},
		"sender":             {header(other + sender), true, alice + ", who is its Sender, not by whom it is from"},
		"of several":         {header("From: alice@example.com, carol@example.com\r\n" + sender), true, alice + ", who is its Sender, not by whom it is from"},
		"sender alone":       {header(sender), false, alice},
		"sender another one": {header(other + "Sender: bob@example.com\r\n"), false, ""},
	}
	for name, tt := range tests {
		v, err := b.Verify([]byte(tt.message))
		if tt.by == "" {
			refuses(t, err, "but was signed by alice@example.com")
			continue
		}
		if err != nil || v.Sender != tt.sender || v.By() != tt.by || v.From != alice {
			t.Errorf("%s: %+v %v", name, v, err)
		}
	}
}
