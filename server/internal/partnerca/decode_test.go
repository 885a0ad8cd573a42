package partnerca

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/identity/identitytest"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
)

func TestThumbprint(t *testing.T) {
	want := "0102030405060708090a0b0c0d0e0f1011121314"
	for _, good := range []string{want, strings.ToUpper(want), "01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14", "01 02 03 04 05060708090a0b0c0d0e0f1011121314"} {
		if got, err := thumbprint(good); err != nil || got != want {
			t.Errorf("%q: %q, %v", good, got, err)
		}
	}
	for _, bad := range []string{"", want[2:], want + "15", strings.Repeat("x", 40), strings.Repeat("0", 100)} {
		if got, err := thumbprint(bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}

func TestEnds(t *testing.T) {
	want := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, good := range []string{"2027-01-31T12:00:00Z", "2027-01-31T12:00:00.000Z", "2027-01-31T12:00:00", "2027-01-31T12:00:00.1234567", "2027-01-31T13:00:00+01:00",
		"2027-01-31T12:00:00+0000", "2027-01-31 12:00:00Z", "2027-01-31 12:00:00"} {
		if got, err := endOf(good); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v", good, got, err)
		}
	}
	for _, bad := range []string{"", "2027-01-31", "31.01.2027", "1/31/2027 12:00:00 PM", "0000-01-01T00:00:00Z"} {
		if got, err := endOf(bad); err == nil {
			t.Errorf("%q: %s", bad, got)
		}
	}
}

func TestSerial(t *testing.T) {
	for text, want := range map[string]string{"0A:FF": "0aff", "0xAB": "ab", "1234": "1234", "no number": "no number"} {
		if got := serial(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestRefusalWords(t *testing.T) {
	for number, want := range map[string]string{"-2146885628": "no (0x80092004)", "2148081668": "no (0x80092004)", "0": "no (0x00000000)"} {
		if got, err := refusal(json.Number(number), " no\n"); err != nil || got != want {
			t.Errorf("%s: %q, %v", number, got, err)
		}
	}
	for number, words := range map[string]string{"": "no", "1.5": "no", "99999999999": "no", "1": "", "2": "\n"} {
		if got, err := refusal(json.Number(number), words); err == nil {
			t.Errorf("%q %q: %q", number, words, got)
		}
	}
	if got, err := refusal("1", strings.Repeat("ä", 1000)); err != nil || len([]rune(got)) != maxDescription+len(" (0x00000001)") {
		t.Errorf("%d runes, %v", len([]rune(got)), err)
	}
}

// TestNotifications: what is wrong with the words of a partner is told by the field's name.
func TestNotifications(t *testing.T) {
	good := map[string]any{"transactionId": "T", "certificateRequest": "AAAA", "certificateThumbprint": strings.Repeat("ab", 20), "certificateSerialNumber": "01",
		"certificateExpirationDateUtc": "2027-01-31T12:00:00Z", "issuingCertificateAuthority": "CN=x", "newerField": map[string]any{"a": 1}}
	e := New(Config{Clock: testpki.Now})
	for field, bad := range map[string]any{"": nil, "transactionId": "", "certificateRequest": "", "certificateThumbprint": "xx", "certificateSerialNumber": "",
		"certificateExpirationDateUtc": "2020-01-31T12:00:00Z", "issuingCertificateAuthority": "", "caConfiguration": strings.Repeat("x", 1025), "certificateAuthority": "\x00"} {
		body := map[string]any{}
		for k, v := range good {
			body[k] = v
		}
		if field != "" {
			body[field] = bad
		}
		raw, err := json.Marshal(map[string]any{"notification": body})
		if err != nil {
			t.Fatal(err)
		}
		in, err := decode[success](raw)
		if err == nil {
			err = in.Notification.check("notification")
		}
		if err == nil {
			_, _, err = e.told(model.Partner{Name: "x"}, in)
		}
		if (err == nil) != (field == "") || err != nil && !strings.Contains(err.Error(), "notification."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// isBad tells whether an error is one that a partner may be told.
func isBad(err error) bool {
	var bad *malformed
	var fault *issuance.Fault
	return errors.As(err, &bad) || errors.As(err, &fault)
}

func FuzzValidation(f *testing.F) {
	csr := base64.StdEncoding.EncodeToString(identitytest.CSRWithChallenge(f, &testpki.Identity{Key: testpki.PoolKey(f, 1)}, "challenge"))
	f.Add([]byte(`{"request":{"transactionId":"T","certificateRequest":"` + csr + `","callerInfo":"x"}}`))
	f.Add([]byte(`{"request":{"transactionId":"T","certificateRequest":"AA==\r\n"}}`))
	f.Add([]byte(`{"request":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := decode[validation](body)
		if err == nil && in.Request != nil {
			if err = in.Request.check("request"); err == nil {
				var challenge string
				_, challenge, err = in.Request.request()
				if err == nil && len(challenge) > 1<<16 {
					t.Error("a challenge without bounds")
				}
			}
		}
		if err != nil && !isBad(err) {
			t.Errorf("got %v", err)
		}
	})
}

func FuzzNotification(f *testing.F) {
	f.Add([]byte(`{"notification":{"transactionId":"T","certificateRequest":"AAAA","certificateThumbprint":"0102030405060708090a0b0c0d0e0f1011121314","certificateSerialNumber":"01",` +
		`"certificateExpirationDateUtc":"2027-01-31T12:00:00.000Z","issuingCertificateAuthority":"CN=x","caConfiguration":"c","certificateAuthority":"a"}}`))
	f.Add([]byte(`{"notification":{"transactionId":"T","certificateRequest":"AAAA","hResult":-2146885628,"errorDescription":"no"}}`))
	e := New(Config{Clock: testpki.Now})
	f.Fuzz(func(t *testing.T, body []byte) {
		if in, err := decode[success](body); err == nil && in.Notification != nil {
			words, cert, err := e.told(model.Partner{Name: "x"}, in)
			switch {
			case err != nil && !isBad(err):
				t.Errorf("got %v", err)
			case err == nil && (words.ID != "sha1:"+cert.SHA1 || len(cert.SHA1) != 40 || !cert.Noted()):
				t.Errorf("got %+v", cert)
			}
		}
		if in, err := decode[failure](body); err == nil && in.Notification != nil {
			if words, err := refusal(in.Notification.HResult, in.Notification.Description); err != nil && !isBad(err) || err == nil && !printable(words) {
				t.Errorf("got %q, %v", words, err)
			}
		}
	})
}

func FuzzRevocation(f *testing.F) {
	f.Add([]byte(`{"downloadParameters":{"maxRequests":500,"issuerName":null}}`))
	f.Add([]byte(`{"results":[{"requestContext":"a","succeeded":true,"errorCode":"None","errorMessage":null},{"requestContext":"b","succeeded":false,"errorCode":"4004","errorMessage":"x"},{"errorCode":4100}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := decode[downloadParameters](body); err != nil && !isBad(err) {
			t.Errorf("got %v", err)
		}
		in, err := decode[revocationResults](body)
		if err != nil && !isBad(err) {
			t.Errorf("got %v", err)
		}
		for _, r := range in.Results {
			if a, err := r.answer(testpki.Now()); err == nil && (a.JobID == "" || a.Revoked && a.Error != "" || !printable(a.Error)) {
				t.Errorf("got %+v", a)
			}
		}
	})
}

func FuzzToken(f *testing.F) {
	tokens, err := NewTokens(testpki.PoolKey(f, 0))
	if err != nil {
		f.Fatal(err)
	}
	good := tokens.make("app", testpki.Now())
	f.Add(good)
	f.Add(good[:20])
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if app, ok := tokens.open(text, testpki.Now()); ok && app != "app" {
			t.Errorf("%q is taken as %q", text, app)
		}
	})
}
