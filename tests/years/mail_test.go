package years

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/agent/mail"
	"github.com/waxseal/waxseal/agent/smime"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/testdata"
)

// letter is an encrypted mail in somebody's archive, with what is inside.
type letter struct {
	about        string
	sealed, text []byte
}

// archive is the mail that a user has got so far, by their address. Nothing is ever taken out of it.
type archive map[string][]letter

func inputs(h *house, name string) []byte {
	h.t.Helper()
	raw, err := testdata.FS.ReadFile(name)
	if err != nil {
		h.t.Fatal(err)
	}
	return raw
}

// oldMail puts mail of testdata into the archive, and imports the keys that open it.
func (s *story) oldMail(address string, keys, letters []string) {
	s.t.Helper()
	for _, name := range keys {
		s.importPFX(address, name, inputs(s.house, "pfx/"+name+".pfx"), inputs(s.house, "pfx/"+name+".password"))
	}
	for _, name := range letters {
		s.archive[address] = append(s.archive[address], letter{name, inputs(s.house, "mail/"+name+".eml"), inputs(s.house, "mail/"+name+".txt")})
	}
}

func (s *story) importPFX(address, name string, file, password []byte) {
	s.t.Helper()
	path := s.write(name+".pfx", string(file))
	s.do("waxctl", "import", "pfx", path, "--user", address, "--password-file", s.write(name+".password", string(password)))
}

// newKey gives a user the encryption certificate of a year: from a month ago for sixteen months, so that the one before
// ends in the next year, and stays. Somebody outside writes to it at once.
func (s *story) newKey(address string) {
	s.t.Helper()
	s.keys++
	now := s.now()
	id := s.mailCA.Issue(s.t, testpki.Options{CN: "Key of " + address, Emails: []string{address}, KeyUsage: x509.KeyUsageKeyEncipherment,
		NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 15, 0), Key: testpki.PoolKey(s.t, s.keys)})
	file, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: id.Key, Certificate: id.Cert}, "secret", pfx.LegacyDES)
	if err != nil {
		s.t.Fatal(err)
	}
	s.importPFX(address, fmt.Sprintf("key-%d", s.keys), file, []byte("secret"))
	s.current[address] = id.Cert
	s.post("somebody outside", address, s.plain("outside@partner.test", address))
}

// plain is a mail of today.
func (s *story) plain(from, to string) []byte {
	s.letters++
	return fmt.Appendf(nil, "From: %s\r\nTo: %s\r\nSubject: Letter %d\r\nDate: %s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nWritten on day %d.\r\n",
		from, to, s.letters, s.now().Format(time.RFC1123Z), s.day)
}

// post encrypts a mail to a user's current certificate, as anybody can, and puts it into their archive.
func (s *story) post(who, address string, message []byte) {
	s.t.Helper()
	sealed, err := smime.Encrypt(rand.Reader, message, []*x509.Certificate{s.current[address]})
	if err != nil {
		s.t.Fatal(err)
	}
	s.archive[address] = append(s.archive[address], letter{fmt.Sprintf("mail of day %d from %s", s.day, who), sealed, content(message)})
}

// content is what of a message is encrypted: its body.
func content(message []byte) []byte {
	_, body, _ := strings.Cut(string(message), "\r\n\r\n")
	return []byte(body)
}

// everybodyWrites has each device sign a mail, each other one believe the signature, and each open all mail that its user
// ever got.
func (s *story) everybodyWrites(when string) {
	s.t.Helper()
	programs := map[*gadget]*mail.Program{}
	for _, g := range s.devices {
		programs[g] = g.program()
	}
	for _, g := range s.devices {
		message := s.plain(g.user, s.other(g))
		signed, err := programs[g].Sign(message, "")
		if err != nil {
			s.t.Fatalf("day %d, %s: %s cannot sign: %v", s.day, when, g.name, err)
		}
		s.allBelieve(signed, g, programs, when)
		for _, item := range g.signers() { // a mail program takes one of them
			signed, err := smime.Sign(rand.Reader, message, smime.Signer{Certificate: item.Certificate, Key: item.Key, Chain: issuers(programs[g])}, s.now())
			if err != nil {
				s.t.Fatalf("day %d, %s: %s cannot sign: %v", s.day, when, g.name, err)
			}
			s.allBelieve(signed, g, programs, when+" with each of its keys")
			s.signed[g][item.ID()] = own(item)
		}
		s.opensAll(g, programs[g], when)
	}
}

// issuers are the issuing CAs that a device has: mail programs send them along.
func issuers(p *mail.Program) []*x509.Certificate {
	return slices.DeleteFunc(p.Device.Keychain().Certificates(), func(c *x509.Certificate) bool { return !c.IsCA || c.CheckSignatureFrom(c) == nil })
}

// allBelieve has every device check what one has signed.
func (s *story) allBelieve(signed []byte, by *gadget, programs map[*gadget]*mail.Program, when string) {
	s.t.Helper()
	for _, reader := range s.devices {
		if v, err := programs[reader].Verify(signed); err != nil {
			s.t.Fatalf("day %d, %s: %s does not believe what %s signed: %v", s.day, when, reader.name, by.name, err)
		} else if v.From != by.user {
			s.t.Fatalf("day %d, %s: %s says that %s signed what %s did", s.day, when, reader.name, v.From, by.name)
		}
	}
}

func (s *story) opensAll(g *gadget, p *mail.Program, when string) {
	s.t.Helper()
	for _, l := range s.archive[g.user] {
		out, _, err := p.Decrypt(l.sealed)
		if err != nil {
			s.t.Fatalf("day %d, %s: %s cannot open %s: %v", s.day, when, g.name, l.about, err)
		}
		if !bytes.Contains(out.Message, l.text) {
			s.t.Fatalf("day %d, %s: on %s %s reads %q", s.day, when, g.name, l.about, out.Message)
		}
	}
}

// correspond has each device encrypt a mail to the other user, who gets it, and whose sender keeps a copy.
func (s *story) correspond() {
	s.t.Helper()
	for _, g := range s.devices {
		message, to := s.plain(g.user, s.other(g)), s.other(g)
		sealed, warning, err := g.program().Encrypt(message, "", []*x509.Certificate{s.current[to]})
		if err != nil || warning != "" {
			s.t.Fatalf("day %d: %s cannot encrypt: %v %s", s.day, g.name, err, warning)
		}
		l := letter{fmt.Sprintf("mail of day %d from %s", s.day, g.name), sealed, content(message)}
		for _, address := range []string{g.user, to} {
			s.archive[address] = append(s.archive[address], l)
		}
	}
}

// other is whom the user of a device writes to.
func (s *story) other(g *gadget) string {
	if g.user == alice {
		return bob
	}
	return alice
}
