package apple

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// required reads a key of a payload that must be there and have the right type (2002 and 2003).
func required[T any](p payload, key string) (T, error) {
	value, there := p.dict[key]
	typed, ok := value.(T)
	switch {
	case !there:
		return typed, fail(domainPayload, 2002, "payload %s (%s) lacks the required key %s", p.id(), p.kind(), key)
	case !ok:
		return typed, fail(domainPayload, 2003, "%s of payload %s (%s) has the wrong type", key, p.id(), p.kind())
	}
	return typed, nil
}

// certificate installs a root, pkcs1 or pem payload. Roots that come in a profile are trusted.
func (in *installation) certificate(p payload) error {
	data, err := required[[]byte](p, "PayloadContent")
	if err != nil {
		return err
	}
	cert, err := oneCertificate(data)
	if err != nil {
		return fail(domainCertificate, certificateCode(err), "payload %s: %v", p.id(), err)
	}
	trusted := cert.IsCA && bytes.Equal(cert.RawIssuer, cert.RawSubject)
	return in.add(keychain.Item{Certificate: cert, Trusted: trusted}, p)
}

var errSeveral = errors.New("more than one certificate in one payload")

func certificateCode(err error) int {
	if errors.Is(err, errSeveral) {
		return 9001
	}
	return 9005
}

// oneCertificate reads DER or PEM.
func oneCertificate(data []byte) (*x509.Certificate, error) {
	if block, rest := pem.Decode(data); block != nil {
		if next, _ := pem.Decode(rest); next != nil {
			return nil, errSeveral
		}
		data = block.Bytes
	}
	certs, err := x509.ParseCertificates(data)
	if err != nil {
		return nil, errors.New("malformed certificate")
	}
	if len(certs) > 1 {
		return nil, errSeveral
	}
	return certs[0], nil
}

// pkcs12 installs an identity. A wrong password and an algorithm that the device's importer does not know look the
// same from outside, 9000; the text tells them apart. What is no identity by the importer's rules is 9006.
func (in *installation) pkcs12(p payload) error {
	data, err := required[[]byte](p, "PayloadContent")
	if err != nil {
		return err
	}
	password, hasPassword := p.dict["Password"].(string)
	if !hasPassword {
		return fail(domainCertificate, 9000, "payload %s has no Password, and nobody is there to type it", p.id())
	}
	if err := importable(data, in.device.state.Info); err != nil {
		return fail(domainCertificate, importCode(err), "payload %s: %v", p.id(), err)
	}
	identities, err := pfx.DecodeTied(data, password)
	if err != nil {
		return fail(domainCertificate, pfxCode(err), "payload %s: %v", p.id(), err)
	}
	if len(identities) != 1 {
		return fail(domainCertificate, 9001, "payload %s holds %d identities; one is allowed", p.id(), len(identities))
	}
	return in.addIdentity(identities[0], p)
}

func (in *installation) addIdentity(identity pfx.Identity, p payload) error {
	key, err := importableKey(identity.PrivateKey)
	if err != nil {
		return fail(domainCertificate, 9005, "payload %s: %v", p.id(), err)
	}
	if err := in.add(keychain.Item{Certificate: identity.Certificate, Key: key}, p); err != nil {
		return err
	}
	for _, cert := range chainOf(identity.Certificate, identity.Chain) {
		if err := in.add(keychain.Item{Certificate: cert}, p); err != nil {
			return err
		}
	}
	return nil
}

// chainOf keeps of the certificates those in the leaf's chain; iOS drops the others.
func chainOf(leaf *x509.Certificate, certs []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for current := leaf; len(out) < len(certs); {
		next := issuerOf(current, certs)
		if next == nil || next.Equal(current) {
			return out
		}
		out = append(out, next)
		current = next
	}
	return out
}

func issuerOf(cert *x509.Certificate, certs []*x509.Certificate) *x509.Certificate {
	for _, c := range certs {
		if bytes.Equal(c.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(c) == nil {
			return c
		}
	}
	return nil
}

func pfxCode(err error) int {
	var unsupported *pfx.UnsupportedError
	var mismatch *pfx.KeyMismatchError
	switch {
	case errors.Is(err, pfx.ErrWrongPassword), errors.As(err, &unsupported):
		return 9000
	case errors.Is(err, pfx.ErrNoKey), errors.As(err, &mismatch):
		return 9006
	}
	return 9005
}

// Values that devices take for the authentication of a mail server.
const mailAuthentication = " EmailAuthNone EmailAuthPassword EmailAuthCRAMMD5 EmailAuthNTLM EmailAuthHTTPMD5 "

// mail installs com.apple.mail.managed (Apple's com.apple.mail.managed.yaml).
func (in *installation) mail(p payload) error {
	values := map[string]string{}
	for _, key := range []string{
		"EmailAccountType", "IncomingMailServerAuthentication", "IncomingMailServerHostName",
		"OutgoingMailServerAuthentication", "OutgoingMailServerHostName",
	} {
		value, err := required[string](p, key)
		if err != nil {
			return err
		}
		values[key] = value
	}
	if kind := values["EmailAccountType"]; kind != "EmailTypeIMAP" && kind != "EmailTypePOP" {
		return fail(domainPayload, 2004, "EmailAccountType of payload %s is %q; it must be EmailTypeIMAP or EmailTypePOP", p.id(), kind)
	}
	for _, key := range []string{"IncomingMailServerAuthentication", "OutgoingMailServerAuthentication"} {
		if !strings.Contains(mailAuthentication, " "+values[key]+" ") {
			return fail(domainPayload, 2004, "%s of payload %s is %q, which is no authentication", key, p.id(), values[key])
		}
	}
	account := Account{Host: values["IncomingMailServerHostName"], User: proplist.String(p.dict, "IncomingMailServerUsername"), Name: proplist.String(p.dict, "EmailAccountName")}
	return in.account(p, account)
}

// exchange installs com.apple.eas.account.
func (in *installation) exchange(p payload) error {
	host, err := required[string](p, "Host")
	if err != nil || host == "" {
		return fail(domainEAS, 21003, "payload %s names no Exchange host", p.id())
	}
	if proplist.String(p.dict, "UserName") == "" {
		return fail(domainInstall, 4021, "payload %s lacks UserName, and nobody is there to type it", p.id())
	}
	if uuid := proplist.String(p.dict, "PayloadCertificateUUID"); uuid != "" {
		if _, there := in.identity(uuid); !there {
			return fail(domainEAS, 21007, "PayloadCertificateUUID %s of payload %s names no identity of this profile", uuid, p.id())
		}
	}
	return in.account(p, Account{Host: host, User: proplist.String(p.dict, "UserName")})
}

// account checks what both kinds of account have in common, and stores the account.
func (in *installation) account(p payload, a Account) error {
	a.Address = proplist.String(p.dict, "EmailAddress")
	if a.Address == "" {
		return fail(domainInstall, 4021, "payload %s lacks EmailAddress, and nobody is there to type it", p.id())
	}
	a.Profile, a.Payload, a.Kind = in.profile.id(), p.uuid(), p.kind()
	if err := in.unique(a); err != nil {
		return err
	}
	if err := in.smime(p, &a); err != nil {
		return err
	}
	in.next.Accounts = append(in.next.Accounts, a)
	return nil
}

// unique refuses a second account of the same protocol, host and user.
func (in *installation) unique(a Account) error {
	for _, other := range in.next.Accounts {
		if other.Kind != a.Kind || !strings.EqualFold(other.Host, a.Host) || !strings.EqualFold(other.User, a.User) {
			continue
		}
		if a.Kind == kindEAS {
			return fail(domainEAS, 21005, "the account %s on %s is there already, by profile %s", a.User, a.Host, other.Profile)
		}
		return fail(domainMail, 7002, "the account %s on %s is there already, by profile %s", a.User, a.Host, other.Profile)
	}
	return nil
}
