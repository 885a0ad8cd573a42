// Package mail is the mail program of a simulated device: it decides which certificate and key of the keychain a
// message is signed, encrypted or opened with, and whether a signature is to be believed. The work on the message
// itself is package smime's.
package mail

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/agent/smime"
)

// Device is what the mail program needs of a device, of whichever platform.
type Device interface {
	// Keychain holds the certificates and keys that the mail program may use; it is not changed.
	Keychain() *keychain.Keychain
	// Roots are the certificates that signers are trusted by.
	Roots() (*x509.CertPool, error)
	Folder() *device.Folder
	Now() time.Time
}

// accountHolder is the further ability of a device whose management sets up mail accounts, and names the identities of
// each. On a PC the mail program chooses them itself.
type accountHolder interface {
	Accounts() []apple.Account
}

// preferrer is the further ability of a device on which a person prefers certificates for addresses, as on a Mac.
type preferrer interface {
	// PreferredIdentity signs for an own address.
	PreferredIdentity(address string) (keychain.Item, bool)
	// PreferredCertificate is what mail to an address is encrypted to.
	PreferredCertificate(address string) (keychain.Item, bool)
}

// Program is the mail program of one device.
type Program struct {
	Device Device
	Rand   io.Reader
	// Contacts remembers other people's encryption certificates.
	Contacts Contacts
}

// New makes the mail program of a device.
func New(d Device, random io.Reader) *Program {
	return &Program{Device: d, Rand: random, Contacts: Contacts{Dir: d.Folder().Path("contacts")}}
}

// sender is the address that a message is from: the one given, or that of its From field.
func sender(message []byte, from string) (string, error) {
	if from != "" {
		return from, nil
	}
	e, err := smime.Parse(message)
	if err != nil {
		return "", err
	}
	addresses, err := e.Addresses("From")
	if err != nil {
		return "", err
	}
	if len(addresses) != 1 {
		return "", fmt.Errorf("the message has %d From addresses; give --from ADDRESS", len(addresses))
	}
	return addresses[0], nil
}

// account finds the mail account of an address whose settings bind the mail program. Those of a Mac have none for S/MIME.
func (p *Program) account(address string) (apple.Account, bool) {
	holder, ok := p.Device.(accountHolder)
	if _, mac := p.Device.(preferrer); mac || !ok {
		return apple.Account{}, false
	}
	for _, a := range holder.Accounts() {
		if strings.EqualFold(a.Address, address) {
			return a, true
		}
	}
	return apple.Account{}, false
}

// signing is the identity that signs for an address: what is preferred; what the account names; else, if no account
// forbids the choice, the newest valid one for the address that may sign.
func (p *Program) signing(address string) (keychain.Item, error) {
	if prefs, ok := p.Device.(preferrer); ok {
		if item, there := prefs.PreferredIdentity(address); there && apple.CanSign(item.Certificate) {
			return item, nil
		}
	}
	if a, there := p.account(address); there && (!a.MaySign() || a.SigningUUID != "" || !a.SigningUUIDOverride) {
		return p.accountSigning(a)
	}
	if item, found := p.newest(address, apple.CanSign); found {
		return item, p.maySignNow(item)
	}
	return keychain.Item{}, fmt.Errorf("the keychain has no certificate with which %s may sign", address)
}

// accountSigning is the identity of an account that leaves no choice.
func (p *Program) accountSigning(a apple.Account) (keychain.Item, error) {
	switch {
	case !a.MaySign():
		return keychain.Item{}, fmt.Errorf("the account %s does not sign, and its profile has neither SMIMESigningEnabled nor SMIMESigningUserOverrideable", a.Address)
	case a.SigningUUID == "":
		return keychain.Item{}, fmt.Errorf("the account %s has no signing identity, and its profile has neither SMIMESigningCertificateUUID nor SMIMESigningCertificateUUIDUserOverrideable", a.Address)
	}
	if item, found := p.Device.Keychain().Payload(a.Profile, a.SigningUUID); found && item.Key != nil {
		return item, nil
	}
	return keychain.Item{}, fmt.Errorf("the signing identity of the account %s is not in the keychain", a.Address)
}

// maySignNow refuses a certificate that is not valid now where the mail program chose it itself: Outlook and Mail on a
// Mac offer only valid ones.
func (p *Program) maySignNow(item keychain.Item) error {
	_, phone := p.Device.(accountHolder)
	_, mac := p.Device.(preferrer)
	now, begin, end := p.Device.Now(), item.Certificate.NotBefore, item.Certificate.NotAfter
	switch {
	case phone && !mac:
	case now.After(end):
		return fmt.Errorf("the newest certificate that may sign expired on %s", end.Format(time.DateOnly))
	case now.Before(begin):
		return fmt.Errorf("the only certificate that may sign is not valid before %s", begin.Format(time.DateOnly))
	}
	return nil
}

// preferred is the certificate that is preferred for mail to an address.
func (p *Program) preferred(address string) (keychain.Item, bool) {
	prefs, ok := p.Device.(preferrer)
	if !ok {
		return keychain.Item{}, false
	}
	item, there := prefs.PreferredCertificate(address)
	return item, there && apple.CanEncrypt(item.Certificate)
}

// encryption is the own encryption certificate of an address, to which answers and the copy of sent mail go.
func (p *Program) encryption(address string) (keychain.Item, bool) {
	if item, there := p.preferred(address); there {
		return item, true
	}
	if a, there := p.account(address); there {
		if item, found := p.Device.Keychain().Payload(a.Profile, a.EncryptionUUID); found || !a.EncryptionUUIDOverride {
			return item, found
		}
	}
	return p.newest(address, apple.CanEncrypt)
}

// newest prefers what is valid now.
func (p *Program) newest(address string, usable func(*x509.Certificate) bool) (keychain.Item, bool) {
	var found []keychain.Item
	for _, item := range p.Device.Keychain().Identities() {
		if usable(item.Certificate) && has(item.Certificate, address) {
			found = append(found, item)
		}
	}
	slices.SortStableFunc(found, func(a, b keychain.Item) int { return p.rank(a.Certificate) - p.rank(b.Certificate) })
	if len(found) == 0 {
		return keychain.Item{}, false
	}
	return found[0], true
}

// rank orders what is valid now before what has expired, and last what is not valid yet.
func (p *Program) rank(cert *x509.Certificate) int {
	switch now := p.Device.Now(); {
	case now.Before(cert.NotBefore):
		return 2
	case now.After(cert.NotAfter):
		return 1
	}
	return 0
}

func has(cert *x509.Certificate, address string) bool {
	return slices.ContainsFunc(apple.Addresses(cert), func(a string) bool { return strings.EqualFold(a, address) })
}

// Sign signs a message as its sender.
func (p *Program) Sign(message []byte, from string) ([]byte, error) {
	address, err := sender(message, from)
	if err != nil {
		return nil, err
	}
	item, err := p.signing(address)
	if err != nil {
		return nil, err
	}
	signer := smime.Signer{Certificate: item.Certificate, Key: item.Key, Chain: p.chain(item.Certificate)}
	if own, there := p.encryption(address); there {
		signer.Encryption = own.Certificate
	}
	return smime.Sign(p.Rand, message, signer, p.Device.Now())
}

// chain is the issuers of a certificate that the keychain has, without the root.
func (p *Program) chain(cert *x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	all := p.Device.Keychain().Certificates()
	for current := cert; len(out) < 8; {
		at := slices.IndexFunc(all, func(c *x509.Certificate) bool {
			return c.IsCA && c.Subject.String() == current.Issuer.String() && current.CheckSignatureFrom(c) == nil
		})
		if at < 0 || all[at].CheckSignatureFrom(all[at]) == nil {
			return out
		}
		current = all[at]
		out = append(out, current)
	}
	return out
}

// Encrypt encrypts a message to everybody whom it is for, and to its sender. Certificates that are given are taken
// beside those that are remembered; with any given, nobody has to be remembered. The warning says which
// certificates are not valid now, and that the sender will not be able to read the copy.
func (p *Program) Encrypt(message []byte, from string, given []*x509.Certificate) (out []byte, warning string, err error) {
	address, err := sender(message, from)
	if err != nil {
		return nil, "", err
	}
	if a, there := p.account(address); there && !a.MayEncrypt() {
		return nil, "", fmt.Errorf("the account %s does not encrypt, and its profile has neither SMIMEEncryptByDefault nor a key that lets the user switch it on", a.Address)
	}
	recipients, err := p.recipients(message, given)
	if err != nil {
		return nil, "", err
	}
	warnings, err := p.check(recipients)
	if err != nil {
		return nil, "", err
	}
	if own, there := p.encryption(address); there {
		recipients = append(recipients, own.Certificate)
	} else {
		warnings = append(warnings, fmt.Sprintf("the keychain has no encryption certificate for %s: the sender cannot open this message", address))
	}
	out, err = smime.Encrypt(p.Rand, message, recipients)
	return out, strings.Join(warnings, "; "), err
}

// check refuses recipients' certificates that were not made for encryption, as mail programs do, and warns of those
// that are not valid now: their owners may still have the keys.
func (p *Program) check(recipients []*x509.Certificate) (warnings []string, err error) {
	now := p.Device.Now()
	for _, cert := range recipients {
		who := fmt.Sprintf("the certificate of %s (serial %X)", strings.Join(apple.Addresses(cert), ", "), cert.SerialNumber)
		switch {
		case !apple.CanEncrypt(cert):
			return nil, fmt.Errorf("%s is not for encryption; give one that has the key usage for it", who)
		case now.After(cert.NotAfter):
			warnings = append(warnings, fmt.Sprintf("%s expired on %s", who, cert.NotAfter.Format(time.DateOnly)))
		case now.Before(cert.NotBefore):
			warnings = append(warnings, fmt.Sprintf("%s is not valid before %s", who, cert.NotBefore.Format(time.DateOnly)))
		}
	}
	return warnings, nil
}

func (p *Program) recipients(message []byte, given []*x509.Certificate) ([]*x509.Certificate, error) {
	e, err := smime.Parse(message)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(given)
	var missing []string
	for _, name := range []string{"To", "Cc"} {
		addresses, err := e.Addresses(name)
		if err != nil {
			return nil, err
		}
		for _, address := range addresses {
			cert, err := p.recipient(address, given)
			if err != nil {
				return nil, err
			}
			if cert == nil {
				missing = append(missing, address)
				continue
			}
			if !slices.ContainsFunc(out, cert.Equal) {
				out = append(out, cert)
			}
		}
	}
	if len(missing) > 0 && len(given) == 0 {
		return nil, fmt.Errorf("no encryption certificate of %s is known; verify a signed message of theirs first, or give --cert FILE", strings.Join(missing, ", "))
	}
	if len(out) == 0 {
		return nil, errors.New("the message has neither To nor Cc, and no --cert FILE was given")
	}
	return out, nil
}

// recipient is the certificate for an address: one that was given, a preferred one, a remembered one, or one's own.
func (p *Program) recipient(address string, given []*x509.Certificate) (*x509.Certificate, error) {
	for _, cert := range given {
		if has(cert, address) {
			return cert, nil
		}
	}
	if item, there := p.preferred(address); there {
		return item.Certificate, nil
	}
	cert, err := p.Contacts.Find(address)
	if err != nil || cert != nil {
		return cert, err
	}
	if own, there := p.encryption(address); there {
		return own.Certificate, nil
	}
	return nil, nil
}

// Decrypt opens a message with the key of the history that it is encrypted to. If a signature is inside, the second
// result says what became of it.
func (p *Program) Decrypt(message []byte) (*smime.Decrypted, *Verdict, error) {
	var history []smime.Key
	for _, item := range p.Device.Keychain().Identities() {
		history = append(history, smime.Key{Certificate: item.Certificate, Key: item.Key})
	}
	out, err := smime.Decrypt(message, history)
	if err != nil || !smime.IsSigned(out.Message) {
		return out, nil, err
	}
	verdict, err := p.Verify(out.Message)
	if err != nil {
		verdict = &Verdict{Reason: err}
	}
	return out, verdict, nil
}
