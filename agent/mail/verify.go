package mail

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/smime"
)

// Verdict is what is known about a signature.
type Verdict struct {
	Message    []byte // the signed content
	Signer     *x509.Certificate
	From       string            // the signer's address: that of the From field, or of the Sender field
	Sender     bool              // it is that of the Sender field, and the message is from somebody else, who did not sign it
	Remembered *x509.Certificate // the sender's encryption certificate, if it came along and is what is known now
	Reason     error             // of a nested signature that is not to be believed
}

// Verify checks that the signature fits, that the signer's certificate was made for mail and leads to a root that the
// device trusts, and that it names the sender (RFC 8550 sections 3 and 4). It then remembers the sender's encryption
// certificate, unless a later message brought one.
func (p *Program) Verify(message []byte) (*Verdict, error) {
	verified, err := smime.Verify(message)
	if err != nil {
		return nil, err
	}
	v := &Verdict{Message: verified.Message, Signer: verified.Signer}
	if v.From, v.Sender, err = fromSigner(verified); err != nil {
		return nil, err
	}
	if !apple.CanSign(v.Signer) {
		return nil, fmt.Errorf("the certificate of %s may not sign mail", v.From)
	}
	if err := p.trusted(v.Signer, verified.Certificates); err != nil {
		return nil, fmt.Errorf("the signer %s is not trusted: %w", v.From, err)
	}
	return v, p.remember(v, verified)
}

// maxAhead is how far ahead of the device's clock a signer's may be.
const maxAhead = 24 * time.Hour

// remember keeps the sender's encryption certificate, if one came along, unless a later message brought another one or
// the signing time is of the far future, which would keep every later one out (RFC 8551 section 2.5.2 has that rule for
// capabilities).
func (p *Program) remember(v *Verdict, verified *smime.Verified) error {
	cert := p.announced(verified, v.From)
	if cert == nil || verified.SigningTime.After(p.Device.Now().Add(maxAhead)) {
		return nil
	}
	kept, err := p.Contacts.Remember(v.From, cert, verified.SigningTime)
	if kept {
		v.Remembered = cert
	}
	return err
}

// By names the signer to people.
func (v *Verdict) By() string {
	if v.Sender {
		return v.From + ", who is its Sender, not by whom it is from"
	}
	return v.From
}

// fromSigner is who signed: the From field, or else the Sender field, must be in the signer's certificate (RFC 8550
// section 3).
func fromSigner(v *smime.Verified) (address string, sender bool, err error) {
	from, err := v.Header.Addresses("From")
	if err != nil {
		return "", false, err
	}
	senders, err := v.Header.Addresses("Sender")
	if err != nil {
		return "", false, err
	}
	signed := func(address string) bool { return has(v.Signer, address) }
	strange := slices.IndexFunc(from, func(address string) bool { return !signed(address) })
	switch {
	case len(from) > 0 && strange < 0:
		return from[0], false, nil
	case len(senders) == 1 && signed(senders[0]):
		return senders[0], len(from) > 0, nil
	case len(from)+len(senders) == 0:
		return "", false, errors.New("the message names no sender")
	}
	says := senders
	if len(from) > 0 {
		says = from[strange:]
	}
	return "", false, fmt.Errorf("the message says that it is from %s, but was signed by %s", says[0], strings.Join(apple.Addresses(v.Signer), ", "))
}

// trusted checks the chain at the device's time. A certificate that has expired since signed nothing today.
func (p *Program) trusted(cert *x509.Certificate, along []*x509.Certificate) error {
	roots, err := p.Device.Roots()
	if err != nil {
		return err
	}
	intermediates := x509.NewCertPool()
	for _, c := range append(slices.Clone(along), p.Device.Keychain().Certificates()...) {
		intermediates.AddCert(c)
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: p.Device.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
	})
	if err != nil {
		return err
	}
	for _, chain := range chains { // one that fits is enough
		if err = constrained(chain); err == nil {
			return nil
		}
	}
	return err
}

// maxAnnounced bounds the chains that are built for one message: anybody can put certificates into it, for those in the
// signature's bag are not signed.
const maxAnnounced = 8

// announced is the encryption certificate that the sender asks for, or another one in the message that can encrypt
// and names the sender. It must be trusted too.
func (p *Program) announced(v *smime.Verified, from string) *x509.Certificate {
	tries := 0
	for _, cert := range append([]*x509.Certificate{v.EncryptionCertificate, v.Signer}, v.Certificates...) {
		if cert == nil || !has(cert, from) || !apple.CanEncrypt(cert) {
			continue
		}
		if tries++; tries > maxAnnounced {
			return nil
		}
		if p.trusted(cert, v.Certificates) == nil {
			return cert
		}
	}
	return nil
}
