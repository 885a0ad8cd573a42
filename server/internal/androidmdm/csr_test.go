package androidmdm_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
)

const ownKey = "identity:smime-sign-0123456789ab"

// certifier answers as it is told.
type certifier struct {
	begin, answer error
	certificate   []byte
	asked         []string
}

func (c *certifier) BeginFor(_ context.Context, enrolmentID, requestID string, _ *x509.CertificateRequest) (model.SCEPRequest, error) {
	c.asked = append(c.asked, requestID)
	return model.SCEPRequest{EnrolmentID: enrolmentID, RequestID: requestID, KeySHA256: "key"}, c.begin
}

func (c *certifier) Answer(_ context.Context, r model.SCEPRequest) (model.SCEPRequest, error) {
	r.Certificate, r.Chain = c.certificate, [][]byte{[]byte("issuer")}
	return r, c.answer
}

func (r *rig) csr() companion.CSRRequest {
	r.t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, testpki.PoolKey(r.t, 2))
	if err != nil {
		r.t.Fatal(err)
	}
	return companion.CSRRequest{Revision: "r1", CSR: csr}
}

func TestCertificateForOwnKey(t *testing.T) {
	r := newRig(t)
	credential := r.enrolled(1).Credential
	r.issuance.certificate = r.ca.Issue(t, testpki.Options{CN: "Alice"}).Cert.Raw
	w := r.do(http.MethodPost, companion.PathCSROf(ownKey), credential, r.csr())
	answer, err := companion.DecodeCSRResponse(w.Body.Bytes())
	if err != nil || w.Code != 200 || len(answer.Chain) != 2 || !slices.Equal(answer.Chain[0], r.issuance.certificate) {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if !slices.Equal(r.delivery.calls, []string{"request " + ownKey + " r1"}) || !slices.Equal(r.issuance.asked, []string{"request-1"}) {
		t.Errorf("delivery heard %q, issuance %q", r.delivery.calls, r.issuance.asked)
	}
	if !slices.ContainsFunc(r.store.Audit(), func(a model.AuditEntry) bool {
		return a.Action == "certificate.fetch" && a.Object == answer.CertSHA256 && a.Detail["item"] == ownKey
	}) {
		t.Errorf("no audit of the certificate: %+v", r.store.Audit())
	}
}

func TestNoCertificateForOwnKey(t *testing.T) {
	cases := map[string]struct {
		prepare func(r *rig)
		body    func(r *rig) any
		want    string
		asked   bool
	}{
		"nonsense":    {func(*rig) {}, func(*rig) any { return "[" }, companion.CodeMalformed, false},
		"no PKCS #10": {func(*rig) {}, func(*rig) any { return companion.CSRRequest{Revision: "r1", CSR: []byte("no request")} }, companion.CodeMalformed, false},
		"not wanted":  {func(r *rig) { r.delivery.err = gone{} }, nil, companion.CodeItemGone, false},
		"too slow":    {func(r *rig) { r.issuance.answer = issuance.ErrPending }, nil, companion.CodeWaitingForConnector, true},
		"refused":     {func(r *rig) { r.issuance.begin = &issuance.Fault{Code: issuance.KeyLengthMismatch, Detail: "no"} }, nil, companion.CodeCSRRefused, true},
		"the CA refuses": {func(r *rig) {
			r.issuance.answer = &issuance.Fault{Code: issuance.BadRequestIDInChallenge, Detail: "no"}
		}, nil,
			companion.CodeCSRRefused, true},
		"changed meanwhile": {func(r *rig) {
			r.issuance.begin = &issuance.Fault{Code: issuance.ScepProfileNoLongerTargeted, Detail: "no"}
		}, nil,
			companion.CodeRevisionStale, true},
		"broken": {func(r *rig) { r.issuance.begin = errors.New("the disk is full") }, nil, companion.CodeInternal, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			credential := r.enrolled(1).Credential
			c.prepare(r)
			var body any = r.csr()
			if c.body != nil {
				body = c.body(r)
			}
			w := r.do(http.MethodPost, companion.PathCSROf(ownKey), credential, body)
			if got := code(t, w); got != c.want || (len(r.issuance.asked) > 0) != c.asked {
				t.Errorf("%s, want %s; issuance heard %q", got, c.want, r.issuance.asked)
			}
			if slow := slices.Contains(r.delivery.calls, "asking "+ownKey); slow != (c.want == companion.CodeWaitingForConnector) || slow && w.Header().Get("Retry-After") == "" {
				t.Errorf("delivery heard %q", r.delivery.calls)
			}
		})
	}
	if got := newRig(t); code(t, got.do(http.MethodPost, companion.PathCSROf(ownKey), "", got.csr())) != companion.CodeCredentialInvalid {
		t.Error("nobody was served")
	}
}

// gone is an item that is not wanted any more.
type gone struct{}

func (gone) Error() string { return "gone" }

func (gone) AsProblem() companion.Problem {
	return companion.Problem{Code: companion.CodeItemGone, Detail: "gone"}
}
