package partnerca_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/partnerca"
)

// leave has the device of a story unenrol.
func (p *play) leave() {
	p.Helper()
	p.ok(p.db.CheckOut(p.Context(), p.enrolment, model.RemovalReported, string(profiles.EventUnenroll), p.now, p.audit("device.checkout")))
}

func (p *play) statuses() []string {
	p.Helper()
	var out []string
	for _, c := range p.certificates(p.enrolment) {
		out = append(out, string(c.Status))
	}
	return slices.Sorted(slices.Values(out))
}

// TestPA09PartnerRevokes: the server revokes nothing itself; the partner asks what there is to revoke, as often as it needs.
func TestPA09PartnerRevokes(t *testing.T) {
	dialects(t, func(t *testing.T, java bool) {
		p := story(t, java)
		cert := p.issued(p.asks(1), year)
		if list, err := p.c.download(1, nil); err != nil || len(list) != 0 {
			p.Errorf("nothing is to be revoked: %v, %v", list, err)
		}
		p.leave()
		if got := p.statuses(); !slices.Equal(got, []string{"revoking"}) {
			p.Errorf("status %q", got)
		}
		if list, err := p.c.download(10, "Another CA"); err != nil || len(list) != 0 {
			p.Errorf("another issuer: %v, %v", list, err)
		}
		list, err := p.c.download(10, "Partner CA")
		if err != nil || len(list) != 1 {
			p.Fatal(list, err)
		}
		want := revocation{list[0].Context, strings.ToUpper(cert.SerialNumber.Text(16)), "Partner CA", "the configuration"}
		if list[0] != want {
			p.Errorf("got %+v, want %+v", list[0], want)
		}
		if again, err := p.c.download(10, nil); err != nil || len(again) != 0 {
			p.Errorf("what somebody works on: %v, %v", again, err)
		}
		p.now = p.now.Add(20 * time.Minute)
		if again, err := p.c.download(10, nil); err != nil || !slices.Equal(again, list) {
			p.Errorf("what was not answered comes again: %v, %v", again, err)
		}
		for range 2 {
			p.ok(p.c.upload(result{context: list[0].Context, succeeded: true, name: "None"}))
		}
		if got := p.statuses(); !slices.Equal(got, []string{"revoked"}) {
			p.Errorf("status %q", got)
		}
		if got := p.audited("partner.revoked"); len(got) != 2 {
			p.Errorf("audited %q", got)
		}
	})
}

// TestPA09NotWithoutTheProfile: what the profile does not want revoked stays valid.
func TestPA09NotWithoutTheProfile(t *testing.T) {
	p := story(t, true)
	p.own(func(r *profiles.CertificateRequest) { r.RevokeOn = []profiles.Event{} })
	p.issued(p.asks(1), year)
	p.leave()
	if list, err := p.c.download(10, nil); err != nil || len(list) != 0 {
		p.Errorf("got %v, %v", list, err)
	}
}

// TestPA03ErrorCodes: names and numbers mean the same; what can pass comes again, what cannot does not, and what was revoked
// before is revoked.
func TestPA03ErrorCodes(t *testing.T) {
	cases := []struct {
		number int
		name   string
		status string
		again  bool
	}{
		{4000, "NonRetryableServiceException", "revoking", false}, {4001, "DataSerializationError", "revoking", false}, {4002, "ParameterDataInvalidError", "revoking", false},
		{4003, "CryptographyError", "revoking", false}, {4004, "CertificateNotFoundError", "revoking", false}, {4005, "ConflictError", "revoked", false},
		{4006, "NotSupportedError", "revoking", false}, {4007, "PayloadTooLargeError", "revoking", false}, {4100, "RetryableServiceException", "revoking", true},
		{4101, "ServiceUnavailableException", "revoking", true}, {4102, "ServiceTooBusyException", "revoking", true}, {4103, "AuthenticationException", "revoking", true},
	}
	dialects(t, func(t *testing.T, java bool) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				p := story(t, java)
				p.issued(p.asks(1), year)
				p.leave()
				list, err := p.c.download(10, nil)
				if err != nil || len(list) != 1 {
					p.Fatal(list, err)
				}
				p.ok(p.c.upload(result{context: list[0].Context, number: c.number, name: c.name, message: "it is so"}))
				if got := p.statuses(); !slices.Equal(got, []string{c.status}) {
					p.Errorf("status %q", got)
				}
				p.now = p.now.Add(40 * time.Minute)
				if again, err := p.c.download(10, nil); err != nil || (len(again) == 1) != c.again {
					p.Errorf("again: %v, %v", again, err)
				}
			})
		}
	})
}

// TestPA05ContradictoryResults refuses what says two things at once, all of it; a failure without a code, which the C# library
// lets through, may pass.
func TestPA05ContradictoryResults(t *testing.T) {
	p := story(t, false)
	p.issued(p.asks(1), year)
	p.leave()
	list, err := p.c.download(10, nil)
	if err != nil || len(list) != 1 {
		p.Fatal(list, err)
	}
	good := result{context: list[0].Context, succeeded: true, name: "None"}
	for name, bad := range map[string]result{
		"a code":          {context: "x", succeeded: true, name: "CryptographyError"},
		"a message":       {context: "x", succeeded: true, name: "None", message: "but"},
		"no context":      {succeeded: true, name: "None"},
		"an unknown code": {context: "x", name: "MyOwnError"},
	} {
		if err := p.c.upload(good, bad); status(err) != 400 {
			p.Errorf("%s: %v", name, err)
		}
	}
	if got := p.statuses(); !slices.Equal(got, []string{"revoking"}) {
		p.Errorf("status %q", got)
	}
	p.ok(p.c.upload(result{context: list[0].Context, name: "None", message: "try later"}))
	p.now = p.now.Add(time.Hour)
	if again, err := p.c.download(10, nil); err != nil || len(again) != 1 {
		p.Errorf("again: %v, %v", again, err)
	}
	p.ok(p.c.upload(result{context: "of another server", succeeded: true, name: "None"}))
}

func TestRevocationBodies(t *testing.T) {
	p := story(t, true)
	for _, limit := range []int{0, -1, 501} {
		if _, err := p.c.download(limit, nil); status(err) != 400 {
			p.Errorf("%d requests: %v", limit, err)
		}
	}
	if _, err := p.c.download(1, strings.Repeat("x", 2000)); status(err) != 400 {
		p.Errorf("a long name: %v", err)
	}
	if err := p.c.upload(); status(err) != 400 {
		p.Errorf("no results: %v", err)
	}
	token, err := p.c.token("x")
	p.ok(err)
	for _, body := range []string{"", "x", "{}", `{"results":[{"requestContext":"x","succeeded":false,"errorCode":{}}]}`, `{"results":[{"requestContext":"x","succeeded":"yes"}]}`} {
		for _, call := range []string{"downloadRevocationRequests", "uploadRevocationResults"} {
			_, err := p.c.do(http.MethodPost, p.url+partnerca.Prefix+"/PkiConnectorFEService/CertificateAuthorityRequests/"+call,
				map[string]string{"Authorization": "Bearer " + token, "api-version": "5019-05-05"}, []byte(body))
			if status(err) != 400 {
				p.Errorf("%s: %q: %v", call, body, err)
			}
		}
	}
}
