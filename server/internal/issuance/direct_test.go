package issuance

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/model"
)

// answered asks without a challenge, and puts the certificate where the store would have it.
func (w *world) answered(request string, csr *x509.CertificateRequest) (model.SCEPRequest, model.Certificate) {
	w.t.Helper()
	r, err := w.svc.BeginFor(w.t.Context(), "e-1", request, csr)
	if err == nil {
		r, err = w.svc.Answer(w.t.Context(), r)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	c, _, err := model.NewCertificate(r.Certificate)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, known := w.issued[c.SHA256]; !known {
		c.Status = model.CertificateCurrent
		w.issued[c.SHA256] = c
	}
	return r, c
}

// TestWithoutChallenge: the same key gets the same certificate, whatever is wanted by now; another key another one.
func TestWithoutChallenge(t *testing.T) {
	w := newWorld(t)
	first, c := w.answered(request, w.csr(1))
	if first.EnrolmentID != "e-1" || first.RequestID != request {
		t.Errorf("%+v", first)
	}
	if _, again := w.answered(request, w.csr(1)); again.SHA256 != c.SHA256 || len(w.jobs) != 1 {
		t.Errorf("the same key got %s after %s, by %d jobs", again.SHA256, c.SHA256, len(w.jobs))
	}
	if _, other := w.answered(request, w.csr(2)); other.SHA256 == c.SHA256 || len(w.jobs) != 2 {
		t.Error("another key got the same certificate")
	}
	w.orders["e-1"] = nil
	if _, again := w.answered(request, w.csr(1)); again.SHA256 != c.SHA256 {
		t.Error("what is issued was not given")
	}
}

func TestRefusedWithoutChallenge(t *testing.T) {
	cases := map[string]struct {
		prepare func(w *world) *x509.CertificateRequest
		want    Code
	}{
		"bent": {func(w *world) *x509.CertificateRequest {
			csr := w.csr(1)
			csr.Signature[5] ^= 1
			return csr
		}, SignatureValidationFailed},
		"another name": {func(w *world) *x509.CertificateRequest {
			return requestOf(w.t, testpki.PoolKey(w.t, 1), []byte{0x30, 0}, extension(w.t, oidSubjectAltName, names(name(1, "boss@corp.test"))))
		}, SubjectAltNameMismatch},
		"another request by now": {func(w *world) *x509.CertificateRequest {
			w.orders["e-1"][0].RequestID = strings.Repeat("ab", 16)
			return w.csr(1)
		}, ScepProfileNoLongerTargeted},
		"a partner's": {func(w *world) *x509.CertificateRequest {
			w.orders["e-1"][0].Needs = []string{link.PartnerMember("acme")}
			return w.csr(1)
		}, BadRequestIDInChallenge},
		"superseded": {func(w *world) *x509.CertificateRequest {
			_, c := w.answered(request, w.csr(1))
			c.Status = model.CertificateSuperseded
			w.issued[c.SHA256] = c
			return w.csr(1)
		}, RegisteredKeyMismatch},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			csr := c.prepare(w)
			jobs := len(w.jobs)
			if _, err := w.svc.BeginFor(t.Context(), "e-1", request, csr); codeOf(err) != c.want || len(w.jobs) != jobs {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
