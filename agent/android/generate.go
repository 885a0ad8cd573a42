package android

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/agent/scep"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

// Keys that the device makes (android.md section 8.3); each arrow is a place where the app may die and goes on from:
//
//	no key ──▶ key without certificate ──▶ certificate asked for ──▶ certificate with its key ──▶ noted, told
//
// The alias is for one request only, so a key under it is the app's own. The same key is asked for again: the server gives
// it the same certificate.

// generateIdentity brings a key of the device's own into the key chain, and its certificate.
func (r *round) generateIdentity(ctx context.Context, rec *record) (outcome, error) {
	id := rec.Item.Identity
	if sum, there := r.held(id.Alias); there == keyThere && sum != "" && (sum == id.CertSHA256 || sum == rec.Held) {
		return r.holds(rec, sum), nil
	}
	key := r.state.Phone.PrivateKey(Package, id.Alias)
	if key == nil {
		var o outcome
		var err error
		if key, o, err = r.makeKey(rec); key == nil {
			return o, err
		}
	}
	chain, o, err := r.certificateFor(ctx, rec, key)
	if err != nil || chain == nil {
		return o, err
	}
	return r.setCertificate(rec, chain)
}

// makeKey has the device make a key. It stays in the key store whatever becomes of the app, which asks for its certificate
// after that.
func (r *round) makeKey(rec *record) (crypto.Signer, outcome, error) {
	id := rec.Item.Identity
	key, err := r.state.Phone.GenerateKeyPair(Package, id.Alias, func() (*rsa.PrivateKey, error) { return r.cfg.NewKey(id.Generate.KeySize) })
	if err != nil {
		return nil, thrown(err, companion.ErrDelegationMissing), nil
	}
	if key == nil {
		return nil, r.refused(), nil
	}
	rec.Made, rec.Held = true, ""
	r.regrant(id.Alias)
	r.acted()
	if err := r.save(); err != nil {
		return nil, outcome{}, err
	}
	if err := r.crash(ChaosCrashMake); err != nil {
		return nil, outcome{}, err
	}
	return key, outcome{}, nil
}

// certificateFor asks for the certificate of a key, leaf first with those above it.
func (r *round) certificateFor(ctx context.Context, rec *record, key crypto.Signer) ([]*x509.Certificate, outcome, error) {
	csr, err := requestOf(rec.Item.Identity.Generate, key)
	if err != nil {
		return nil, fault(companion.ErrCSRRefused, err.Error(), nil), nil
	}
	a, err := r.call(ctx, http.MethodPost, companion.PathCSROf(rec.Item.ID), companion.CSRRequest{Revision: rec.Item.Revision, CSR: csr})
	if err != nil {
		o, err := r.noCertificate(ctx, rec, err)
		return nil, o, err
	}
	answer, err := companion.DecodeCSRResponse(a.body)
	if err != nil {
		return nil, fault(companion.ErrServer5xx, err.Error(), nil), nil
	}
	chain, o := parseChain(answer.Chain)
	if chain != nil && !framework.Fits(key, chain[0]) {
		return nil, fault(companion.ErrKeyCertMismatch, "", nil), nil
	}
	return chain, o, nil
}

// noCertificate says what a refusal means for the item. A key that gets no certificate is of no use: the next attempt makes
// another one.
func (r *round) noCertificate(ctx context.Context, rec *record, err error) (outcome, error) {
	var no *refusal
	if !errors.As(err, &no) || no.problem.Code != companion.CodeCSRRefused {
		return r.noEnvelope(ctx, err)
	}
	r.removeIdentity(rec)
	r.acted()
	return fault(companion.ErrCSRRefused, no.problem.Detail, nil), nil
}

// setCertificate puts a certificate to its key, unless it has it already.
func (r *round) setCertificate(rec *record, chain []*x509.Certificate) (outcome, error) {
	id, sum := rec.Item.Identity, framework.Fingerprint(chain[0].Raw)
	if held, _ := r.held(id.Alias); held == sum {
		return r.holds(rec, sum), nil
	}
	ok, err := r.state.Phone.SetKeyPairCertificate(Package, id.Alias, chain, id.UserSelectable)
	if err != nil {
		return thrown(err, companion.ErrDelegationMissing), nil
	}
	if !ok {
		return r.refused(), nil
	}
	if err := r.save(); err != nil {
		return outcome{}, err
	}
	if err := r.crash(ChaosCrashInstall); err != nil {
		return outcome{}, err
	}
	return r.holds(rec, sum), nil
}

// requestOf is the PKCS#10 request of a key. What it leaves out, the CA fills in.
func requestOf(g *companion.Generate, key crypto.Signer) ([]byte, error) {
	names, err := generalNames(g.Names)
	if err != nil {
		return nil, err
	}
	extensions, err := keyUsage(g.KeyUsage)
	if err != nil {
		return nil, err
	}
	if len(names) > 0 {
		extension, err := scep.Names(names)
		if err != nil {
			return nil, fmt.Errorf("writing the names of the request: %w", err)
		}
		extensions = append(extensions, extension)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: g.Subject, ExtraExtensions: extensions}, key)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	return csr, nil
}

func generalNames(names []companion.Name) ([]asn1.RawValue, error) {
	tags := map[string]int{companion.NameEmail: scep.TagEmail, companion.NameDNS: scep.TagDNS, companion.NameURI: scep.TagURI}
	var out []asn1.RawValue
	for _, n := range names {
		if n.Type != companion.NameUPN {
			out = append(out, scep.TextName(tags[n.Type], n.Value))
			continue
		}
		name, err := scep.UPN(n.Value)
		if err != nil {
			return nil, fmt.Errorf("writing the UPN of the request: %w", err)
		}
		out = append(out, name)
	}
	return out, nil
}

// keyUsage is the extension with the usages that are known here; there is none without any.
func keyUsage(names []string) ([]pkix.Extension, error) {
	known := map[string]byte{"digitalsignature": 0x80, "nonrepudiation": 0x40, "contentcommitment": 0x40, "keyencipherment": 0x20}
	var bits byte
	for _, name := range names {
		bits |= known[strings.ToLower(name)]
	}
	if bits == 0 {
		return nil, nil
	}
	extension, err := scep.KeyUsage(bits)
	return []pkix.Extension{extension}, err
}
