package apple

import (
	"errors"
	"fmt"
)

// Error domains of Apple's device management.
const (
	domainProfile     = "MCProfileErrorDomain"
	domainPayload     = "MCPayloadErrorDomain"
	domainInstall     = "MCInstallationErrorDomain"
	domainMail        = "MCEmailErrorDomain"
	domainCertificate = "MCCertificateErrorDomain"
	domainEAS         = "MCEASErrorDomain"
	domainSCEP        = "MCSCEPErrorDomain"
	domainMDM         = "MCMDMErrorDomain"
	domainPlugin      = "ConfigProfilePluginDomain" // macOS
)

// Error is a failure as a device reports it: one link of an ErrorChain, outermost first.
type Error struct {
	Domain string
	Code   int
	Text   string
	Cause  *Error
}

// Error gives the whole chain in one line.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s (%s %d)", e.Text, e.Domain, e.Code)
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Innermost is the link that tells why.
func (e *Error) Innermost() *Error {
	for e.Cause != nil {
		e = e.Cause
	}
	return e
}

func fail(domain string, code int, format string, args ...any) *Error {
	return &Error{Domain: domain, Code: code, Text: fmt.Sprintf(format, args...)}
}

// asError turns any error into one with a domain; what is no device error of its own is an installation failure.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return fail(domainInstall, 4001, "%v", err)
}

// installFailure wraps the reason of a failed installation as devices do: 4000 when nothing could be parsed, 4001
// otherwise.
func installFailure(name string, err error) *Error {
	cause := asError(err)
	if cause.Domain == domainInstall {
		return cause
	}
	if cause.Domain == domainProfile && cause.Code == 1000 {
		return &Error{Domain: domainInstall, Code: 4000, Text: "the profile cannot be parsed", Cause: cause}
	}
	return &Error{Domain: domainInstall, Code: 4001, Text: fmt.Sprintf("the profile %q could not be installed", name), Cause: cause}
}

// chain is the ErrorChain of a command result.
func (e *Error) chain() []any {
	var out []any
	for ; e != nil; e = e.Cause {
		out = append(out, map[string]any{
			"ErrorCode": e.Code, "ErrorDomain": e.Domain,
			"LocalizedDescription": e.Text, "USEnglishDescription": e.Text,
		})
	}
	return out
}
