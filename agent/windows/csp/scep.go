package csp

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// States of a SCEP enrolment (windows.md section 3.2).
const (
	scepDone    = "1"
	scepPending = "2"
	scepFailed  = "16"
	scepUnknown = "32"
)

// scepRequired are the nodes without which Enroll fails.
func scepRequired() []string {
	return []string{"ServerURL", "Challenge", "EKUMapping", "KeyUsage", "SubjectName", "KeyLength", "HashAlgorithm", "CAThumbprint"}
}

// scepRows are the nodes of ClientCertificateInstall/SCEP.
func scepRows() []row {
	const id = "SCEP/*"
	rows := []row{
		{path: id, access: "ADGR", format: formatNode, gone: func(p *PC, l place) { p.disown(l.key()) }},
		{path: id + "/Install", access: "ADGR", format: formatNode},
		{path: id + "/Install/AttestPrivateKey", access: "AG", format: formatInt, check: between(0, 2)},
		{path: id + "/Install/Enroll", access: "X", format: formatNull, exec: enroll},
	}
	rows = append(rows, scepInstallRows(id+"/Install/")...)
	for n := range rows {
		rows[n].atomic = true
	}
	return append(rows,
		row{path: id + "/CertThumbprint", access: "G", format: formatChr, read: (*PC).scepThumbprint},
		row{path: id + "/Status", access: "G", format: formatInt, initial: scepUnknown},
		row{path: id + "/ErrorCode", access: "G", format: formatInt},
		row{path: id + "/RespondentServerUrl", access: "G", format: formatChr},
	)
}

func scepInstallRows(at string) []row {
	r := func(name, format, initial string, check func(string) bool) row {
		return row{path: at + name, access: "ADGR", format: format, initial: initial, check: check}
	}
	challenge := r("Challenge", formatChr, "", nil)
	challenge.secret = true
	return []row{
		challenge,
		r("ServerURL", formatChr, "", notEmpty),
		r("EKUMapping", formatChr, "", matches(`^\d+(\.\d+)+(\+\d+(\.\d+)+)*$`)),
		r("KeyUsage", formatInt, "", signsOrEnciphers),
		r("SubjectName", formatChr, "", notEmpty),
		r("KeyLength", formatInt, "", oneOf("1024", "2048", "4096")),
		r("HashAlgorithm", formatChr, "", matches(`^SHA-[123]([+;]SHA-[123])*$`)),
		r("CAThumbprint", formatChr, "", matches(`^[0-9A-Fa-f]{40}$`)),
		r("KeyProtection", formatInt, keySoft, between(1, 4)),
		r("RetryDelay", formatInt, "5", between(1, 1<<30)),
		r("RetryCount", formatInt, "3", between(0, 30)),
		r("TemplateName", formatChr, "", nil),
		r("SubjectAlternativeNames", formatChr, "", matches(`^\d+\+[^;]+(;\d+\+[^;]+)*;?$`)),
		r("ValidPeriod", formatChr, "Days", oneOf("Days", "Months", "Years")),
		r("ValidPeriodUnits", formatInt, "0", between(0, 1<<30)),
		r("ContainerName", formatChr, "", notEmpty),
		r("CustomTextToShowInPrompt", formatChr, "", nil),
		r("AADKeyIdentifierList", formatChr, "", nil),
	}
}

func matches(pattern string) func(string) bool { return regexp.MustCompile(pattern).MatchString }

// signsOrEnciphers: KeyUsage must hold digitalSignature (0x80) or keyEncipherment (0x20).
func signsOrEnciphers(value string) bool {
	bits, err := strconv.Atoi(value)
	return err == nil && bits >= 0 && bits&0xA0 != 0
}

// enroll accepts a request; the certificate comes later.
func enroll(t *transaction, l place, _ string) outcome {
	id := l.up(len(l.names) - 2)
	install := id.down("Install")
	for _, name := range scepRequired() {
		if _, ok := t.pc.value(install.down(name)); !ok {
			return fail(syncml.StatusFailed, errInvalidArgument)
		}
	}
	protection := t.pc.text(install.down("KeyProtection"))
	if protection == keyHello && t.pc.text(install.down("ContainerName")) == "" {
		return fail(syncml.StatusFailed, errInvalidArgument)
	}
	t.pc.store(id.down("Status"), scepPending)
	t.effects.SCEP = append(t.effects.SCEP, id.uri())
	return outcome{}
}

// SCEPInstall is a request that waits to be made. The values are as the server sent them.
type SCEPInstall struct {
	// Servers are tried in turn; the PC adds /pkiclient.exe.
	Servers                       []string
	Challenge                     string
	SubjectName                   string
	SubjectAlternativeNames       string
	EKUMapping                    string
	KeyUsage                      string
	KeyLength                     int
	HashAlgorithm                 string
	CAThumbprint                  string
	KeyProtection                 string
	RetryCount, RetryDelay        int
	ValidPeriod, ValidPeriodUnits string
}

// SCEPPending are the ids of the requests that wait to be made. Those of the user wait for the user.
func (p *PC) SCEPPending() []string {
	var out []string
	for key, n := range p.state.nodes {
		l, found := p.resolve(n.Path)
		if found.failed() || l.row.path != "SCEP/*/Status" || key != l.key() || n.Value != scepPending || l.scope == "User" && p.state.login != "user" {
			continue
		}
		out = append(out, l.up(len(l.names)-1).uri())
	}
	slices.Sort(out)
	return out
}

// SCEPError is why a request got no certificate.
type SCEPError struct {
	HRESULT uint32 // what ErrorCode shows
	Err     error
}

func (e *SCEPError) Error() string { return fmt.Sprintf("%v (0x%08X)", e.Err, e.HRESULT) }

// Unwrap returns the cause.
func (e *SCEPError) Unwrap() error { return e.Err }

// SCEPInstall returns the request of an id that Effects.SCEP named; ok is false once it is done, or was deleted.
func (p *PC) SCEPInstall(id string) (out SCEPInstall, ok bool) {
	l, found := p.scepID(id)
	if !found || p.text(l.down("Status")) != scepPending {
		return SCEPInstall{}, false
	}
	text := func(name string) string { return p.text(l.down("Install", name)) }
	number := func(name string) int { n, _ := strconv.Atoi(text(name)); return n }
	return SCEPInstall{
		Servers:   strings.FieldsFunc(text("ServerURL"), func(r rune) bool { return r == ';' }),
		Challenge: text("Challenge"), SubjectName: text("SubjectName"), SubjectAlternativeNames: text("SubjectAlternativeNames"),
		EKUMapping: text("EKUMapping"), KeyUsage: text("KeyUsage"), KeyLength: number("KeyLength"),
		HashAlgorithm: text("HashAlgorithm"), CAThumbprint: text("CAThumbprint"), KeyProtection: text("KeyProtection"),
		RetryCount: number("RetryCount"), RetryDelay: number("RetryDelay"),
		ValidPeriod: text("ValidPeriod"), ValidPeriodUnits: text("ValidPeriodUnits"),
	}, true
}

// SCEPDone ends an enrolment: with the certificate and its key, or with the error, which may be a *SCEPError. The challenge
// is forgotten.
func (p *PC) SCEPDone(id string, cert *x509.Certificate, key crypto.Signer, err error) {
	l, found := p.scepID(id)
	if !found {
		return // the server deleted it meanwhile
	}
	p.store(l.down("Install", "Challenge"), "")
	if err != nil || cert == nil || key == nil {
		p.store(l.down("Status"), scepFailed)
		code := uint32(errUnspecified)
		var known *SCEPError
		if errors.As(err, &known) {
			code = known.HRESULT
		}
		p.store(l.down("ErrorCode"), decimal(code))
		return
	}
	p.own(l, entry{cert: cert, key: key}, nil)
	p.store(l.down("Status"), scepDone)
	p.store(l.down("ErrorCode"), "0")
	servers, _, _ := strings.Cut(p.text(l.down("Install", "ServerURL")), ";")
	p.store(l.down("RespondentServerUrl"), servers)
}

func (p *PC) scepID(id string) (place, bool) {
	l, out := p.resolve(id)
	return l, !out.failed() && l.row.path == "SCEP/*" && p.exists(l)
}

// scepThumbprint is empty when the certificate has expired or its key is gone.
func (p *PC) scepThumbprint(l place) (string, bool) {
	id := l.up(len(l.names) - 1)
	if p.text(id.down("Status")) != scepDone {
		return "", false
	}
	e, ok := p.owned(id)
	if !ok || p.cfg.Now().After(e.cert.NotAfter) {
		return "", true
	}
	return thumbprint(e.cert), true
}
