package windows

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/agent/keychain"
)

// Keychain shows the certificate stores as the other simulated devices show theirs: the store takes the place of the
// profile. It is made anew for each call, and changing it changes nothing.
func (d *Device) Keychain() *keychain.Keychain { return d.collect(d.state.PC.Stores()...) }

func (d *Device) collect(stores ...string) *keychain.Keychain {
	out := &keychain.Keychain{}
	for _, store := range stores {
		for _, c := range d.state.PC.Certificates(store) {
			item := keychain.Item{Certificate: c.Cert, Key: c.Key, Trusted: store == storeRoot}
			if own := d.ownKey(c.Cert); item.Key == nil && own != nil {
				item.Key = own.key
			}
			if err := out.Add(item, keychain.Holder{Profile: store, Payload: c.ID}); err != nil {
				d.cfg.Log.Warn("a certificate is in two stores with two keys", "thumbprint", thumbprint(c.Cert))
			}
		}
	}
	return out
}

// ownKey is the identity of the PC towards its server, if the certificate is that one.
func (d *Device) ownKey(cert *x509.Certificate) *identity {
	if d.state.MDM == nil || !slices.Equal(d.state.MDM.Certificate, cert.Raw) {
		return nil
	}
	id, err := d.state.MDM.identity()
	if err != nil {
		return nil
	}
	return id
}

// Roots are the certificates that mail and servers are trusted by: the owner's and those of the Root store.
func (d *Device) Roots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	pem, err := d.folder.CA()
	if err != nil {
		return nil, err
	}
	pool.AppendCertsFromPEM(pem)
	for _, c := range d.state.PC.Certificates(storeRoot) {
		pool.AddCert(c.Cert)
	}
	return pool, nil
}

// User is the PC as the programs of its user see it.
type User struct{ *Device }

// User is what a mail program works on.
func (d *Device) User() User { return User{d} }

// Keychain holds the keys of CurrentUser\My only, since mail programs look nowhere else (windows.md section 3.1), and the
// certificates of the CAs.
func (u User) Keychain() *keychain.Keychain {
	return u.collect(storeUser, storeRoot, storeCA, "User/CA")
}

// DeleteCertificate is the user who deletes a certificate, with its key, in certmgr. It is named by its SHA-256 or SHA-1,
// or by the beginning of one of them.
func (d *Device) DeleteCertificate(id string) error {
	var found []string
	for _, store := range d.state.PC.Stores() {
		for _, c := range d.state.PC.Certificates(store) {
			if print := thumbprint(c.Cert); names(c.Cert, id) && !slices.Contains(found, print) {
				found = append(found, print)
			}
		}
	}
	switch {
	case id == "":
		return errors.New("no certificate named: give the SHA-256 that keychain list shows")
	case len(found) == 0:
		return fmt.Errorf("no store holds a certificate whose SHA-256 or SHA-1 begins with %q", id)
	case len(found) > 1:
		return fmt.Errorf("%d certificates have a SHA-256 or SHA-1 that begins with %q; give more of it", len(found), id)
	}
	if err := d.state.PC.DeleteCertificate(found[0]); err != nil {
		return fmt.Errorf("deleting the certificate %s: %w", found[0], err)
	}
	return d.save()
}

func names(cert *x509.Certificate, id string) bool {
	id = strings.ToLower(id)
	return strings.HasPrefix(keychain.Fingerprint(cert), id) || strings.HasPrefix(strings.ToLower(thumbprint(cert)), id)
}
