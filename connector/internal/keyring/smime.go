package keyring

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/waxseal/waxseal/internal/link"
)

const (
	// issuingLifetime is long enough to be rolled over without haste: nothing is issued past its end.
	issuingLifetime = 10 * 365 * 24 * time.Hour
	// maxIssuing bounds the issuing CAs of one root.
	maxIssuing = 99
)

// softCAName is what a CA of the S/MIME CA may be called: the root, the first issuing CA, and the second and later ones.
var softCAName = regexp.MustCompile(`^softca(-root|-[2-9]|-[1-9][0-9])?$`)

// Family is the S/MIME CA: a root that certifies CAs alone, and the issuing CAs under it, the newest last. Former ones
// issue no more, but what they issued is still theirs to revoke.
type Family struct {
	// Root is nil in a keyring that was made before there was one: its only issuing CA is its own root.
	Root    *Authority
	Issuing []*Authority
}

// Current is the CA that issues.
func (f Family) Current() *Authority { return f.Issuing[len(f.Issuing)-1] }

// Anchor is what devices trust.
func (f Family) Anchor() *x509.Certificate {
	if f.Root == nil {
		return f.Issuing[0].Certificate
	}
	return f.Root.Certificate
}

// All are the issuing CAs and the root, if it is another: whoever keeps a revocation list.
func (f Family) All() []*Authority {
	if f.Root == nil {
		return f.Issuing
	}
	return append(append([]*Authority{}, f.Issuing...), f.Root)
}

// IssuerOf finds the issuing CA of a certificate; nil: it is of none of them.
func (f Family) IssuerOf(cert *x509.Certificate) *Authority {
	for _, a := range f.Issuing {
		if cert.CheckSignatureFrom(a.Certificate) == nil {
			return a
		}
	}
	return nil
}

// Named finds an issuing CA by its name.
func (f Family) Named(name string) *Authority {
	for _, a := range f.Issuing {
		if string(a.Name) == name {
			return a
		}
	}
	return nil
}

// ChainOf is what stands above a leaf of an issuing CA, up to and with the root.
func (f Family) ChainOf(issuing *Authority) [][]byte {
	chain := [][]byte{issuing.Certificate.Raw}
	if f.Root != nil {
		chain = append(chain, f.Root.Certificate.Raw)
	}
	return chain
}

// SMIME opens the S/MIME CA as it is now: another process (ca roll) may have added an issuing CA.
func (k *Keyring) SMIME() (Family, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var f Family
	var err error
	if k.has(string(SoftCARoot) + ".pem") {
		if f.Root, err = k.authority(SoftCARoot); err != nil {
			return f, err
		}
	}
	for n := 1; n == 1 || k.has(string(issuingName(n))+".pem"); n++ {
		a, err := k.authority(issuingName(n))
		if err != nil {
			return f, err
		}
		f.Issuing = append(f.Issuing, a)
	}
	return f, nil
}

func issuingName(n int) AuthorityName {
	if n == 1 {
		return SoftCA
	}
	return SoftCA + AuthorityName("-"+strconv.Itoa(n))
}

// RollSMIME makes the next issuing CA under the root: it issues from now on.
func (k *Keyring) RollSMIME() (*Authority, error) {
	unlock, err := k.lock("roll.lock", true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := k.SMIME()
	switch {
	case err != nil:
		return nil, err
	case f.Root == nil:
		return nil, errors.New("this keyring's S/MIME CA is its own root and may have no CA under it (path length 0): it goes on issuing until its end; another root needs a keyring of its own")
	case len(f.Issuing) >= maxIssuing:
		return nil, fmt.Errorf("the S/MIME CA has %d issuing CAs already", maxIssuing)
	}
	name := issuingName(len(f.Issuing) + 1)
	if err := k.Audit(Event{Action: ActionRoll, Detail: "issuing CA " + string(name)}); err != nil {
		return nil, err
	}
	if err := k.makeIssuing(f.Root, name); err != nil {
		return nil, err
	}
	return k.Authority(name)
}

// makeIssuing makes an issuing CA as the S/MIME baseline requirements say (CA/Browser Forum, section 7.1.2.2): good for
// mail and for the clients' own logons, never for servers, programs or further CAs.
func (k *Keyring) makeIssuing(root *Authority, name AuthorityName) error {
	key, err := rsa.GenerateKey(k.rand, k.caBits)
	if err != nil {
		return fmt.Errorf("making the issuing CA: %w", err)
	}
	t, err := k.caTemplate(key, "Waxseal S/MIME Issuing CA", issuingLifetime)
	if err != nil {
		return fmt.Errorf("making the issuing CA: %w", err)
	}
	if end := root.Certificate.NotAfter; t.NotAfter.After(end) {
		t.NotAfter = end
	}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection, x509.ExtKeyUsageClientAuth}
	anyPolicy, err := x509.OIDFromInts([]uint64{2, 5, 29, 32, 0}) // RFC 5280 section 4.2.1.4: which one holds, the leaves say
	if err != nil {
		return fmt.Errorf("making the issuing CA: %w", err)
	}
	t.Policies = []x509.OID{anyPolicy}
	if base := k.Settings().PKIURL; base != "" {
		t.CRLDistributionPoints = []string{link.CRLURL(base, string(SoftCARoot))}
		t.IssuingCertificateURL = []string{link.IssuerURL(base, string(SoftCARoot))}
	}
	cert, err := x509.CreateCertificate(rand.Reader, t, root.Certificate, key.Public(), root.signer)
	if err != nil {
		return fmt.Errorf("making the issuing CA: %w", err)
	}
	return k.storeNew(name, cert, key)
}
