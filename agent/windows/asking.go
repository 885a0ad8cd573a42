package windows

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/agent/scep"
	"github.com/waxseal/waxseal/agent/windows/csp"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// A PC that was told to Enroll makes a key and asks for its certificate after the session, in its own time:
//
//	Status 2 ─ the server has issued ─→ 1, the certificate is in the user's store
//	         ─ PENDING ─→ again after RetryDelay minutes, RetryCount times
//	         ─ refused, unreachable, not who it should be ─→ 16, ErrorCode says why
//
// Then it opens a session with the alert com.microsoft:mdm.SCEPcertinstall.result (windows.md section 3.2).

// asking is a request that is under way.
type asking struct {
	Key   []byte    `json:"key"`   // PKCS#8
	Tries int       `json:"tries"` // that were answered PENDING
	Next  time.Time `json:"next,omitzero"`
}

// HRESULTs of a request that failed (winerror.h, wininet.h).
const (
	hrUnreachable   = 0x80072EFD
	hrTLS           = 0x80072F8F
	hrTimeout       = 0x80072EE2
	hrHTTP          = 0x80190000 // and the status
	hrNotOurCA      = 0x800B0109
	hrBadAnswer     = 0x80090005
	hrNotSupported  = 0x80090029
	hrBadName       = 0x80092023
	hrRefused       = 0x80094014
	hrPending       = 0x800705B4
	hrOtherKey      = 0x8009000B
	hrKeyLost       = 0x80090016
	hrNoCapability  = 0x80090008
	longestTPMKey   = 2048
	protectionTPM   = "1"
	protectionHello = "4"
)

func failed(hresult uint32, format string, args ...any) error {
	return &csp.SCEPError{HRESULT: hresult, Err: fmt.Errorf(format, args...)}
}

// ask carries on with the requests that are due. told: one ended, and the PC opens a session to say so.
func (d *Device) ask(ctx context.Context) (told bool, err error) {
	if d.state.MDM == nil {
		return false, nil
	}
	for _, id := range d.state.PC.SCEPPending() {
		if a := d.state.Asking[id]; a != nil && d.now().Before(a.Next) {
			continue
		}
		if !d.askOne(ctx, id) {
			continue
		}
		if !d.chaotic(ChaosSilent) {
			d.state.Asked, told = append(d.state.Asked, id), true
		}
		if err := d.save(); err != nil {
			return false, err
		}
	}
	return told, d.save()
}

// askOne asks for one certificate, and reports whether that is through.
func (d *Device) askOne(ctx context.Context, id string) bool {
	r, ok := d.state.PC.SCEPInstall(id)
	if !ok {
		return false
	}
	cert, key, err := d.enrolBySCEP(ctx, id, r)
	if ctx.Err() != nil { // switched off: it goes on the next time
		return false
	}
	if a := d.state.Asking[id]; errors.Is(err, errPending) && a != nil {
		if a.Tries++; a.Tries <= r.RetryCount {
			a.Next = d.now().Add(time.Duration(r.RetryDelay) * time.Minute)
			return false
		}
		err = failed(hrPending, "the SCEP server still says PENDING after %d retries", r.RetryCount)
	}
	d.state.Enrolments++
	if err == nil && d.chaotic(ChaosKeyLost) && d.state.Enrolments%2 == 1 {
		err = failed(hrKeyLost, "the key of the certificate is lost")
	}
	if err != nil {
		d.cfg.Log.Warn("a certificate was not issued", "node", id, "reason", err)
	}
	delete(d.state.Asking, id)
	d.state.PC.SCEPDone(id, cert, key, err)
	return true
}

// results are alerts about requests that ended. What they say exactly is not known; they say how it is.
func (d *Device) results() []syncml.Command {
	var out []syncml.Command
	for _, id := range d.state.Asked {
		out = append(out, syncml.Command{Verb: syncml.Alert, Data: syncml.AlertGeneric,
			Items: []syncml.Item{{Source: id, Type: syncml.TypeSCEPResult, Format: "int", Data: d.node(id + "/Status")}}})
	}
	return out
}

// errPending says that the SCEP server has not decided.
var errPending = errors.New("the SCEP server says PENDING")

// enrolBySCEP asks the servers in turn until one answers.
func (d *Device) enrolBySCEP(ctx context.Context, id string, r csp.SCEPInstall) (*x509.Certificate, *rsa.PrivateKey, error) {
	request, err := readRequest(r)
	if err != nil {
		return nil, nil, err
	}
	key, err := d.askingKey(id, r)
	if err != nil {
		return nil, nil, err
	}
	if len(r.Servers) == 0 {
		return nil, nil, failed(hrUnreachable, "ServerURL names no server")
	}
	client := d.newClient(nil)
	defer client.CloseIdleConnections()
	for _, server := range r.Servers {
		c := &scepClient{http: client, base: strings.TrimRight(server, "/") + "/pkiclient.exe"}
		var cert *x509.Certificate
		if cert, err = d.askServer(ctx, c, id, r, request, key); err == nil {
			return cert, key, nil
		}
		var known *csp.SCEPError
		if !errors.As(err, &known) || known.HRESULT != hrUnreachable {
			return nil, nil, err
		}
	}
	return nil, nil, err
}

func (d *Device) askServer(ctx context.Context, c *scepClient, id string, r csp.SCEPInstall, request scep.Request, key *rsa.PrivateKey) (*x509.Certificate, error) {
	if err := c.learn(ctx, r.HashAlgorithm, r.CAThumbprint); err != nil {
		return nil, err
	}
	signer, err := scep.SelfSigned(request.Subject, key, d.now())
	if err != nil {
		return nil, failed(hrBadName, "signing the request: %w", err)
	}
	recipient := scep.Recipient(c.authorities)
	if recipient == nil {
		return nil, failed(hrBadAnswer, "the SCEP server has no RSA certificate to encrypt to")
	}
	exchange := scep.NewExchange(key, signer, recipient)
	write := exchange.Poll
	if d.state.Asking[id].Tries == 0 {
		csr, err := request.Sign(key)
		if err != nil {
			return nil, failed(hrBadName, "making the request: %w", err)
		}
		write = func() (*scep.Message, error) { return exchange.Request(csr) }
	}
	return c.round(ctx, exchange, write)
}

// askingKey is the key of a request: a PC that was switched off in between goes on with the same one. It never leaves the
// PC, wherever it is.
func (d *Device) askingKey(id string, r csp.SCEPInstall) (*rsa.PrivateKey, error) {
	if a := d.state.Asking[id]; a != nil {
		return parseKey(a.Key)
	}
	inTPM := r.KeyProtection == protectionTPM || r.KeyProtection == protectionHello
	if inTPM && (r.KeyLength > longestTPMKey || d.cfg.Rules.NoTPM) {
		return nil, failed(hrNotSupported, "the TPM makes no key of %d bits, or there is none", r.KeyLength)
	}
	key, err := d.cfg.NewKey(r.KeyLength)
	if err != nil {
		return nil, failed(hrNotSupported, "making a key of %d bits: %w", r.KeyLength, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, failed(hrNotSupported, "keeping the key: %w", err)
	}
	if d.state.Asking == nil {
		d.state.Asking = map[string]*asking{}
	}
	d.state.Asking[id] = &asking{Key: der}
	return key, d.save()
}

// dropDeleted forgets the keys of requests that the server deleted before they were through: Delete of the node takes the
// key with it (windows.md section 6).
func (d *Device) dropDeleted() {
	for id := range d.state.Asking {
		if _, pending := d.state.PC.SCEPInstall(id); !pending {
			delete(d.state.Asking, id)
		}
	}
}

// readRequest reads what the nodes say of the certificate.
func readRequest(r csp.SCEPInstall) (scep.Request, error) {
	out := scep.Request{Challenge: r.Challenge}
	var err error
	if out.Subject, err = encodeX500(r.SubjectName); err != nil {
		return out, failed(hrBadName, "SubjectName: %w", err)
	}
	for _, read := range []func(csp.SCEPInstall) (*pkix.Extension, error){usageOf, purposesOf, namesOf} {
		extension, err := read(r)
		if err != nil {
			return out, failed(hrBadName, "%w", err)
		}
		if extension != nil {
			out.Extensions = append(out.Extensions, *extension)
		}
	}
	return out, nil
}

func usageOf(r csp.SCEPInstall) (*pkix.Extension, error) {
	bits, err := strconv.ParseUint(r.KeyUsage, 10, 8)
	if err != nil {
		return nil, fmt.Errorf("KeyUsage %q: its bits are 128, 64 and 32", r.KeyUsage)
	}
	e, err := scep.KeyUsage(byte(bits))
	return &e, err
}

func purposesOf(r csp.SCEPInstall) (*pkix.Extension, error) {
	var oids []asn1.ObjectIdentifier
	for text := range strings.SplitSeq(r.EKUMapping, "+") {
		oid, err := parseOID(text)
		if err != nil {
			return nil, fmt.Errorf("EKUMapping: %w", err)
		}
		oids = append(oids, oid)
	}
	value, err := asn1.Marshal(oids)
	return &pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: value}, err
}

// maxNames bounds a request.
const maxNames = 500

// namesOf reads SubjectAlternativeNames: numbers of CertEnroll, a plus sign and the name, with semicolons in between
// (windows.md section 3.2).
func namesOf(r csp.SCEPInstall) (*pkix.Extension, error) {
	var names []asn1.RawValue
	for text := range strings.SplitSeq(r.SubjectAlternativeNames, ";") {
		if text == "" {
			continue
		}
		name, err := readName(text)
		if err != nil || len(names) >= maxNames {
			return nil, fmt.Errorf("SubjectAlternativeNames, name %d: %w", len(names)+1, err)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, nil
	}
	e, err := scep.Names(names)
	return &e, err
}

func readName(text string) (asn1.RawValue, error) {
	number, value, _ := strings.Cut(text, "+")
	switch number {
	case "2":
		return scep.TextName(scep.TagEmail, value), nil
	case "3":
		return scep.TextName(scep.TagDNS, value), nil
	case "7":
		return scep.TextName(scep.TagURI, value), nil
	case "11":
		return scep.UPN(value)
	}
	return asn1.RawValue{}, fmt.Errorf("the type %q is not simulated; 2, 3, 7 and 11 are", number)
}
