package companion

import (
	"errors"
	"fmt"
)

// maxCSR bounds a PKCS #10 request: an RSA 4096 key makes one of less than 2 KiB.
const maxCSR = 16 << 10

// Check says what is wrong with the request, or nil. That the wrap key is RSA of 2048 bits or more and signed its
// request, only who parses the request can tell.
func (r EnrollRequest) Check() error {
	return first(
		must(r.Protocol >= 1, "protocol", "1 or more"),
		isToken("enrollment_token", r.EnrollmentToken, 1024),
		r.Device.check(),
		isPackage("agent.package", r.Agent.Package),
		isToken("agent.version", r.Agent.Version, 64),
		optionalSHA256("agent.signing_cert_sha256", r.Agent.SigningCertSHA256),
		r.WrapKey.check(),
		eachText("capabilities", r.Capabilities, isWord),
	)
}

// Check says what is wrong with the request, or nil.
func (r RenewRequest) Check() error { return r.WrapKey.check() }

func (k WrapKey) check() error {
	return first(must(k.KeyType == WrapKeyRSA, "wrap_key.kty", WrapKeyRSA), isBinary("wrap_key.csr_b64", k.CSR, maxCSR))
}

func (d Device) check() error {
	return first(
		isToken("device.install_id", d.InstallID, 128),
		within("device.sdk_int", int64(d.SDKInt), 21, 999),
		isText("device.release", d.Release),
		isText("device.security_patch", d.SecurityPatch),
		isText("device.manufacturer", d.Manufacturer),
		isText("device.model", d.Model),
		isOneOf("device.management_mode", d.ManagementMode, ModeDeviceOwner, ModeProfileOwner, ModeCompanion, ModeNone),
		isText("device.amapi_device_name", d.AMAPIName),
		isText("device.serial", d.Serial),
		isText("device.name", d.Name),
	)
}

// Check says what is wrong with the request, or nil.
func (r PayloadRequest) Check() error {
	return first(isToken("revision", r.Revision, 128), isSHA256("wrap_key_id", r.WrapKeyID), isToken("nonce", r.Nonce, 128))
}

// Check says what is wrong with the request, or nil.
func (r CSRRequest) Check() error {
	return first(isToken("revision", r.Revision, 128), isBinary("csr_b64", r.CSR, maxCSR))
}

// Check says what is wrong with the report, or nil.
func (r StatusReport) Check() error {
	err := first(
		isToken("revision", r.Revision, 128),
		must(r.Seq >= 1, "seq", "1 or more"),
		isOneOf("state", r.State, states()...),
		within("attempt", int64(r.Attempt), 0, 1<<20),
		isTime("at", r.At),
	)
	if err == nil && r.Observed != nil {
		err = r.Observed.check()
	}
	if err == nil && r.Error != nil {
		err = r.Error.check()
	}
	if err == nil && r.State == StateFailed && r.Error == nil {
		return errors.New("error is missing; state failed needs one")
	}
	return err
}

func (o Observed) check() error {
	if o.Alias != "" {
		if err := isAlias("observed.alias", o.Alias); err != nil {
			return err
		}
	}
	return first(optionalSHA256("observed.cert_sha256", o.CertSHA256), eachText("observed.granted_to", o.GrantedTo, isPackage))
}

func (e Error) check() error {
	return first(isWord("error.code", string(e.Code)), must(len(e.Exception) <= 512, "error.exception", "at most 512 bytes"))
}

// Check says what is wrong with the inventory, or nil.
func (i Inventory) Check() error {
	if i.Generation != "" {
		if err := isToken("generation", i.Generation, 128); err != nil {
			return err
		}
	}
	if i.SDKInt != 0 {
		if err := within("sdk_int", int64(i.SDKInt), 21, 999); err != nil {
			return err
		}
	}
	return first(
		isText("release", i.Release),
		each("identities", i.Identities, func(h Held) string { return h.Alias }, checkHeld),
		eachText("cas", i.CAs, isSHA256),
		each("mail_configs", i.MailConfigs, func(c Configured) string { return c.Package }, checkConfigured),
		eachText("capabilities", i.Capabilities, isWord),
		each("apps", i.Apps, func(a App) string { return a.Package }, checkApp),
	)
}

// checkHeld: what is present has a certificate. An app before API 31 that cannot look says present false.
func checkHeld(at string, h Held) error {
	sum := optionalSHA256(at+".cert_sha256", h.CertSHA256)
	if h.Present {
		sum = isSHA256(at+".cert_sha256", h.CertSHA256)
	}
	return first(isAlias(at+".alias", h.Alias), sum, eachText(at+".grants", h.Grants, isPackage))
}

func checkConfigured(at string, c Configured) error {
	return first(isPackage(at+".package", c.Package), isToken(at+".revision", c.Revision, 128))
}

func checkApp(at string, a App) error {
	return first(isPackage(at+".package", a.Package), isText(at+".version", a.Version))
}

// Check says what is wrong with the events, or nil. A type that is not known is a newer app's, and skipped by who reads.
func (list events) Check() error {
	for i, e := range list {
		at := fmt.Sprintf("[%d]", i)
		if err := first(isWord(at+".type", e.Type), isTime(at+".at", e.At)); err != nil {
			return err
		}
		if e.Package == "" && e.Type != EventPackageAdded && e.Type != EventPackageRemoved {
			continue
		}
		if err := isPackage(at+".package", e.Package); err != nil {
			return err
		}
	}
	return nil
}

// Check says what is wrong with the goodbye, or nil.
func (u Unenroll) Check() error {
	return isOneOf("reason", u.Reason, UnenrollUser, UnenrollPolicy, UnenrollWipe)
}
