package android

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

// keyState is what the app can tell of an alias.
type keyState int

const (
	keyUnknown keyState = iota // it may not look, or cannot before API 31
	keyAbsent
	keyThere
)

// held is what is under an alias: whose certificate, empty if the app may not read it, and whether there is a key at all.
// An app that was installed anew has no access to the keys of its predecessor, but may give itself one.
func (d *Device) held(alias string) (string, keyState) {
	p := d.state.Phone
	if chain := p.CertificateChain(Package, alias); len(chain) > 0 {
		return framework.Fingerprint(chain[0]), keyThere
	}
	there, err := p.HasKeyPair(Package, alias)
	switch {
	case err != nil:
		return "", keyUnknown
	case !there:
		return "", keyAbsent
	}
	if ok, err := p.GrantKeyPairToApp(Package, alias, Package); ok && err == nil {
		d.acted()
		if chain := p.CertificateChain(Package, alias); len(chain) > 0 {
			return framework.Fingerprint(chain[0]), keyThere
		}
	}
	return "", keyThere
}

// gone reports whether an alias has no key any more. Before API 31 nobody can be asked; but the app has access to each key
// that it installed, so that a key without a chain is none.
func (d *Device) gone(alias string) bool {
	_, state := d.held(alias)
	p := d.state.Phone
	return state == keyAbsent || state == keyUnknown && p.SDK < framework.APIHasKey && p.UserUnlocked()
}

// installIdentity brings a key into the key chain. What is there already with the right certificate is taken over, unless
// it is an older revision of the app's own; what is there with another certificate and is not the app's stays.
func (r *round) installIdentity(ctx context.Context, rec *record) (outcome, error) {
	id := rec.Item.Identity
	if o := r.mayInstall(id); o.fault != nil {
		return o, nil
	}
	if id.Payload == companion.PayloadGenerate {
		return r.generateIdentity(ctx, rec)
	}
	sum, there := r.held(id.Alias)
	switch {
	case there == keyThere && sum == id.CertSHA256 && rec.Held != sum:
		return r.holds(rec, sum), nil
	case there == keyThere && sum != "" && sum != id.CertSHA256 && sum != rec.Held:
		return fault(companion.ErrAliasConflict, id.Alias+" holds the certificate "+sum, nil), nil
	}
	return r.replaceIdentity(ctx, rec)
}

// mayInstall says what keeps any key from coming into the key chain.
func (r *round) mayInstall(id *companion.Identity) outcome {
	p := r.state.Phone
	switch now := r.now(); {
	case !p.UserUnlocked():
		return fault(companion.ErrUserLocked, "", nil)
	case !p.May(Package, framework.ScopeCertInstall):
		return fault(companion.ErrDelegationMissing, "", nil)
	case id.NotBefore.After(now) && !id.NotBefore.After(r.state.App.Desired.ServerTime):
		return fault(companion.ErrClockSkew, "it is "+now.UTC().Format(time.RFC3339)+" here", nil)
	}
	return outcome{}
}

func (r *round) replaceIdentity(ctx context.Context, rec *record) (outcome, error) {
	pair, o, err := r.secret(ctx, rec)
	if err != nil || o.state != "" || o.fault != nil {
		return o, err
	}
	id := rec.Item.Identity
	flags := framework.FlagRequestAccess
	if id.UserSelectable {
		flags |= framework.FlagUserSelectable
	}
	ok, err := r.state.Phone.InstallKeyPair(Package, id.Alias, pair, flags)
	if err != nil {
		return thrown(err, companion.ErrDelegationMissing), nil
	}
	if !ok {
		return r.refused(), nil
	}
	rec.Brought = true
	r.regrant(id.Alias)
	if err := r.save(); err != nil { // the key chain is the system's, and keeps the key whatever becomes of the app
		return outcome{}, err
	}
	if err := r.crash(ChaosCrashInstall); err != nil {
		return outcome{}, err
	}
	return r.holds(rec, id.CertSHA256), nil
}

// refused looks for the reason of a bare false.
func (r *round) refused() outcome {
	p := r.state.Phone
	switch {
	case p.DiskEncrypted && !p.DeviceSecure():
		return fault(companion.ErrScreenLockRequired, "", nil)
	case p.StorageFull:
		return fault(companion.ErrStorageFull, "", nil)
	}
	return fault(companion.ErrKeychainRefused, "", nil)
}

// holds ends the installation with what is in the key chain now, which must be that certificate.
func (r *round) holds(rec *record, want string) outcome {
	alias := rec.Item.Identity.Alias
	sum, _ := r.held(alias)
	if sum != want {
		return fault(companion.ErrKeychainRefused, "the key is not there after the installation", nil)
	}
	rec.Held = sum
	o := done(companion.StateInstalled)
	o.observed = &companion.Observed{Alias: alias, CertSHA256: sum, HasKeyPair: true}
	return o
}

// regrant puts the grants of an alias back to the beginning: those of the key that was there before are gone with it.
func (r *round) regrant(alias string) {
	for _, rec := range r.state.App.Records {
		if rec.Item.Kind == companion.KindGrant && rec.Item.Grant.Alias == alias {
			if rec.done() {
				rec.again()
			}
			rec.Brought = false
		}
	}
}

// secret fetches an identity's key, opens it and checks that it is what the item says. An outcome with a state or a fault
// stands for no key. An envelope that does not open is fetched once more.
func (r *round) secret(ctx context.Context, rec *record) (framework.KeyPair, outcome, error) {
	for try := 1; ; try++ {
		envelope, o, err := r.envelope(ctx, rec)
		if err != nil || o.state != "" || o.fault != nil {
			return framework.KeyPair{}, o, err
		}
		s, err := r.unwrap(envelope)
		if err == nil && s.ItemID == rec.Item.ID && s.Revision == rec.Item.Revision && s.CertSHA256 == rec.Item.Identity.CertSHA256 {
			pair, o := keyPair(s)
			clear(s.Key)
			return pair, o, nil
		}
		if try == 2 {
			return framework.KeyPair{}, fault(companion.ErrDecryptFailed, detailOf(err), nil), nil
		}
	}
}

func detailOf(err error) string {
	switch {
	case err == nil:
		return "the secret is that of another item, revision or certificate"
	case errors.Is(err, cms.ErrNoRecipient):
		return "it is encrypted to another key"
	}
	return ""
}

// envelope asks for an identity's envelope (android.md section 8.3).
func (r *round) envelope(ctx context.Context, rec *record) ([]byte, outcome, error) {
	nonce, err := r.identifier()
	if err != nil {
		return nil, outcome{}, err
	}
	a, err := r.call(ctx, http.MethodPost, companion.PathPayloadOf(rec.Item.ID),
		companion.PayloadRequest{Revision: rec.Item.Revision, WrapKeyID: r.state.App.Enrolment.WrapKeyID, Nonce: nonce})
	if err != nil {
		o, err := r.noEnvelope(ctx, err)
		return nil, o, err
	}
	p, err := companion.DecodePayloadResponse(a.body)
	if err != nil {
		return nil, fault(companion.ErrServer5xx, err.Error(), nil), nil
	}
	return p.Envelope, outcome{}, nil
}

// noEnvelope says what the refusal of an envelope means for the item.
func (r *round) noEnvelope(ctx context.Context, err error) (outcome, error) {
	if ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	var no *refusal
	if !errors.As(err, &no) {
		return fault(companion.ErrNetwork, err.Error(), nil), nil
	}
	switch code := no.problem.Code; {
	case over(err):
		return outcome{}, err
	case code == companion.CodeWaitingForConnector:
		wait := time.Duration(no.problem.RetryAfterSeconds) * time.Second
		return outcome{state: companion.StateFetching, next: r.now().Add(max(wait, pollInterval)).UTC()}, nil
	case code == companion.CodeItemGone, code == companion.CodeRevisionStale, code == companion.CodeEnvelopeExpired:
		return outcome{}, errReread
	case unreachable(err):
		return fault(companion.ErrServer5xx, err.Error(), nil), nil
	}
	return fault(companion.ErrDecryptFailed, err.Error(), nil), nil
}

// unwrap opens an envelope with the wrap key.
func (d *Device) unwrap(envelope []byte) (companion.Secret, error) {
	key, err := d.state.App.wrapKey()
	if err != nil {
		return companion.Secret{}, err
	}
	cert, err := d.state.App.Enrolment.certificate()
	if err != nil {
		return companion.Secret{}, err
	}
	plain, err := cms.Decrypt(envelope, cert, key)
	if err != nil {
		return companion.Secret{}, fmt.Errorf("opening an envelope: %w", err)
	}
	defer clear(plain)
	return companion.DecodeSecret(plain)
}

// keyPair parses a secret's key and chain, and checks that they belong together (android.md P12-6): Android would only say
// false.
func keyPair(s companion.Secret) (framework.KeyPair, outcome) {
	key, err := x509.ParsePKCS8PrivateKey(s.Key)
	if err != nil {
		return framework.KeyPair{}, fault(companion.ErrKeyAlgUnsupported, "the key is not PKCS #8 of a known algorithm", nil)
	}
	if !framework.KnownKey(key) {
		return framework.KeyPair{}, fault(companion.ErrKeyAlgUnsupported, kindOf(key), nil)
	}
	chain, o := parseChain(s.Chain)
	if chain == nil {
		return framework.KeyPair{}, o
	}
	if !framework.Fits(key, chain[0]) {
		return framework.KeyPair{}, fault(companion.ErrKeyCertMismatch, "", nil)
	}
	return framework.KeyPair{Key: key, Chain: chain}, outcome{}
}

// parseChain parses certificates; nil: one is none.
func parseChain(ders [][]byte) ([]*x509.Certificate, outcome) {
	var chain []*x509.Certificate
	for i, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fault(companion.ErrKeyCertMismatch, fmt.Sprintf("chain_der_b64[%d] is no certificate", i), nil)
		}
		chain = append(chain, cert)
	}
	return chain, outcome{}
}

// kindOf names the kind of a key.
func kindOf(key crypto.PrivateKey) string { return fmt.Sprintf("the key is a %T", key) }

// removeIdentity takes a key away. One that is not there was removed before.
func (r *round) removeIdentity(rec *record) outcome {
	if _, err := r.state.Phone.RemoveKeyPair(Package, rec.Item.Identity.Alias); err != nil {
		return thrown(err, companion.ErrDelegationMissing)
	}
	rec.Held, rec.Made, rec.Brought = "", false, false
	return done(companion.StateRemoved)
}
