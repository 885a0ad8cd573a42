package apple

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// The S/MIME switches of an account; all are booleans.
const smimeSwitches = "SMIMEEnabled SMIMESigningEnabled SMIMESigningUserOverrideable SMIMESigningCertificateUUIDUserOverrideable " +
	"SMIMEEncryptionEnabled SMIMEEncryptionCertificateUUIDUserOverrideable SMIMEEncryptByDefault " +
	"SMIMEEncryptByDefaultUserOverrideable SMIMEEnableEncryptionPerMessageSwitch SMIMEEnablePerMessageSwitch"

// smime reads the S/MIME keys of an account. A reference must name an identity payload of the same profile (7003)
// that can do the job for the account's address (7004).
func (in *installation) smime(p payload, a *Account) error {
	for _, key := range strings.Fields(smimeSwitches) {
		if value, there := p.dict[key]; there {
			if _, ok := value.(bool); !ok {
				return fail(domainPayload, 2003, "%s of payload %s must be a boolean", key, p.id())
			}
		}
	}
	if in.device.isMac() { // Mail on the Mac has no S/MIME keys and ignores them
		return nil
	}
	a.switches(p)
	var err error
	if a.SigningUUID, err = in.reference(p, "SMIMESigningCertificateUUID", a.Address, CanSign); err != nil {
		return err
	}
	a.EncryptionUUID, err = in.reference(p, "SMIMEEncryptionCertificateUUID", a.Address, CanEncrypt)
	return err
}

// switches reads what is on in an account and what the user may change; both are false unless the payload says
// otherwise. A switch for each message, in its names of today and before iOS 12, lets the user encrypt, and so does a
// free choice of the identity (Apple's com.apple.mail.managed.yaml).
func (a *Account) switches(p payload) {
	on := func(key string) bool { return proplist.Bool(p.dict, key) }
	a.SignByDefault = on("SMIMESigningEnabled")
	a.SigningOverride = on("SMIMESigningUserOverrideable")
	a.SigningUUIDOverride = on("SMIMESigningCertificateUUIDUserOverrideable")
	a.EncryptDefault = on("SMIMEEncryptByDefault")
	a.EncryptionUUIDOverride = on("SMIMEEncryptionCertificateUUIDUserOverrideable")
	a.EncryptOverride = a.EncryptionUUIDOverride || on("SMIMEEncryptByDefaultUserOverrideable") ||
		on("SMIMEEnableEncryptionPerMessageSwitch") || on("SMIMEEnablePerMessageSwitch") || on("SMIMEEncryptionEnabled")
}

// MaySign reports whether mail of the account is signed, or the user may have it signed.
func (a Account) MaySign() bool { return a.SignByDefault || a.SigningOverride }

// MayEncrypt reports whether mail of the account is encrypted, or the user may have it encrypted.
func (a Account) MayEncrypt() bool { return a.EncryptDefault || a.EncryptOverride }

// reference resolves one of the UUIDs.
func (in *installation) reference(p payload, key, address string, usable func(*x509.Certificate) bool) (string, error) {
	value, there := p.dict[key]
	if !there {
		return "", nil
	}
	uuid, ok := value.(string)
	if !ok {
		return "", fail(domainPayload, 2003, "%s of payload %s must be a string", key, p.id())
	}
	item, found := in.identity(uuid)
	if !found {
		return "", fail(domainMail, 7003, "%s of payload %s is %q, which names no identity payload of this profile", key, p.id(), uuid)
	}
	cert := item.Certificate
	switch {
	case firstAddress(cert) != address:
		return "", fail(domainMail, 7004, "%s of payload %s: the certificate is for %q, the account for %q", key, p.id(), firstAddress(cert), address)
	case !usable(cert):
		return "", fail(domainMail, 7004, "%s of payload %s: the certificate's key usage or extended key usage does not allow it", key, p.id())
	case in.device.chaotic(ChaosRejectExpired) && in.device.now().After(cert.NotAfter):
		return "", fail(domainMail, 7004, "%s of payload %s: the certificate expired on %s", key, p.id(), cert.NotAfter.Format("2006-01-02"))
	}
	return uuid, nil
}

// firstAddress is the address that iOS takes from a certificate: the first rfc822Name, else emailAddress in the
// subject. It is compared as it is spelled.
func firstAddress(cert *x509.Certificate) string {
	if addresses := Addresses(cert); len(addresses) > 0 {
		return addresses[0]
	}
	return ""
}

// Addresses are the mail addresses of a certificate: rfc822Names, then those in the subject (RFC 8550 section 3).
func Addresses(cert *x509.Certificate) []string {
	out := slices.Clone(cert.EmailAddresses)
	oidEmail := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	for _, name := range cert.Subject.Names {
		if text, ok := name.Value.(string); ok && name.Type.Equal(oidEmail) && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// CanSign reports whether a certificate may sign mail: extended key usage and key usage allow it, or say nothing.
func CanSign(cert *x509.Certificate) bool {
	return forMail(cert) && (cert.KeyUsage == 0 || cert.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) != 0)
}

// CanEncrypt reports whether mail may be encrypted to a certificate.
func CanEncrypt(cert *x509.Certificate) bool {
	const usages = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement
	return forMail(cert) && (cert.KeyUsage == 0 || cert.KeyUsage&usages != 0)
}

// forMail reports whether the extended key usage allows mail, or says nothing.
func forMail(cert *x509.Certificate) bool {
	if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageEmailProtection) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny)
}
