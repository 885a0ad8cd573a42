package partnerca_test

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/partnerca"
)

// story is one device at one partner.
func story(t *testing.T, java bool) *play {
	w := newWorld(t)
	w.own(nil)
	return &play{world: w, c: w.client(java), column: "Win10", enrolment: w.device("Win10")}
}

// status is the HTTP status of an error; 0 when there is none.
func status(err error) int {
	var p *problem
	if errors.As(err, &p) {
		return p.status
	}
	return 0
}

func validationBody(csr string) string {
	return `{"request":{"transactionId":"T","certificateRequest":"` + csr + `","callerInfo":"x"}}`
}

func headerOf(token string, edit func(map[string]string)) map[string]string {
	h := map[string]string{"Authorization": "Bearer " + token, "api-version": "2018-02-20"}
	if edit != nil {
		edit(h)
	}
	return h
}

// TestPA01FailureIsAnAnswer: what is wrong with a request is HTTP 200 with a code; only what is wrong with the call is not.
func TestPA01FailureIsAnAnswer(t *testing.T) {
	dialects(t, func(t *testing.T, java bool) {
		p := story(t, java)
		unsigned := p.asks(1)
		unsigned.forged = true
		for want, csr := range map[string][]byte{"CertificateRequestDecodingFailed": []byte("no PKCS #10"), "SignatureValidationFailed": unsigned.der(p)} {
			if code, err := p.c.validate("T", csr); err != nil || code != want {
				p.Errorf("got %s, %v; want %s", code, err, want)
			}
		}
		token, err := p.c.token("x")
		p.ok(err)
		good := base64.StdEncoding.EncodeToString(p.asks(1).der(p))
		header := func(edit func(map[string]string)) map[string]string { return headerOf(token, edit) }
		cases := []struct {
			name   string
			header map[string]string
			body   string
			want   int
		}{
			{"no token", header(func(h map[string]string) { delete(h, "Authorization") }), validationBody(good), 401},
			{"another scheme", header(func(h map[string]string) { h["Authorization"] = "Basic " + token }), validationBody(good), 401},
			{"a changed token", header(func(h map[string]string) { h["Authorization"] = "Bearer B" + token[1:] }), validationBody(good), 401},
			{"no version", header(func(h map[string]string) { delete(h, "api-version") }), validationBody(good), 400},
			{"another version", header(func(h map[string]string) { h["api-version"] = "2030-01-01" }), validationBody(good), 400},
			{"no JSON", header(nil), "x", 400},
			{"more than JSON", header(nil), validationBody(good) + "x", 400},
			{"nothing in it", header(nil), "{}", 400},
			{"no transaction", header(nil), `{"request":{"certificateRequest":"` + good + `"}}`, 400},
			{"no request", header(nil), validationBody(""), 400},
			{"too large", header(nil), validationBody(strings.Repeat("A", 64<<10)), 413},
			{"all is well", header(nil), validationBody(good), 0},
		}
		for _, c := range cases {
			out, err := p.c.do(http.MethodPost, p.url+partnerca.Prefix+"/ScepRequestValidationFEService/ScepActions/validateRequest", c.header, []byte(c.body))
			if status(err) != c.want || c.want == 0 && out["code"] != "Success" {
				p.Errorf("%s: %v, %v", c.name, out, err)
			}
		}
	})
}

// TestPA02NoCodesOfOurOwn: the C# library throws at others.
func TestPA02NoCodesOfOurOwn(t *testing.T) {
	for _, code := range []issuance.Code{issuance.Success, issuance.CertificateRequestDecodingFailed, issuance.ChallengePasswordMissing, issuance.ChallengeDeserializationError,
		issuance.ChallengeDecryptionError, issuance.ChallengeDecodingError, issuance.ChallengeInvalidTimestamp, issuance.ChallengeExpired, issuance.SubjectNameMissing,
		issuance.SubjectNameMismatch, issuance.SubjectAltNameMissing, issuance.SubjectAltNameMismatch, issuance.KeyUsageMismatch, issuance.KeyLengthMismatch,
		issuance.EnhancedKeyUsageMissing, issuance.EnhancedKeyUsageMismatch, issuance.RegisteredKeyMismatch, issuance.ScepProfileNoLongerTargeted,
		issuance.SignatureValidationFailed, issuance.BadDeviceIDInChallenge, issuance.BadUserIDInChallenge, issuance.BadRequestIDInChallenge} {
		if !known(string(code)) {
			t.Errorf("%s is no code of the API", code)
		}
	}
}

// TestPA04NotificationsHaveCodes: and what is not Success has the partner withhold the certificate.
func TestPA04NotificationsHaveCodes(t *testing.T) {
	dialects(t, func(t *testing.T, java bool) {
		p := story(t, java)
		r := p.asks(1)
		parsed, err := x509.ParseCertificateRequest(r.der(p))
		p.ok(err)
		cert := p.issue(parsed, year)
		if code, err := p.c.success("T", r.der(p), cert); err != nil || code != "BadCertificateRequestIdInChallenge" {
			p.Errorf("never validated: %s, %v", code, err)
		}
		if code, err := p.c.failure("T", r.der(p), -1, "no"); err != nil || code != "BadCertificateRequestIdInChallenge" {
			p.Errorf("never validated: %s, %v", code, err)
		}
		cert = p.issued(r, year)
		for range 2 {
			if code, err := p.c.success("T", r.der(p), cert); err != nil || code != "Success" {
				p.Errorf("told again: %s, %v", code, err)
			}
		}
		if code, err := p.c.success("T", r.der(p), p.issue(parsed, year)); err != nil || code != "BadCertificateRequestIdInChallenge" {
			p.Errorf("a second certificate: %s, %v", code, err)
		}
		all := p.certificates(p.enrolment)
		if len(all) != 2 || all[0].Status == all[1].Status {
			p.Errorf("certificates %+v", all)
		}
		list, err := p.c.download(500, nil)
		if err != nil || len(list) != 1 {
			p.Errorf("the second is to be revoked: %v, %v", list, err)
		}
		want := []string{"partner ejbca ok ", "partner ejbca ok ", "partner ejbca ok ", "partner ejbca refused "}
		if got := slices.Sorted(slices.Values(p.audited("partner.issued"))); !slices.Equal(slices.Compact(got), slices.Compact(append(want, "partner ejbca refused BadCertificateRequestIdInChallenge"))) {
			p.Errorf("audited %q", got)
		}
	})
}

// TestFailureNotificationIsKept: an admin reads the partner's words, and the device may ask again with the same key.
func TestFailureNotificationIsKept(t *testing.T) {
	dialects(t, func(t *testing.T, java bool) {
		p := story(t, java)
		r := p.asks(1)
		if code, err := p.c.validate("T", r.der(p)); err != nil || code != "Success" {
			p.Fatal(code, err)
		}
		if code, err := p.c.failure("T", r.der(p), -2146885628, "the CA is closed on Sundays\n"); err != nil || code != "Success" {
			p.Fatal(code, err)
		}
		snap, err := p.db.Snapshot(p.Context(), p.enrolment)
		p.ok(err)
		found := false
		for _, j := range snap.Jobs {
			found = found || j.State == model.JobFailed && j.Reason == platforms.ReasonIssueRefused && j.Error == "the CA is closed on Sundays (0x80092004)"
		}
		if !found {
			p.Errorf("jobs %+v", snap.Jobs)
		}
		p.issued(r, year)
	})
}

// TestPA06OrderOfChecks: signature, expiry, still targeted, what the request says. Each is repaired in turn.
func TestPA06OrderOfChecks(t *testing.T) {
	dialects(t, func(t *testing.T, java bool) {
		p := story(t, java)
		old := p.challenge(p.enrolment)
		p.now = p.now.Add(issuance.ChallengeLife + time.Minute)
		r := p.asks(1)
		fresh := r.challenge
		r.challenge, r.subject, r.forged = old, marshal(p, wrongName()), true
		p.apply(profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindAssignment, Name: "all",
			Spec: &profiles.Assignment{Profiles: []string{"own"}, Include: []profiles.Target{{Group: "nobody"}}}})
		steps := []struct {
			want   string
			repair func()
		}{
			{"SignatureValidationFailed", func() { r.forged = false }},
			{"ChallengeExpired", func() { r.challenge = fresh }},
			{"ScepProfileNoLongerTargetedToTheClient", func() { p.own(nil) }},
			{"SubjectNameMismatch", func() { r.subject = p.order(p.enrolment).Subject }},
			{"Success", func() {}},
		}
		for _, s := range steps {
			if code, err := p.c.validate("T", r.der(p)); err != nil || code != s.want {
				p.Errorf("got %s, %v; want %s", code, err, s.want)
			}
			s.repair()
		}
		if got := p.audited("partner.validate"); !slices.Equal(got, []string{"partner ejbca refused SignatureValidationFailed", "partner ejbca refused ChallengeExpired",
			"partner ejbca refused ScepProfileNoLongerTargetedToTheClient", "partner ejbca refused SubjectNameMismatch", "partner ejbca ok "}) {
			p.Errorf("audited %q", got)
		}
	})
}

// TestPA07OneChallengeOneKey: the same request again is fine, under whatever transaction; another key is not, and neither is
// the challenge of another partner's profile, nor one without.
func TestPA07OneChallengeOneKey(t *testing.T) {
	dialects(t, func(t *testing.T, java bool) {
		p := story(t, java)
		r := p.asks(1)
		for _, transaction := range []string{"T", "T", "U"} {
			if code, err := p.c.validate(transaction, r.der(p)); err != nil || code != "Success" {
				p.Errorf("%s: %s, %v", transaction, code, err)
			}
		}
		other := r
		other.key = testpki.PoolKey(t, 2)
		for name, call := range map[string]func() (string, error){
			"validate": func() (string, error) { return p.c.validate("T", other.der(p)) },
			"success": func() (string, error) {
				return p.c.success("T", other.der(p), testpki.NewCA(t, "x").Cert)
			},
			"failure": func() (string, error) { return p.c.failure("T", other.der(p), 1, "no") },
		} {
			if code, err := call(); err != nil || code != "RegisteredKeyMismatch" {
				p.Errorf("%s with another key: %s, %v", name, code, err)
			}
		}
		p.partner = p.join("stepca", "app-stepca")
		stranger := p.client(java)
		if code, err := stranger.validate("T", p.asks(3).der(p)); err != nil || code != "BadCertificateRequestIdInChallenge" {
			p.Errorf("another partner: %s, %v", code, err)
		}
		if code, err := stranger.success("T", r.der(p), testpki.NewCA(t, "x").Cert); err != nil || code != "BadCertificateRequestIdInChallenge" {
			p.Errorf("another partner's certificate: %s, %v", code, err)
		}
		none := p.asks(3)
		none.challenge = ""
		if code, err := p.c.validate("T", none.der(p)); err != nil || code != "ChallengePasswordMissing" {
			p.Errorf("no challenge: %s, %v", code, err)
		}
		if all := p.certificates(p.enrolment); len(all) != 0 {
			p.Errorf("certificates %+v", all)
		}
	})
}

// TestPA08Redirected: a partner that knows nothing but its configuration gets here by it; a removed one is out at once.
func TestPA08Redirected(t *testing.T) {
	dialects(t, func(t *testing.T, java bool) {
		p := story(t, java)
		for _, service := range []string{"ScepRequestValidationFEService", "PkiConnectorFEService"} {
			if uri, err := p.c.endpoint(service); err != nil || uri != p.url+partnerca.Prefix+"/"+service {
				p.Errorf("%s: %q, %v", service, uri, err)
			}
		}
		for path, want := range map[string]string{"waxseal/v2.0/.well-known/openid-configuration": p.url + "/waxseal/oauth2/v2.0/token", "waxseal/.well-known/openid-configuration": p.url + "/waxseal/oauth2/v2.0/token"} {
			if out, err := p.c.do(http.MethodGet, p.url+"/"+path, nil, nil); err != nil || out["token_endpoint"] != want {
				p.Errorf("%s: %v, %v", path, out, err)
			}
		}
		out, err := p.c.do(http.MethodGet, p.url+"/common/discovery/instance?api-version=1.1&authorization_endpoint=x", map[string]string{"client-request-id": uuid.NewString()}, nil)
		if err != nil || !strings.HasPrefix(out["tenant_discovery_endpoint"].(string), p.url) || len(out["metadata"].([]any)) != 1 {
			p.Errorf("%v, %v", out, err)
		}
		p.ok(p.db.RemovePartner(p.Context(), "ejbca", p.audit("partner.remove")))
		token, err := p.c.token("x")
		if token != "" || status(err) != 401 {
			p.Errorf("a removed partner gets %q, %v", token, err)
		}
	})
}

// TestPA08TheServersTokens: they end, they end with their partner, and another server's are none.
func TestPA08TheServersTokens(t *testing.T) {
	p := story(t, true)
	call := func(token string) int {
		_, err := p.c.do(http.MethodGet, p.url+"/v1.0/servicePrincipals/appId=x/endpoints", map[string]string{"Authorization": "Bearer " + token}, nil)
		return status(err)
	}
	token, err := p.c.token("x")
	p.ok(err)
	if got := call(token); got != 0 {
		p.Errorf("a good token: %d", got)
	}
	for name, bad := range map[string]string{"none": "", "short": "AAAA", "no base64": "!", "long": strings.Repeat("A", 4096), "changed": token[:len(token)-2] + "AA"} {
		if got := call(bad); got != 401 {
			p.Errorf("%s: %d", name, got)
		}
	}
	p.now = p.now.Add(partnerca.TokenLife)
	if got := call(token); got != 401 {
		p.Errorf("an old token: %d", got)
	}
	p.now = p.now.Add(-time.Minute)
	p.ok(p.db.RemovePartner(p.Context(), "ejbca", p.audit("partner.remove")))
	if got := call(token); got != 401 {
		p.Errorf("a token of a removed partner: %d", got)
	}
}

// TestPA08ClientCredentials: the token endpoint takes them in the body and by HTTP Basic, says what is wrong in the words of
// RFC 6749 section 5.2, and audits who guesses.
func TestPA08ClientCredentials(t *testing.T) {
	p := story(t, true)
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	basic := map[string]string{"Content-Type": form["Content-Type"], "Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("app%2Dejbca:"+secret))}
	good := "grant_type=client_credentials&client_id=APP-ejbca&client_secret=" + secret
	cases := []struct {
		name, body string
		header     map[string]string
		status     int
		want       string
	}{
		{"in the body", good + "&scope=x", form, 0, ""},
		{"by Basic", "grant_type=client_credentials&scope=x", basic, 0, ""},
		{"another secret", good + "x", form, 401, "invalid_client"},
		{"another app", strings.Replace(good, "ejbca", "x", 1), form, 401, "invalid_client"},
		{"nobody", "grant_type=client_credentials", form, 401, "invalid_client"},
		{"no secret", "grant_type=client_credentials&client_id=app-ejbca", form, 401, "invalid_client"},
		{"a certificate", good + "&client_assertion=x", form, 401, "invalid_client"},
		{"a password", "grant_type=password", form, 400, "unsupported_grant_type"},
		{"no form", "%zz", form, 400, "invalid_request"},
		{"too much", strings.Repeat("a", 65<<10), form, 400, "invalid_request"},
	}
	for _, c := range cases {
		out, err := p.c.do(http.MethodPost, p.url+"/t/oauth2/v2.0/token", c.header, []byte(c.body))
		if status(err) != c.status || err == nil && out["access_token"] == "" || err != nil && !strings.Contains(err.Error(), `"`+c.want+`"`) {
			p.Errorf("%s: %v, %v", c.name, out, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			p.Errorf("%s: the answer repeats the secret", c.name)
		}
	}
	if got := p.audited("partner.token"); len(got) != 4 {
		p.Errorf("audited %q", got)
	}
}

// TestRateOfAPartner: one that loops does not occupy the server.
func TestRateOfAPartner(t *testing.T) {
	p := story(t, true)
	token, err := p.c.token("x")
	p.ok(err)
	busy := 0
	for range 502 {
		_, err := p.c.do(http.MethodPost, p.url+partnerca.Prefix+"/ScepRequestValidationFEService/ScepActions/validateRequest",
			map[string]string{"Authorization": "Bearer " + token, "api-version": "x"}, nil)
		if status(err) == http.StatusTooManyRequests {
			busy++
		}
	}
	if busy != 2 {
		p.Errorf("%d calls were too many", busy)
	}
}
